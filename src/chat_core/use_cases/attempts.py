"""Requests that are put on the bill a little before they are announced."""

from collections.abc import Mapping
from functools import cache
from typing import cast

from chat_core.ports.language_model import AttemptBegins, Conversation, ForeseeableModel, LanguageModel


@cache
def _foresees(kind: type[LanguageModel]) -> bool:
    # Of a protocol Python finds this out member by member, each time anew.
    return issubclass(kind, ForeseeableModel)


def foreseen(model: LanguageModel, conversation: Conversation) -> AttemptBegins | None:
    """The request that an answer begins with, where it can be foreseen: then it is stored in the same transaction as
    the claim, instead of in one of its own."""
    return cast("ForeseeableModel", model).foresee(conversation) if _foresees(type(model)) else None


class ChosenModels:
    """Models that rooms have chosen (``None``: none), as far as answers were made for them here: what a first request
    is foreseen for before it is known which of them it will be."""

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._known: dict[str | None, Conversation] = {}
        self.meet(None)

    def meet(self, chosen: str | None) -> None:
        if chosen not in self._known and len(self._known) < self._most:
            self._known[chosen] = Conversation(turns=(), model=chosen)

    def foreseen(self, model: LanguageModel) -> Mapping[str | None, tuple[str, str]]:
        """By each of them, the provider and the model that a request would go to, where that can be told."""
        found = ((chosen, foreseen(model, conversation)) for chosen, conversation in self._known.items())
        return {chosen: (begins.provider, begins.model) for chosen, begins in found if begins is not None}
