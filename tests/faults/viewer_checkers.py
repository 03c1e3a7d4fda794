"""Whether viewers saw what is stored: answers byte for byte by their ids, rooms place by place, over all connections.

Pure functions of what each viewer was sent, in the order in which it came, whatever connection brought it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.history import Finding


@dataclass(frozen=True, slots=True)
class Shown:
    """One event of a reply's stream: its name, its id as ``EPOCH-OFFSET``, and the text of a delta."""

    name: str
    id: str
    text: str = ""


def _place(id_: str) -> tuple[int, int]:
    epoch, _, offset = id_.partition("-")
    return int(epoch), int(offset)


def reply_viewer(viewer: str, shown: Sequence[Shown], stored: str | None) -> list[Finding]:
    """I11: ids only rise, and leave nothing out between resets; the deltas since the last reset are ``stored``.

    ``stored`` is ``None`` where there is no answer: then nothing of it may be left standing.
    """
    findings: list[Finding] = []
    text, last, anew = "", None, True
    for event in shown:
        if not event.id:
            continue  # the message of the person who sends has no place in the answer
        place = _place(event.id)
        if last is not None and place <= last:
            what = f"{viewer}: an id does not rise: {event.id} after {last[0]}-{last[1]}"
            findings.append(Finding(check="viewer", what=what, evidence=(repr(event),)))
        elif event.name != "reset" and not anew and last is not None and place != (last[0], last[1] + 1):
            what = f"{viewer}: something is left out without a reset: {event.id} after {last[0]}-{last[1]}"
            findings.append(Finding(check="viewer", what=what, evidence=(repr(event),)))
        last = place
        if event.name == "reset":
            text = ""
        text += event.text
        # A text that was rebuilt comes as one delta with its last part's id; an epoch may begin unseen.
        anew = event.name == "reset" or (not text and place[1] == 0)
    if not shown or shown[-1].name != "end":
        findings.append(Finding(check="viewer", what=f"{viewer}: the stream never came to its end"))
    if text != (stored or ""):
        what = f"{viewer}: the deltas since the last reset are not the stored text"
        findings.append(Finding(check="viewer", what=what, evidence=(repr(text[:600]), repr((stored or "")[:600]))))
    return findings


def room_viewer(viewer: str, seqs: Sequence[int], last_seq: int, after: int = 0) -> list[Finding]:
    """I6: who subscribed behind ``after`` was sent exactly the places from there to ``last_seq``, in order."""
    for expected, seq in enumerate(seqs, after + 1):
        if seq != expected:
            what = f"{viewer}: seq {seq} came where {expected} was due"
            return [Finding(check="viewer", what=what, evidence=(f"{list(seqs)[:50]}",))]
    if after + len(seqs) != last_seq:
        return [Finding(check="viewer", what=f"{viewer}: {after + len(seqs)} is the last of {last_seq} places")]
    return []
