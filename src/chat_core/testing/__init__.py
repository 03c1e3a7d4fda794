"""The suites that every adapter passes: one clause for each promise of a port.

Subclass a suite in a test module of your own and supply its fixture; pytest finds the clauses. They are coroutines:
run them with pytest-asyncio, in auto mode or with ``pytestmark = pytest.mark.asyncio``. Needs pytest, which this
package does not otherwise depend on.
"""

import pytest

# The clauses are plain asserts; without this, a failing one would not say what it saw.
pytest.register_assert_rewrite(
    "chat_core.testing.storage_messages",
    "chat_core.testing.storage_replies",
    "chat_core.testing.storage_rooms",
    "chat_core.testing.storage_transactions",
    "chat_core.testing.storage_users",
)
