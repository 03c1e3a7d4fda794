"""The contract of ``chat_core.ports.storage``."""

import pytest

# The clauses are plain asserts; without this, a failing one would not say what it saw.
pytest.register_assert_rewrite(
    "chat_core.testing.storage_log",
    "chat_core.testing.storage_messages",
    "chat_core.testing.storage_replies",
    "chat_core.testing.storage_claims",
    "chat_core.testing.storage_departures",
    "chat_core.testing.storage_rooms",
    "chat_core.testing.storage_sessions",
    "chat_core.testing.storage_steps",
    "chat_core.testing.storage_summaries",
    "chat_core.testing.storage_transactions",
    "chat_core.testing.storage_usage",
    "chat_core.testing.storage_users",
)

from chat_core.ports.storage import UnitOfWork
from chat_core.testing.storage_claims import ClaimClauses
from chat_core.testing.storage_departures import DepartureClauses
from chat_core.testing.storage_log import LogClauses
from chat_core.testing.storage_messages import MessageClauses
from chat_core.testing.storage_replies import ReplyClauses
from chat_core.testing.storage_rooms import RoomClauses
from chat_core.testing.storage_sessions import SessionClauses
from chat_core.testing.storage_steps import StepClauses
from chat_core.testing.storage_summaries import SummaryClauses
from chat_core.testing.storage_transactions import TransactionClauses
from chat_core.testing.storage_usage import UsageClauses
from chat_core.testing.storage_users import UserClauses


class StorageContract(
    TransactionClauses,
    UserClauses,
    SessionClauses,
    DepartureClauses,
    RoomClauses,
    LogClauses,
    MessageClauses,
    ReplyClauses,
    StepClauses,
    ClaimClauses,
    UsageClauses,
    SummaryClauses,
):
    """Every promise of the port. A subclass supplies ``uow``: a unit of work over an empty storage."""

    @pytest.fixture
    def uow(self) -> UnitOfWork:
        raise NotImplementedError("a subclass supplies this fixture")
