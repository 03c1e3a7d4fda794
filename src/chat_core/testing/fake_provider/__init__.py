"""A language-model provider that lives on this machine, speaks the real wire formats, and fails on demand.

It answers Gemini's ``streamGenerateContent``, ``generateContent`` and ``countTokens``, OpenAI's ``chat/completions``,
Anthropic's ``messages``, and the ``models`` of all three, over plain HTTP. What it does is chosen by markers in the
last user text, see ``script``. It keeps a ledger of what it was asked: the bill, against which attempts can be counted.

As a library::

    async with FakeProvider() as provider:
        environ = {"GEMINI_BASE_URL": provider.url, "GEMINI_API_KEY": "any"}
        ...
        assert [entry.prompt for entry in provider.ledger] == ["hello"]

As a process: ``python -m chat_core.testing.fake_provider --port 8199``.
"""

from chat_core.testing.fake_provider.ledger import Entry, Ledger
from chat_core.testing.fake_provider.server import FakeProvider

__all__ = ["Entry", "FakeProvider", "Ledger"]
