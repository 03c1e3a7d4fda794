"""The models of ``LLM`` from a terminal, without a server or a database: do they answer, and how?"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TextIO, cast

from chat_core.errors import ModelError
from chat_core.ports.language_model import (
    AttemptBegins,
    AttemptFailed,
    Conversation,
    End,
    FinishReason,
    LanguageModel,
    ModelCheck,
    ReplyPart,
    Text,
    Turn,
    TurnRole,
    Usage,
)
from entrypoints.container import build_model, configured_models, installed_providers
from entrypoints.settings import Settings, SettingsError


async def ask(settings: Settings, prompt: str) -> bool:
    """Ask, and print the answer as it comes; whether it is complete. The connection is closed, whatever happens.

    The answer alone goes to the standard output, all that is said about it to the standard error. Raises
    ``SettingsError``.
    """
    model = build_model(settings)
    try:
        return await _Answer(sys.stdout, sys.stderr).read(model, _conversation(prompt, settings.model_timeout))
    finally:
        await model.aclose()


def _conversation(prompt: str, seconds: float) -> Conversation:
    return Conversation(turns=(Turn(role=TurnRole.USER, parts=(prompt,)),), seconds_left=seconds)


class _Answer:
    """An answer on its way to a terminal."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out, self._err = out, err
        self._line_is_open = False
        self._has_text = False

    async def read(self, model: LanguageModel, conversation: Conversation) -> bool:
        # The port's iterator is a generator, or closes like one.
        stream = cast("AsyncGenerator[ReplyPart, None]", model.stream(conversation))
        try:
            async with aclosing(stream) as parts:
                async for part in parts:
                    if isinstance(part, End):
                        return self._end(part)
                    self._take(part)
            self._say("failed: the model's stream has no end")
        except ModelError as error:
            self._say(f"failed: {error.code}: {error.detail}{_used(error.usage)}")
        finally:
            self._break_line()
        return False

    def _take(self, part: ReplyPart) -> None:
        match part:
            case Text(text):
                self._out.write(text)
                self._out.flush()
                self._line_is_open = not text.endswith("\n")
                self._has_text = self._has_text or bool(text.strip())
            case AttemptBegins():
                self._say(f"asking {part.provider}:{part.model}")
            case AttemptFailed():
                void = "; what it said so far is void" if self._has_text else ""
                self._say(f"failed: {part.code}: {part.detail}{_used(part.usage)}{void}")
                self._has_text = False
            case _:
                pass

    def _end(self, end: End) -> bool:
        complete = end.reason is FinishReason.STOP and self._has_text
        detail = f" ({end.detail})" if end.detail else ""
        empty = "" if self._has_text else ", without a text"
        self._say(f"{'complete' if complete else 'not complete'}: {end.reason}{detail}{empty}{_used(end.usage)}")
        return complete

    def _say(self, sentence: str) -> None:
        self._break_line()
        print(sentence, file=self._err, flush=True)

    def _break_line(self) -> None:
        if self._line_is_open:
            self._out.write("\n")
            self._out.flush()
            self._line_is_open = False


def _used(usage: Usage | None) -> str:
    return f" [{usage.input_tokens} tokens in, {usage.output_tokens} out]" if usage else ""


async def list_providers(settings: Settings, *, check: bool) -> bool:
    """Print the providers that are installed and what of them ``LLM`` names; with ``check``, ask each of those.

    Returns whether all that was looked at is fine: what ``LLM`` names is installed, and answers (an echo does).
    Raises ``SettingsError``.
    """
    installed = installed_providers()
    models = configured_models(settings.llm)
    wide = max(len(name) for name in (*installed, *(provider for provider, _ in models)))
    for name in sorted({*installed, *(provider for provider, _ in models)}):
        places = [f"{place}. {full}" for place, (provider, full) in enumerate(models, 1) if provider == name]
        state = "installed" if name in installed else "not installed"
        print(f"{name:<{wide}}  {state}{'  LLM: ' if places else ''}{', '.join(places)}")
    fine = all(provider in installed for provider, _ in models)
    if check:
        found = await asyncio.gather(*(_check(settings, full) for _, full in models))
        for place, ((_, full), (answers, sentence)) in enumerate(zip(models, found, strict=True), 1):
            print(f"{place}. {full}  {'ok' if answers else 'problem'}{': ' if sentence else ''}{sentence}")
            fine = fine and answers
    return fine


async def _check(settings: Settings, full: str) -> tuple[bool, str]:
    try:
        model = build_model(Settings(llm=full, environ=settings.environ))
    except SettingsError as error:
        return False, " ".join(error.problems)
    try:
        health = await model.check()
    finally:
        await model.aclose()
    return health.check in (ModelCheck.OK, ModelCheck.NO_AI), health.detail
