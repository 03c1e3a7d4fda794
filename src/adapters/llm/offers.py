"""What providers offer: for whoever chooses a model, and to be warned before one ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from adapters.llm.registry import ModelName, Providers
from chat_core.errors import ModelError
from chat_core.ports.language_model import ANY_MODEL, ClosableModel, ListableModel, OfferedModel


class Answered(StrEnum):
    """A list; no list, because the provider is not set up here or its adapter cannot ask; or a failure."""

    LISTED = "listed"
    NOT_SET_UP = "not set up"
    CANNOT_LIST = "cannot list its models"
    FAILED = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What one provider said. ``detail`` is for people where there is no list."""

    answered: Answered
    models: tuple[OfferedModel, ...] = ()
    detail: str = ""


async def offers_of(provider: str, environ: Mapping[str, str], providers: Providers | None = None) -> Offers:
    """Ask one installed provider which models it has. Loads it, and raises nothing that it does."""
    try:
        model = (providers or Providers()).create(ModelName(provider, ANY_MODEL), environ)
    except ValueError as error:
        return Offers(answered=Answered.NOT_SET_UP, detail=str(error))
    try:
        if not isinstance(model, ListableModel):
            return Offers(answered=Answered.CANNOT_LIST)
        return Offers(answered=Answered.LISTED, models=tuple(await model.models()))
    except ModelError as error:
        return Offers(answered=Answered.FAILED, detail=error.detail)
    except Exception as error:  # noqa: BLE001 (a stranger's slip is one line, and the other providers' lists go on)
        return Offers(answered=Answered.FAILED, detail=f"{type(error).__name__}: {error}")
    finally:
        if isinstance(model, ClosableModel):
            await model.aclose()
