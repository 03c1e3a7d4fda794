"""What the use cases need of the world, in their own words.

Each port is a small ``Protocol``; its docstrings are promises, and each promise has a clause in ``chat_core.testing``
that every adapter passes.
"""
