"""The HTTP contract, on Litestar."""
