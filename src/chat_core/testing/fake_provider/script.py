"""Markers: what the fake provider does, written into the prompt that it is asked.

=======================  ==============================================================================================
``[[429:n]]``            that HTTP status (any from 400 to 599), n times for this very prompt, then all is well;
                         without ``:n``, every time. ``[[429:n:s]]`` sends ``Retry-After: s``,
                         ``[[429:n:s:body]]`` says the same in Gemini's ``RetryInfo`` instead
``[[too-long]]``         the status and body of a prompt that is too long
``[[hang]]``             no headers, for ever; ``[[hang@k]]`` falls silent after k chunks
``[[cut@k]]``            the connection is lost after k chunks, without the body's end
``[[end@k]]``            the body ends properly after k chunks, without a finish reason
``[[error@k]]``          an error event after k chunks; ``[[error@k:429]]`` with that code instead of 503
``[[garbage@k:kind]]``   after k chunks what cannot be read: ``html``, ``json``, ``utf8``, ``half`` or ``types``
``[[finish:REASON]]``    ends with this finish reason, verbatim
``[[empty]]``            a finish reason and no text
``[[blocked]]``          the prompt is blocked; ``[[blocked-midway]]`` the answer, after some text
``[[length]]``           the length limit is reached
``[[think]]``            thoughts come before the text; ``[[think:n]]`` n of them
``[[slow:ms]]``          so long between chunks
``[[huge]]``             32 MiB of text in chunks of 64 KiB; ``[[huge:n]]`` in n chunks
``[[say:TEXT]]``         answers with TEXT, word by word
``[[unicode]]``          answers with ``NASTY_TEXT``, cut in the middle of code points
=======================  ==============================================================================================

Markers may be combined. k is 0 where it is left out. The default answer is a few words that hold the number of the
request and the prompt.
"""

import re
from dataclasses import dataclass
from typing import Literal

_MARKER = re.compile(r"\[\[([a-z0-9-]+)(?:@(\d+))?(?::(.*?))?\]\]", re.DOTALL)

#: Text that breaks careless readers: astral and combining characters, a joined emoji, right-to-left text, the line
#: separators that are not line ends in JSON or SSE, quotes, backslashes, tabs, line ends, and a byte-order mark.
NASTY_TEXT = (
    "naïve ☃ 𝔘𝔫𝔦 \U0001f469\u200d\U0001f680 e\u0301\u0323 שלום\u202e "
    'a\u2028b\u2029c\u0085d "q" \\ \t\r\n\n data: x \ufeff\u00a0 end'
)

Fault = Literal["", "hang", "cut", "end", "error", "html", "json", "utf8", "half", "types"]
Finish = Literal["stop", "length", "blocked", "blocked-prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One answer. ``fault`` comes after ``after`` chunks of text; a hang without text sends no headers."""

    status: int = 200
    retry_after: str = ""
    retry_in_body: bool = False
    too_long: bool = False
    chunks: tuple[str, ...] = ()
    thoughts: int = 0
    finish: Finish = "stop"
    finish_word: str = ""
    fault: Fault = ""
    after: int = 0
    error_code: int = 503
    delay: float = 0.0
    split_bytes: bool = False


def has_marker(prompt: str) -> bool:
    """Whether anything but the default answer is asked for."""
    return "[[" in prompt


def plan(prompt: str, number: int, asked_before: int) -> Plan:
    """What to do for a prompt: ``number`` is the request's, ``asked_before`` counts those with the same prompt."""
    if not has_marker(prompt):
        return Plan(chunks=("Answer ", f"{number} ", "to: ", prompt or "nothing"))
    fields: dict[str, object] = {}
    chunks: tuple[str, ...] = ("Answer ", f"{number} ", "to: ", *words(prompt))
    for marker in _MARKER.finditer(prompt):
        name, at, argument = str(marker[1]), str(marker[2] or 0), str(marker[3] or "")
        arguments = argument.split(":")
        if name.isdigit() and 400 <= int(name) <= 599:
            if not arguments[0] or asked_before < int(arguments[0]):
                return Plan(
                    status=int(name),
                    retry_after=arguments[1] if len(arguments) > 1 else "",
                    retry_in_body=len(arguments) > 2,
                )
        elif name == "too-long":
            return Plan(status=400, too_long=True)
        elif name in ("hang", "cut", "end", "error"):
            fields |= {"fault": name, "after": int(at)}
            if name == "error" and argument:
                fields["error_code"] = int(argument)
        elif name == "garbage":
            fields |= {"fault": argument or "json", "after": int(at)}
        elif name == "empty":
            chunks = ()
        elif name == "blocked":
            chunks, fields["finish"] = (), "blocked-prompt"
        elif name == "blocked-midway":
            chunks, fields["finish"] = chunks[:3], "blocked"
        elif name == "length":
            fields["finish"] = "length"
        elif name == "finish":
            fields["finish_word"] = argument
        elif name == "think":
            fields["thoughts"] = int(argument or 3)
        elif name == "slow":
            fields["delay"] = int(argument or 100) / 1000
        elif name == "huge":
            chunks = ("x" * 65_536,) * int(argument or 512)
        elif name == "say":
            chunks = words(argument)
        elif name == "unicode":
            chunks, fields["split_bytes"] = words(NASTY_TEXT), True
    after = fields.get("after", 0)
    assert isinstance(after, int)
    # A fault after k chunks needs k chunks to come after.
    chunks += ("more ",) * (after - len(chunks))
    return Plan(chunks=chunks, **fields)  # type: ignore[arg-type]


def words(text: str) -> tuple[str, ...]:
    """The text in pieces that end after a space."""
    return tuple(piece for piece in re.split(r"(?<= )", text) if piece)
