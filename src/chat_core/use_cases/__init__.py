"""What can be done. Each use case is a frozen dataclass: its fields are its ports, calling it is the deed."""
