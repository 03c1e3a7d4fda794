"""How the core's ports are met: one package for each kind of thing outside. None of them imports another."""
