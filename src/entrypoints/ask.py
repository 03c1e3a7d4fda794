"""The models of ``LLM`` from a terminal, without a server or a database: do they answer, and how?"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, date, datetime
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
    ModelHealth,
    ReplyPart,
    Text,
    Turn,
    TurnRole,
    Usage,
)
from entrypoints.container import (
    Answered,
    Offers,
    build_model,
    configured_models,
    installed_providers,
    missing_providers,
    provider_offers,
)
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
    installed, missing = installed_providers(), missing_providers()
    models = configured_models(settings.llm)
    names = sorted({*installed, *missing, *(provider for provider, _ in models)})
    wide = max(map(len, names))
    for name in names:
        places = [f"{place}. {full}" for place, (provider, full) in enumerate(models, 1) if provider == name]
        state = "installed" if name in installed else "not installed"
        if name in missing:
            state += f' (pip install "{missing[name]}")'
        print(f"{name:<{wide}}  {state}{'  LLM: ' if places else ''}{', '.join(places)}")
    fine = all(provider in installed for provider, _ in models)
    if check:
        found = await asyncio.gather(*(check_model(settings, full) for _, full in models))
        for place, ((_, full), health) in enumerate(zip(models, found, strict=True), 1):
            answers = health.check in (ModelCheck.OK, ModelCheck.NO_AI)
            print(f"{place}. {full}  {'ok' if answers else 'problem'}{': ' if health.detail else ''}{health.detail}")
            fine = fine and answers
    return fine


async def check_model(settings: Settings, full: str) -> ModelHealth:
    """What its provider says of this ``provider:model``; one that is not set up is refused. Raises nothing."""
    try:
        model = build_model(replace(settings, llm=full, llm_offered=()))
    except SettingsError as error:
        return ModelHealth(check=ModelCheck.REFUSED, detail=" ".join(error.problems))
    try:
        return await model.check()
    finally:
        await model.aclose()


async def list_models(settings: Settings) -> bool:
    """Print the models of every provider that is installed and set up, and when they end, where the provider says so.

    Returns whether all that was asked gave a list, and all that ``LLM`` names was asked. Raises ``SettingsError``.
    """
    named = {provider for provider, _ in configured_models(settings.llm)}
    installed = installed_providers()
    found = await asyncio.gather(*(provider_offers(name, settings) for name in installed))
    fine = named <= {*installed}
    for name, offers in zip(installed, found, strict=True):
        _print_offers(name, offers)
        needed = name in named and offers.answered is Answered.NOT_SET_UP
        fine = fine and offers.answered is not Answered.FAILED and not needed
    for name in sorted(named - {*installed}):
        print(f"{name}: not installed")
    return fine


def _print_offers(name: str, offers: Offers) -> None:
    if offers.answered is not Answered.LISTED:
        print(f"{name}: {offers.answered}{': ' if offers.detail else ''}{offers.detail}")
    elif not offers.models:
        print(f"{name}: no models")
    today = datetime.now(UTC).date()
    for model in offers.models:
        print(f"{name}:{model.name}{_ending(model.ends, today)}")


def _ending(ends: date | None, today: date) -> str:
    return "" if ends is None else f"  {'ends' if ends > today else 'ended'} {ends.isoformat()}"
