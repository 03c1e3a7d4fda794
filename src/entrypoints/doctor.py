"""What is configured, reachable and missing: a table for people."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, date, datetime

from chat_core.errors import StorageUnavailable
from chat_core.ports.language_model import CheckableModel, ClosableModel, LanguageModel, ModelCheck
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
    return findings + await _ends(settings, datetime.now(UTC).date())


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
        return Finding("DATABASE_URL", "problem", f"not reachable: {error.detail}")
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
    state = {ModelCheck.OK: "ok", ModelCheck.NO_AI: "note", ModelCheck.UNKNOWN: "note"}.get(health.check, "problem")
    return Finding("LLM", state, f"{name}: {health.detail or health.check}")


async def _ends(settings: Settings, today: date) -> list[Finding]:
    """The models of ``LLM`` and ``LLM_OFFERED`` that end soon or have ended, by their providers' own lists. Who has no
    list, or no word for an end in it, is passed over: whether a model is there was asked before."""
    texts = (settings.llm, *settings.llm_offered)
    names = dict.fromkeys(name for text in texts for name in configured_models(text))
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
