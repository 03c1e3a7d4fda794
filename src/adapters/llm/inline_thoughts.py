"""Thoughts that a server leaves in the text, between ``<think>`` and ``</think>`` at its beginning."""

from enum import Enum

_OPENS, _CLOSES = "<think>", "</think>"


class _Place(Enum):
    BEFORE = "before"
    WITHIN = "within"
    BEHIND = "behind"
    PAST = "past"


class InlineThoughts:
    """Takes them out of an answer, piece by piece. Further on in a text the words are its own, and stay."""

    def __init__(self) -> None:
        self._place = _Place.BEFORE
        self._held = ""

    def said(self, piece: str) -> str:
        """What of this piece, and of what was held back before it, is the answer."""
        if self._place is _Place.PAST:
            return piece
        self._held += piece
        if self._place is _Place.BEFORE:
            begun = self._held.lstrip()
            if _OPENS.startswith(begun):
                return ""
            if not begun.startswith(_OPENS):
                return self.rest()
            self._place = _Place.WITHIN
        if self._place is _Place.WITHIN:
            thought, closed, behind = self._held.partition(_CLOSES)
            # Its end may come in several pieces.
            self._held = behind if closed else thought[-len(_CLOSES) :]
            if not closed:
                return ""
            self._place = _Place.BEHIND
        self._held = self._held.lstrip()
        return self.rest() if self._held else ""

    def rest(self) -> str:
        """What is still held back at the answer's end, if it is no thought. Nothing is taken out after it."""
        rest = "" if self._place is _Place.WITHIN else self._held
        self._place, self._held = _Place.PAST, ""
        return rest
