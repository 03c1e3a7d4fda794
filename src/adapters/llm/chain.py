"""One model, and those that take over where it cannot answer."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from adapters.llm.attempts import Record
from adapters.llm.links import Link
from chat_core.errors import ModelBadAnswer, ModelRefused, ModelUnavailable, PromptTooLong
from chat_core.ports.language_model import (
    AttemptBegins,
    AttemptFailed,
    Conversation,
    ForeseeableModel,
    LanguageModel,
    ModelCheck,
    ModelHealth,
    ReplyPart,
    Text,
)


class Chain(LanguageModel, ForeseeableModel):
    """Asks the first model, and the next one where it is unavailable, refuses, or gives what is no answer, to the last;
    whose error is raised.

    A prompt that is too long is raised at once. Between two models
    ``AttemptFailed`` says that the text so far is void. All share the conversation's ``seconds_left`` and ``attempts``.
    Unless ``midway``, a model that fails after some text has no successor: its error is raised.
    """

    def __init__(
        self, models: Sequence[Link], *, midway: bool = True, clock: Callable[[], float] | None = None
    ) -> None:
        if not models:
            raise ValueError("a chain has at least one model")
        self._models = tuple(models)
        self._midway = midway
        self._clock = clock

    @property
    def name(self) -> str:
        """The ``provider:model`` that is asked first."""
        return self._models[0].name

    @property
    def health(self) -> Mapping[str, Record]:
        """For each ``provider:model``, in order, how its last requests went."""
        return {model.name: model.health for model in self._models}

    def stream(self, conversation: Conversation, /) -> AsyncGenerator[ReplyPart, None]:
        # Of one there is nothing to look after, and each layer is passed by each part.
        return self._models[0].stream(conversation) if len(self._models) == 1 else self._in_order(conversation)

    async def _in_order(self, conversation: Conversation) -> AsyncGenerator[ReplyPart, None]:
        clock = self._clock or asyncio.get_running_loop().time
        begun = clock()
        attempts = conversation.attempts
        for model in self._models:
            asked = said = False
            left, here = conversation.seconds_left, conversation
            if model is not self._models[0]:
                left = None if left is None else left - (clock() - begun)
                here = replace(conversation, attempts=attempts, seconds_left=left)
            try:
                async with aclosing(model.stream(here)) as parts:
                    async for part in parts:
                        if isinstance(part, AttemptBegins):
                            asked = True
                            attempts = (*attempts, f"{part.provider}:{part.model}")
                        elif isinstance(part, AttemptFailed):
                            asked = said = False
                        said = said or isinstance(part, Text)
                        yield part
                return
            except (ModelUnavailable, ModelRefused, ModelBadAnswer) as error:
                late = said and not self._midway
                if model is self._models[-1] or late or isinstance(error, PromptTooLong):
                    raise
                failed = AttemptFailed(code=error.code, usage=error.usage, detail=error.detail)
            # A model that had no request left, or was not to be asked (again), has nothing under way that could fail.
            if asked:
                yield failed

    def foresee(self, conversation: Conversation, /) -> AttemptBegins | None:
        first = self._models[0]
        if not first.ready:
            return None
        provider, _, model = first.name.partition(":")
        return AttemptBegins(provider=provider, model=model)

    async def check(self) -> ModelHealth:
        """The first model's health, where it is offered or no other one is."""
        found = await self._models[0].check()
        for model in self._models[1:]:
            if found.check is ModelCheck.OK:
                break
            other = await model.check()
            if other.check is ModelCheck.OK:
                detail = f"{self.name}: {found.detail} ({model.name} answers instead)"
                return ModelHealth(check=ModelCheck.OK, detail=detail)
        return found

    @property
    def notice(self) -> str | None:
        """That of the model which is asked first."""
        return self._models[0].notice

    async def aclose(self) -> None:
        for model in self._models:
            await model.aclose()
