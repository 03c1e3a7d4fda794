"""What the product is: rooms where several people and an AI talk.

This package imports the standard library alone. Adapters and entry points depend on it, never the
other way round.
"""
