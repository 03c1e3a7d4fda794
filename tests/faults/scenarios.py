"""Every fault of the table, each played by a function or with the reason why nothing plays it."""

from tests.faults import (  # noqa: F401 - each enters its own
    scenarios_database,
    scenarios_maker,
    scenarios_model,
    scenarios_redis,
    scenarios_running,
    scenarios_send,
    scenarios_streams,
)
