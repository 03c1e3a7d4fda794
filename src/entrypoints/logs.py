"""Logs: one JSON object a line, or readable text on a terminal."""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

request_id: ContextVar[str] = ContextVar("request_id", default="-")

_FIELDS = ("levelname", "name", "message", "request_id", "exc_info")


class _JsonLines(MsgspecFormatter):
    def formatTime(self, record: logging.LogRecord, _: str | None = None) -> str:  # noqa: N802 - logging's name
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        # uvicorn sends along each message a second time, for terminals with colours.
        return {name: value for name, value in log_data.items() if value is not None and name != "color_message"}


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in _KNOWN}
        line = super().format(record)
        return f"{line}  {' '.join(f'{name}={value}' for name, value in extra.items())}" if extra else line


_KNOWN = {*RESERVED_ATTRS, "request_id", "message", "asctime", "color_message", "taskName"}


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True


def _worth_a_line(record: logging.LogRecord) -> bool:
    # uvicorn's lines for a handshake, with its query, and for what it takes for faults: a handshake that was refused,
    # and a stream that was cut off because its reader takes nothing. Ours come at their end.
    message = str(record.msg)
    return '"WebSocket %s"' not in message and "returned without completing" not in message


def configure_logs(level: str) -> None:
    """Send everything at ``level`` and above to standard error, with the request's id; once for a process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_add_request_id)
    if sys.stderr.isatty():
        handler.setFormatter(_Text("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        names = {"levelname": "level", "name": "logger", "asctime": "time"}
        handler.setFormatter(
            _JsonLines("%(asctime)s " + " ".join(f"%({name})s" for name in _FIELDS), rename_fields=names)
        )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Our own line for a request says more, and never the query.
    logging.getLogger("uvicorn.access").disabled = True
    # Below this, it writes down the headers of handshakes, and with them tokens and tickets.
    handshakes = logging.getLogger("uvicorn.error")
    handshakes.setLevel(max(root.level, logging.INFO))
    handshakes.addFilter(_worth_a_line)
    for noisy in ("aiosqlite", "asyncio", "alembic"):
        logging.getLogger(noisy).setLevel(max(logging.getLogger().level, logging.WARNING))
