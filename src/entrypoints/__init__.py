"""How the product is reached: over HTTP, and from the command line."""
