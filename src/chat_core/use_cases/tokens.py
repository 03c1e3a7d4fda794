"""How many tokens a text is, before a provider has counted them."""

from chat_core.ports.language_model import Conversation, Turn

#: What a turn takes besides its text: its role, and the marks around it.
TURN_TOKENS = 8
#: What providers count lies within these bounds of the estimate; a figure beyond them is taken for a mistake of theirs.
_LEAST, _MOST = 0.5, 3.0
_WEIGHT = 0.2


def tokens_in(text: str) -> int:
    """An estimate: a token for every three bytes of UTF-8, rounded up.

    English has about four bytes to a token with the tokenizers of today, so this is on the safe side; Chinese and
    Japanese have about three, that is one character.
    """
    return -(-(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) // 3)


def tokens_of_turn(turn: Turn) -> int:
    """The estimate for a turn, with what names its author."""
    if len(turn.parts) == 1:
        return TURN_TOKENS + tokens_in(turn.parts[0])
    return TURN_TOKENS + sum(map(tokens_in, turn.parts))


def tokens_of(conversation: Conversation) -> int:
    """The estimate for a whole prompt."""
    return sum(map(tokens_of_turn, conversation.turns)) + tokens_in(conversation.system or "")


class Scale:
    """How the providers' own counts compare with the estimate: learnt, for each model, from what they say of prompts.

    Kept in this process alone: a new one begins with the estimate.
    """

    def __init__(self) -> None:
        self._known: dict[str, float] = {}

    def of(self, model: str | None) -> float:
        """Counted tokens for each estimated one; 1 where nothing is known yet."""
        return self._known.get(model or "", 1.0)

    def learn(self, model: str | None, estimated: int, counted: int) -> None:
        """A provider has counted ``counted`` tokens in a prompt that was ``estimated`` at so many."""
        if estimated <= 0 or counted <= 0:
            return
        seen = min(_MOST, max(_LEAST, counted / estimated))
        known = self.of(model)
        # What is more than thought counts at once: too long a prompt fails, one that could be longer does not.
        self._known[model or ""] = seen if seen > known else known + _WEIGHT * (seen - known)
