"""The ports, kept: each package here ties them to one kind of technology, and imports none of the others."""
