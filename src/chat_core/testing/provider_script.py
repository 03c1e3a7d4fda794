"""How the contract suite of language models has a provider do what a clause is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from chat_core.testing.fake_provider import FakeProvider
from chat_core.testing.fake_provider.script import NASTY_TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRequest:
    """A request as the provider understood it: its turns as (role, parts), the roles in the port's words."""

    turns: Sequence[tuple[str, Sequence[str]]]
    system: str | None = None


class ProviderScript:
    """Each method prepares one behaviour and returns the prompt that gets it.

    ``None`` means that this provider cannot be made to do that, and its clause is skipped; so is everything that is not
    overridden. Where behaviours are chosen in another way than by the prompt, any prompt will do.
    """

    def says(self, text: str) -> str | None:
        """Answers with this text, perhaps with more around it, in several pieces where it has spaces."""
        return None

    def says_nasty_text(self) -> tuple[str, str] | None:
        """A prompt and the text of its answer: every kind of character, and cut in the middle of some on the wire."""
        return None

    def says_nothing(self) -> str | None:
        """Ends properly, without text."""
        return None

    def thinks_then_says(self, text: str) -> str | None:
        """Shows thoughts, then answers with this text."""
        return None

    def reaches_the_limit(self) -> str | None:
        """Some text, then the length limit."""
        return None

    def blocks_the_prompt(self) -> str | None:
        """Will not answer this."""
        return None

    def blocks_the_answer(self) -> str | None:
        """Some text, then no more for reasons of safety."""
        return None

    def is_away(self, retry_after: float) -> str | None:
        """Not now, and come back in so many seconds, said in the provider's own way."""
        return None

    def refuses(self) -> str | None:
        """Does not take the request: a bad key, an unknown model."""
        return None

    def finds_it_too_long(self) -> str | None:
        """Does not take the request for its length."""
        return None

    def fails_after_some_text(self) -> str | None:
        """Some text, then an error in the provider's format."""
        return None

    def is_cut_after_some_text(self) -> str | None:
        """Some text, then the connection is lost."""
        return None

    def ends_without_a_reason(self) -> str | None:
        """Some text, then the proper end of the body, without the provider's own end of the answer."""
        return None

    def talks_garbage(self) -> Sequence[str]:
        """Prompts whose answers cannot be read, each in another way."""
        return ()

    def falls_silent_after_some_text(self) -> str | None:
        """Some text, then nothing, with the connection open."""
        return None

    def falls_silent_at_once(self) -> str | None:
        """Takes the request and says nothing, with the connection open."""
        return None

    def offers(self) -> Mapping[str, date | None] | None:
        """Lists exactly these models, by their names, with the day on which each ends. More than fit on one page."""
        return None

    def hides_its_offers(self) -> bool | None:
        """Answers with an error where it is asked which models it has; ``True`` once that is prepared."""
        return None

    def requests(self) -> Sequence[SeenRequest] | None:
        """What the provider was asked so far; ``None`` where that cannot be seen."""
        return None

    async def all_connections_are_closed(self) -> bool | None:
        """Whether within a few seconds no request is open any more; ``None`` where that cannot be seen."""
        return None


class FakeProviderScript(ProviderScript):
    """The behaviours of the fake provider, for adapters that speak one of its formats to it."""

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider

    def says(self, text: str) -> str | None:
        return f"[[say:{text}]]"

    def says_nasty_text(self) -> tuple[str, str] | None:
        return "[[unicode]]", NASTY_TEXT

    def says_nothing(self) -> str | None:
        return "[[empty]]"

    def thinks_then_says(self, text: str) -> str | None:
        return f"[[think]][[say:{text}]]"

    def reaches_the_limit(self) -> str | None:
        return "[[length]]"

    def blocks_the_prompt(self) -> str | None:
        return "[[blocked]]"

    def blocks_the_answer(self) -> str | None:
        return "[[blocked-midway]]"

    def is_away(self, retry_after: float) -> str | None:
        return f"[[503::{retry_after:g}]]"

    def refuses(self) -> str | None:
        return "[[403]]"

    def finds_it_too_long(self) -> str | None:
        return "[[too-long]]"

    def fails_after_some_text(self) -> str | None:
        return "[[error@2]]"

    def is_cut_after_some_text(self) -> str | None:
        return "[[cut@2]]"

    def ends_without_a_reason(self) -> str | None:
        return "[[end@2]]"

    def talks_garbage(self) -> Sequence[str]:
        kinds = ("html", "json", "utf8", "half", "types")
        return [f"[[garbage{at}:{kind}]]" for kind in kinds for at in ("", "@2")]

    def falls_silent_after_some_text(self) -> str | None:
        return "[[hang@2]]"

    def falls_silent_at_once(self) -> str | None:
        return "[[hang]]"

    def offers(self) -> Mapping[str, date | None] | None:
        self._provider.offers = {"fake-one": None, "fake-two": date(2031, 2, 3), "fake-three": None}
        return self._provider.offers

    def hides_its_offers(self) -> bool | None:
        self._provider.offers = None
        return True

    def requests(self) -> Sequence[SeenRequest] | None:
        return [_seen(entry.body) for entry in self._provider.ledger if entry.method == "POST"]

    async def all_connections_are_closed(self) -> bool | None:
        try:
            await self._provider.ledger.wait(seconds=5)
        except TimeoutError:
            return False
        return True


def _seen(body: Any) -> SeenRequest:
    """A request of any format; a content is a text, or parts that hold one each."""
    turns: list[tuple[str, list[str]]] = []
    for turn in body.get("contents") or body.get("messages"):
        content = turn.get("parts") or turn.get("content")
        texts = [content] if isinstance(content, str) else [part["text"] for part in content]
        turns.append(("model" if turn["role"] == "assistant" else turn["role"], texts))
    system = [text for role, texts in turns if role == "system" for text in texts]
    system += [part["text"] for part in body.get("systemInstruction", {}).get("parts", ())]
    system += [body["system"]] if "system" in body else []
    return SeenRequest(
        turns=[turn for turn in turns if turn[0] != "system"], system="\n".join(system) if system else None
    )
