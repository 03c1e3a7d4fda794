"""What is configured, reachable and missing: a table for people."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from chat_core.errors import StorageUnavailable
from chat_core.ports.language_model import CheckableModel, ClosableModel, LanguageModel, ModelCheck
from entrypoints.ask import check_model
from entrypoints.commands import with_cause
from entrypoints.container import (
    Container,
    build_container,
    configured_models,
    provider_offers,
    redis_answers,
    schema_state,
)
from entrypoints.settings import Settings, SettingsError

#: Days before its end from which on a model is warned of.
ENDS_SOON = 60
#: What is no problem.
_STATES = {ModelCheck.OK: "ok", ModelCheck.NO_AI: "note", ModelCheck.UNKNOWN: "note"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table: ``state`` is ``ok``, ``note`` or ``problem``."""

    what: str
    state: str
    detail: str

    @property
    def is_problem(self) -> bool:
        return self.state == "problem"


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything that the settings name. Writes nothing."""
    findings = [_bound(settings), _secret(settings)]
    try:
        container = build_container(settings)
    except SettingsError as error:
        return [*findings, *(Finding("settings", "problem", problem) for problem in error.problems)]
    findings += [await _database(settings), await _redis(settings), await _model(container)]
    names = [*dict.fromkeys(name for text in (settings.llm, *settings.llm_offered) for name in configured_models(text))]
    if len(names) > 1:
        findings += await _each(settings, names)
    return findings + await _ends(settings, names, datetime.now(UTC).date())


def _bound(settings: Settings) -> Finding:
    mode = "DEBUG, for trials on this machine" if settings.debug else "production"
    return Finding("server", "ok", f"{settings.host}:{settings.port}, {mode}")


def _secret(settings: Settings) -> Finding:
    if "SECRET_KEY" in settings.environ:
        more = len(settings.secret_keys) - 1
        return Finding("SECRET_KEY", "ok", f"set, and {more} earlier to read by" if more else "set")
    return Finding("SECRET_KEY", "note", "not set: a random one is kept beside the database")


async def _database(settings: Settings) -> Finding:
    try:
        fits, sentence = await schema_state(settings)
    except StorageUnavailable as error:
        return Finding("DATABASE_URL", "problem", f"not reachable: {with_cause(error)}")
    if not fits and settings.auto_migrate:
        return Finding("DATABASE_URL", "note", f"{sentence} The service does so when it starts.")
    return Finding("DATABASE_URL", "ok" if fits else "problem", sentence)


async def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return Finding("REDIS_URL", "note", "not set: replies are made in the API's own process")
    if not await redis_answers(settings):
        return Finding("REDIS_URL", "problem", "not reachable: replies are made in the API's own processes")
    return Finding("REDIS_URL", "ok", "it answers")


async def _model(container: Container) -> Finding:
    model: LanguageModel = container.model()
    name = container.settings().llm
    if not isinstance(model, CheckableModel):
        return Finding("LLM", "note", f"{name}: this provider cannot be asked")
    health = await model.check()
    if isinstance(model, ClosableModel):
        await model.aclose()
    return Finding("LLM", _STATES.get(health.check, "problem"), f"{name}: {health.detail or health.check}")


async def _each(settings: Settings, names: Sequence[tuple[str, str]]) -> list[Finding]:
    """Those of several models that would not answer. That another one takes over hides it until that one fails too."""
    found = await asyncio.gather(*(check_model(settings, full) for _, full in names))
    return [
        Finding(full, "problem", health.detail or str(health.check))
        for (_, full), health in zip(names, found, strict=True)
        if health.check not in _STATES
    ]


async def _ends(settings: Settings, names: Sequence[tuple[str, str]], today: date) -> list[Finding]:
    """The models that end soon or have ended, by their providers' own lists. Who has no list, or no word for an end in
    it, is passed over: whether a model is there was asked before."""
    providers = [*dict.fromkeys(provider for provider, _ in names)]
    found = await asyncio.gather(*(provider_offers(provider, settings) for provider in providers))
    days = {
        f"{provider}:{model.name}": model.ends
        for provider, offers in zip(providers, found, strict=True)
        for model in offers.models
    }
    findings: list[Finding] = []
    for _, full in names:
        ends = days.get(full)
        if ends is not None and ends <= today:
            findings.append(Finding(full, "problem", f"ended on {ends}: set another model"))
        elif ends is not None and (ends - today).days <= ENDS_SOON:
            why = f"ends on {ends}, in {(ends - today).days} days: set another model (chat-api providers --models)"
            findings.append(Finding(full, "note", why))
    return findings


def print_table(findings: list[Finding]) -> None:
    """Print the findings, a line each."""
    wide = max(len(finding.what) for finding in findings)
    for finding in findings:
        print(f"{finding.what:<{wide}}  {finding.state:<7}  {finding.detail}")
