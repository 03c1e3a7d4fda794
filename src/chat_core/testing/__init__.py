"""What the authors of adapters test with: contract suites to subclass, and doubles that keep every promise.

Shipped in the wheel, and part of its public interface. The suites need pytest with pytest-asyncio (``asyncio_mode`` is
``auto``); the doubles need the standard library alone.
"""
