"""The values that the product is about. All are frozen: a change is a new value."""
