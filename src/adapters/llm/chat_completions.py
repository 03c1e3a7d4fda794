"""OpenAI's chat completions, and the many servers that speak the same format."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit

from adapters.llm import chat_completions_format
from adapters.llm.chat_completions_format import Dialect
from adapters.llm.failures import NoSuchModel
from adapters.llm.http_model import HttpModel, base_url_of, key_of
from adapters.llm.transport import Limits
from chat_core.errors import ModelBadAnswer, ModelUnavailable
from chat_core.ports.language_model import Conversation, OfferedModel

BASE_URL = "https://api.openai.com/v1"
# Names of other servers' models hold slashes and colons. One that began with a dot would climb in the check's address.
_MODEL = re.compile(r"[A-Za-z0-9@/~][\x21-\x7e]*")
_AZURE = (".openai.azure.com", ".services.ai.azure.com")


class ChatCompletions(HttpModel):
    """A model behind ``{base_url}/chat/completions``. Without a key none is sent."""

    label = "the server at OPENAI_BASE_URL"
    key_variable = "OPENAI_API_KEY"

    def __init__(self, model: str, *, key: str = "", base_url: str = BASE_URL, limits: Limits | None = None) -> None:
        super().__init__(
            provider="openai",
            model=model,
            key=key,
            headers={"authorization": f"Bearer {key}"} if key else {},
            read_error=chat_completions_format.read_error,
            limits=limits or Limits(),
        )
        host = urlsplit(base_url).hostname or ""
        self._base_url = base_url
        self._lists_deployments = not host.endswith(_AZURE)
        self._dialect = Dialect(
            max_completion_tokens=_is_openai(host) or host.endswith(_AZURE),
            stream_options=not host.endswith(".mistral.ai"),
        )
        if _is_openai(host):
            self.label = "OpenAI"

    def _request(self, conversation: Conversation) -> tuple[str, bytes]:
        body = chat_completions_format.request(conversation, self._model, self._dialect)
        return f"{self._base_url}/chat/completions", body

    def _answer(self) -> chat_completions_format.ChatCompletionsAnswer:
        return chat_completions_format.ChatCompletionsAnswer(self._who, self._secret, self._limits.text_chars)

    async def _describe(self) -> None:
        try:
            return await self._transport.get(f"{self._base_url}/models/{quote(self._model, safe='')}")
        except NoSuchModel as error:
            missing = error
        # Many servers describe no single model, and answer as if it did not exist. Most have a list.
        try:
            found = {model.name for model in await self._list()}
        except (NoSuchModel, ModelBadAnswer) as error:
            raise ModelUnavailable(f"{self._who}: the server does not say which models it has") from error
        if self._model in found or f"{self._model}:latest" in found:
            return None
        if not self._lists_deployments:
            raise ModelUnavailable(f"{self._who}: Azure lists its models and not the deployments, which may be there")
        raise missing

    async def _list(self) -> Sequence[OfferedModel]:
        body = await self._transport.read(f"{self._base_url}/models")
        return chat_completions_format.read_models(body, self._who)


def _is_openai(host: str) -> bool:
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def create(model: str, environ: Mapping[str, str], /) -> ChatCompletions:
    """The ``LanguageModelFactory`` of OpenAI and of what is compatible with it.

    Reads ``OPENAI_API_KEY``, which only OpenAI itself must have; ``OPENAI_BASE_URL``, with its version, such as
    ``http://localhost:11434/v1``; and ``MODEL_ANSWER_MAX``.
    """
    if not _MODEL.fullmatch(model):
        raise ValueError(f"LLM names a model that no server can have: {model!r}; write openai:model")
    key = key_of(environ, "OPENAI_API_KEY")
    base_url = base_url_of(environ, "OPENAI_BASE_URL", BASE_URL)
    if urlsplit(base_url).query or urlsplit(base_url).fragment:
        raise ValueError("OPENAI_BASE_URL has to end with its path, such as /v1")
    if not key and _is_openai(urlsplit(base_url).hostname or ""):
        raise ValueError("OPENAI_API_KEY is not set: OpenAI needs a key (a server of your own: set OPENAI_BASE_URL)")
    return ChatCompletions(model, key=key, base_url=base_url, limits=Limits.of(environ))
