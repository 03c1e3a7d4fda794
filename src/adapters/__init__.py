"""The ports' adapters, a package for each kind of outside thing. None imports another."""
