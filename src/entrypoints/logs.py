"""Logs: one JSON object a line, or readable text on a terminal."""

import logging
import sys
import time
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, BinaryIO

import msgspec

request_id: ContextVar[str] = ContextVar("request_id", default="-")

#: What each record has of itself; all else was given with it, to be said. uvicorn gives each message a second time, for
#: terminals with colours.
_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message", "taskName"}
_encode = msgspec.json.Encoder(enc_hook=str).encode


#: Where JSON lines go; ``None``: lines are for people, or nothing was configured.
_lines: BinaryIO | None = None


@lru_cache(maxsize=2)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()[:19]


def _line(moment: float, level: str, logger: str, message: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "time": f"{_second(int(moment))}.{int(moment % 1 * 1000):03d}Z",
        "level": level,
        "logger": logger,
        "message": message,
        "request_id": request_id.get(),
        **fields,
    }


def say(log: logging.Logger, message: str, fields: dict[str, Any]) -> None:
    """A line at INFO, with ``fields`` of its own: for what is said at each request.

    It is what ``log.info`` would write, which makes a record of it first, and finds out for that who calls: three times
    the work, and a fifth of what a small request costs in all.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    if _lines is None:
        log.info("%s", message, extra=fields)
        return
    # As in ``logging``, what cannot be written is lost, and nothing else.
    with suppress(OSError, ValueError):
        _lines.write(_encode(_line(time.time(), "INFO", log.name, message, fields)) + b"\n")
        _lines.flush()


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _OWN and value is not None}
        line = _line(record.created, record.levelname, record.name, record.getMessage(), fields)
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = record.stack_info
        return _encode(line).decode()


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in _OWN}
        line = super().format(record)
        return f"{line}  {' '.join(f'{name}={value}' for name, value in extra.items())}" if extra else line


def _worth_a_line(record: logging.LogRecord) -> bool:
    # uvicorn's lines for a handshake, with its query, and for what it takes for faults: a handshake that was refused,
    # and a stream that was cut off because its reader takes nothing. Ours come at their end.
    message = str(record.msg)
    return '"WebSocket %s"' not in message and "returned without completing" not in message


def configure_logs(level: str) -> None:
    """Send everything at ``level`` and above to standard error, with the request's id; once for a process."""
    global _lines
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(_Text("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
        _lines = None
    else:
        handler.setFormatter(_JsonLines())
        _lines = getattr(sys.stderr, "buffer", None)
    # None of these is said in a line, and each is found out anew for each: https://docs.python.org/3/howto/logging.html
    # has this as the way to go without.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - named there
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
