"""Anthropic's Claude, by the Messages interface."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from adapters.llm import claude_messages_format, listing
from adapters.llm.http_model import HttpModel, base_url_of, key_of
from adapters.llm.transport import Limits
from chat_core.ports.language_model import Conversation, OfferedModel

BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"
#: The format demands a limit. Thoughts count against it, so a small one would end an answer before its first word.
MAX_TOKENS = 16_000
_MODEL = re.compile(r"[A-Za-z0-9][\x21-\x7e]*")
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")


class ClaudeMessages(HttpModel):
    """A model behind ``{base_url}/v1/messages``. Without a key none is sent."""

    label = "Anthropic"
    key_variable = "ANTHROPIC_API_KEY"

    def __init__(
        self,
        model: str,
        *,
        key: str = "",
        base_url: str = BASE_URL,
        version: str = VERSION,
        max_tokens: int = MAX_TOKENS,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(
            provider="anthropic",
            model=model,
            key=key,
            headers={"anthropic-version": version} | ({"x-api-key": key} if key else {}),
            read_error=claude_messages_format.read_error,
            limits=limits or Limits(),
        )
        self._base_url, self._max_tokens = base_url, max_tokens

    def _request(self, conversation: Conversation) -> tuple[str, bytes]:
        body = claude_messages_format.request(conversation, self._model, self._max_tokens)
        return f"{self._base_url}/v1/messages", body

    def _answer(self) -> claude_messages_format.ClaudeMessagesAnswer:
        return claude_messages_format.ClaudeMessagesAnswer(self._who, self._secret, self._limits.text_chars)

    async def _describe(self) -> None:
        await self._transport.get(f"{self._base_url}/v1/models/{quote(self._model, safe='')}")

    async def _list(self) -> Sequence[OfferedModel]:
        async def page(after: str) -> tuple[Sequence[OfferedModel], str]:
            query = urlencode({"limit": 1000} | ({"after_id": after} if after else {}))
            body = await self._transport.read(f"{self._base_url}/v1/models?{query}")
            return claude_messages_format.read_models(body, self._who)

        return await listing.pages(page, self._who)


def create(model: str, environ: Mapping[str, str], /) -> ClaudeMessages:
    """The ``LanguageModelFactory`` of Anthropic.

    Reads ``ANTHROPIC_API_KEY``, which only Anthropic itself must have; ``ANTHROPIC_BASE_URL``, for a proxy or a server
    of the same format; ``ANTHROPIC_VERSION``, the date of the format; ``ANTHROPIC_MAX_TOKENS``, for rooms that set no
    limit; and ``MODEL_ANSWER_MAX``.
    """
    if not _MODEL.fullmatch(model):
        raise ValueError(f"LLM names a model that Anthropic cannot have: {model!r}; write anthropic:model")
    key = key_of(environ, "ANTHROPIC_API_KEY")
    # Both forms of the address are in use.
    base_url = base_url_of(environ, "ANTHROPIC_BASE_URL", BASE_URL).removesuffix("/v1")
    if not key and base_url == BASE_URL:
        raise ValueError("ANTHROPIC_API_KEY is not set: Anthropic needs a key")
    version = environ.get("ANTHROPIC_VERSION", "").strip() or VERSION
    if not _VERSION.fullmatch(version):
        raise ValueError(f"ANTHROPIC_VERSION has to be a date, such as {VERSION}")
    max_tokens = environ.get("ANTHROPIC_MAX_TOKENS", "").strip() or str(MAX_TOKENS)
    if not (max_tokens.isascii() and max_tokens.isdecimal()) or not 1 <= int(max_tokens) <= 1_000_000:
        raise ValueError("ANTHROPIC_MAX_TOKENS has to be a number of tokens, from 1 to 1000000")
    return ClaudeMessages(
        model,
        key=key,
        base_url=base_url,
        version=version,
        max_tokens=int(max_tokens),
        limits=Limits.of(environ),
    )
