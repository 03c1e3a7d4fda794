"""Language models by name: ``provider:model``, where the provider is an entry point that any package may bring."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

from adapters.llm.attempts import REQUESTS_MAX, Attempts
from adapters.llm.breaker import Circuit
from adapters.llm.budget import RetryBudget
from adapters.llm.chain import Chain
from adapters.llm.choice import Choice
from adapters.llm.deadlines import FIRST_SECONDS, SILENCE_SECONDS, Deadlines
from adapters.llm.limit import CONCURRENCY, Slots
from adapters.llm.links import Link
from chat_core.ports.language_model import LanguageModel

GROUP = "chat_core.language_models"


class EntryPoint(Protocol):
    """What the registry needs of an ``importlib.metadata.EntryPoint``."""

    @property
    def name(self) -> str: ...

    def load(self) -> Any: ...


_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _installed() -> Iterable[EntryPoint]:
    return metadata.entry_points(group=GROUP)


def _missing(point: EntryPoint) -> str | None:
    """What is not installed of the extra that this provider asks for by its entry point, ``name = "module:create
    [extra]"``, as pip takes it. Not the extra itself: pip would look for the whole project by its name, which somebody
    else's has in public indexes."""
    # Not `point.extras`: up to Python 3.11 at least it has two words for `gemini-sdk`.
    extras = _NAME.findall(str(getattr(point, "value", "")).partition("[")[2])
    dist: metadata.Distribution | None = getattr(point, "dist", None)
    for requirement in dist.requires or () if dist and extras else ():
        extra, name = _EXTRA.search(requirement), _NAME.match(requirement)
        if dist and extra and name and extra[1] in extras and not any(metadata.Distribution.discover(name=name[0])):
            return requirement.partition(";")[0].strip()
    return None


@dataclass(frozen=True, slots=True)
class ModelName:
    """A provider and one of its models; ``model`` is empty where the provider has but one."""

    provider: str
    model: str

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Of ``provider:model``; all behind the first colon is the model's. Raises ``ValueError``."""
        provider, _, model = text.strip().partition(":")
        if not provider:
            raise ValueError(f"{text!r} names no model: write provider:model, such as gemini:gemini-3.8-flash")
        return cls(provider, model)

    def __str__(self) -> str:
        """The name that the model has in records and on bills."""
        return f"{self.provider}:{self.model or self.provider}"


class Providers:
    """The providers that are installed, as entry points in ``chat_core.language_models``."""

    def __init__(self, find: Callable[[], Iterable[EntryPoint]] = _installed) -> None:
        self._find = find

    def installed(self) -> tuple[str, ...]:
        """Their names in order, without those whose library is missing. Loads none of them."""
        return tuple(sorted({point.name for point in self._find() if _missing(point) is None}))

    def missing(self) -> Mapping[str, str]:
        """The providers whose library is missing, each with what to install. Loads none of them."""
        return {point.name: wanted for point in self._find() if (wanted := _missing(point)) is not None}

    def create(self, name: ModelName, environ: Mapping[str, str]) -> LanguageModel:
        """The bare model, as its provider's factory makes it. Loads this provider and no other.

        Raises ``ValueError``, with a sentence for whoever set it up.
        """
        for point in self._find():
            if point.name == name.provider:
                if (extra := _missing(point)) is not None:
                    wanted = f"the library of the provider {name.provider!r} is not installed"
                    raise ValueError(f'{wanted}: pip install "{extra}"')
                model: LanguageModel = point.load()(name.model, environ)
                return model
        known = ", ".join(self.installed()) or "none"
        raise ValueError(f"LLM names the provider {name.provider!r}, which is not installed; installed: {known}")


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all requests to one model of one provider have in common, whichever chain they come from."""

    circuit: Circuit
    slots: Slots
    budget: RetryBudget


def build(
    llm: str,
    environ: Mapping[str, str],
    *,
    offered: Sequence[str] = (),
    concurrency: int = CONCURRENCY,
    first: float = FIRST_SECONDS,
    silence: float = SILENCE_SECONDS,
    midway: bool = True,
    providers: Providers | None = None,
) -> Choice:
    """The service's language model: deadlines, attempts, a limit and a circuit breaker around each provider.

    ``llm`` is a name or several with commas between them, each taking over from the one before: all but the last then
    get one request for a reply, the last one three. ``offered`` are the names that rooms may choose besides. Each
    model has at most ``concurrency`` streams at once; ``first`` and ``silence`` are as for ``Deadlines``, ``midway`` as
    for ``Chain``. Makes no request. Raises ``ValueError``, with a sentence that
    names the variable.
    """
    names = names_of(llm)
    builder = _Builder(environ, concurrency, providers or Providers(), first, silence, midway)
    own = builder.chain(names)
    others = [builder.chain([ModelName.parse(text)]) for text in offered]
    return Choice(own, {chain.name: chain for chain in others if chain.name != own.name})


def names_of(llm: str) -> list[ModelName]:
    """The models that ``LLM`` names, in the order in which they are asked. Raises ``ValueError``."""
    names = [ModelName.parse(text) for text in llm.split(",") if text.strip()]
    if not names:
        raise ValueError("LLM is empty: set it to provider:model, such as gemini:gemini-3.8-flash")
    return names


class _Builder:
    def __init__(
        self,
        environ: Mapping[str, str],
        concurrency: int,
        providers: Providers,
        first: float,
        silence: float,
        midway: bool,
    ) -> None:
        self._environ, self._concurrency, self._providers = environ, concurrency, providers
        self._first, self._silence, self._midway = first, silence, midway
        self._shared: dict[str, _Shared] = {}

    def chain(self, names: Sequence[ModelName]) -> Chain:
        links = [self._link(name, REQUESTS_MAX if name is names[-1] else 1) for name in names]
        return Chain(links, midway=self._midway)

    def _link(self, name: ModelName, requests_max: int) -> Link:
        shared = self._shared_by(str(name))
        return Attempts(
            Deadlines(self._providers.create(name, self._environ), first=self._first, silence=self._silence),
            provider=name.provider,
            model_name=name.model or name.provider,
            requests_max=requests_max,
            budget=shared.budget,
            circuit=shared.circuit,
            slots=shared.slots,
        )

    def _shared_by(self, name: str) -> _Shared:
        if name not in self._shared:
            self._shared[name] = _Shared(Circuit(name), Slots(self._concurrency), RetryBudget())
        return self._shared[name]
