"""Whether a run kept the promises on the log: nothing lost, doubled, reordered, missing or seen too late.

Pure functions of a history and of what is stored at its end. Each finding names the calls and rows that show it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tests.faults.history import Call, Finding, Snapshot, StoredMessage


def _sends(calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if call.kind == "send"]


def _acknowledged(calls: Iterable[Call]) -> list[Call]:
    return [call for call in _sends(calls) if call.outcome == "ok"]


def lost(calls: Sequence[Call], final: Snapshot) -> list[Finding]:
    """I1: what was acknowledged is there, with its id, place and content."""
    stored = {message.id: message for message in final.messages}
    findings: list[Finding] = []
    for call in _acknowledged(calls):
        message = stored.get(call.message_id)
        if message is None:
            findings.append(Finding(check="lost", what="an acknowledged message is not stored", evidence=(str(call),)))
        elif (message.seq, *message.key, message.content) != (call.seq, *call.key, call.content):
            what = "an acknowledged message is stored otherwise than it was acknowledged"
            findings.append(Finding(check="lost", what=what, evidence=(str(call), repr(message))))
    return findings


def duplicated(calls: Sequence[Call], final: Snapshot) -> list[Finding]:
    """I2: one message for a key, and the same ids and seq in every answer for it.

    Contents of a run are different from each other, so the same one under another key is a copy, too.
    """
    findings: list[Finding] = []
    sent = {call.content for call in _sends(calls)}
    by_key: dict[object, list[StoredMessage]] = defaultdict(list)
    by_content: dict[object, list[StoredMessage]] = defaultdict(list)
    for message in final.messages:
        if not message.is_ai:
            by_key[message.key].append(message)
            if message.content in sent:
                by_content[message.room_id, message.content].append(message)
    for what, groups in (("one key has several messages", by_key), ("one send is stored several times", by_content)):
        findings += [
            Finding(check="duplicated", what=what, evidence=tuple(map(repr, group)))
            for group in groups.values()
            if len(group) > 1
        ]
    first: dict[object, Call] = {}
    for call in _acknowledged(calls):
        earlier = first.setdefault(call.key, call)
        if (call.message_id, call.seq) != (earlier.message_id, earlier.seq):
            what = "one key was answered with different ids or places"
            findings.append(Finding(check="duplicated", what=what, evidence=(str(earlier), str(call))))
    return findings


def reordered(calls: Sequence[Call]) -> list[Finding]:
    """I4: a send acknowledged before another begins has the smaller seq."""
    begun: dict[tuple[str, str, str], Call] = {}
    ended: dict[tuple[str, str, str], Call] = {}
    for call in _sends(calls):
        if call.key not in begun or call.begun < begun[call.key].begun:
            begun[call.key] = call
        if call.outcome == "ok" and (call.key not in ended or call.ended_at < ended[call.key].ended_at):
            ended[call.key] = call
    rooms: dict[str, list[tuple[float, int, Call]]] = defaultdict(list)
    for key, call in ended.items():
        # At one moment beginnings come first: only what ended strictly before is surely earlier.
        rooms[call.room_id] += [(begun[key].begun, 0, call), (call.ended_at, 1, call)]
    findings: list[Finding] = []
    for events in rooms.values():
        highest: Call | None = None
        for _, is_end, call in sorted(events, key=lambda event: event[:2]):
            if is_end:
                highest = call if highest is None or call.seq > highest.seq else highest
            elif highest is not None and highest.seq > call.seq:
                what = "a send that began after another's acknowledgement has the smaller seq"
                findings.append(Finding(check="reordered", what=what, evidence=(str(highest), str(call))))
    return findings


def holes(final: Snapshot) -> list[Finding]:
    """I3: the places of a room are exactly 1..last_seq, each taken once, and its count is that of its messages."""
    findings: list[Finding] = []
    taken: dict[str, list[int]] = defaultdict(list)
    for message in final.messages:
        taken[message.room_id].append(message.seq)
    for room, last_seq in final.last_seqs.items():
        places = Counter(taken[room] + final.entries.get(room, []))
        missing = sorted(set(range(1, last_seq + 1)) - set(places))
        beyond = sorted(place for place in places if not 1 <= place <= last_seq)
        twice = sorted(place for place, count in places.items() if count > 1)
        evidence = tuple(
            f"{name}: {seqs[:20]} ({len(seqs)} in all)"
            for name, seqs in (("missing", missing), ("beyond the last", beyond), ("taken twice", twice))
            if seqs
        )
        if evidence:
            what = f"the log of room {room} is not 1..{last_seq}"
            findings.append(Finding(check="holes", what=what, evidence=evidence))
        if room in final.counts and final.counts[room] != len(taken[room]):
            what = f"room {room} counts {final.counts[room]} messages and has {len(taken[room])}"
            findings.append(Finding(check="holes", what=what))
    return findings


def stale_reads(calls: Sequence[Call]) -> list[Finding]:
    """I1 and I5: a read shows what was acknowledged, or shown by another read, before it began.

    What was shown at a place is what every later read shows there; a place that became known below one that was
    shown earlier was a hole at that time.
    """
    events: dict[str, list[tuple[float, int, Call]]] = defaultdict(list)
    for call in calls:
        if call.outcome == "ok" and call.kind in ("send", "read"):
            events[call.room_id].append((call.ended_at, 1, call))
            if call.kind == "read":
                events[call.room_id].append((call.begun, 0, call))
    findings: list[Finding] = []
    for room_events in events.values():
        known: dict[int, tuple[str, Call]] = {}
        expected: dict[int, dict[int, tuple[str, Call]]] = {}
        for _, is_end, call in sorted(room_events, key=lambda event: event[:2]):
            if not is_end:
                expected[call.number] = {seq: fact for seq, fact in known.items() if seq > call.after}
            elif call.kind == "send":
                known.setdefault(call.seq, (call.message_id, call))
            else:
                findings += _unseen(call, expected.pop(call.number))
                for seq, message_id in call.shown:
                    known.setdefault(seq, (message_id, call))
    return findings


def _unseen(read: Call, expected: dict[int, tuple[str, Call]]) -> list[Finding]:
    shown = dict(read.shown)
    last = float("inf") if read.to_end else max(shown, default=read.after)
    what = "a read does not show what was there before it began"
    return [
        Finding(check="stale read", what=f"{what}: seq {seq}", evidence=(str(witness), str(read)))
        for seq, (message_id, witness) in expected.items()
        if seq <= last and shown.get(seq) != message_id
    ]


def late_places(calls: Sequence[Call], final: Snapshot) -> list[Finding]:
    """I5: between the places that a read showed, it left out none that holds a message in the end."""
    places: dict[str, dict[int, str]] = defaultdict(dict)
    for message in final.messages:
        places[message.room_id][message.seq] = message.id
    findings: list[Finding] = []
    for read in calls:
        if read.kind == "read" and read.outcome == "ok" and read.shown:
            shown = dict(read.shown)
            last = max(shown)
            skipped = [seq for seq in range(read.after + 1, last) if seq in places[read.room_id] and seq not in shown]
            if skipped:
                what = f"a read showed seq {last} before {skipped[:10]} could be read"
                findings.append(Finding(check="stale read", what=what, evidence=(str(read),)))
    return findings


def dishonest(calls: Sequence[Call], final: Snapshot) -> list[Finding]:
    """I19: what was refused, and nothing but refused, is not stored; and no answer was a 500.

    ``outcome-unknown`` promises nothing, and of several contents under one key another may be stored.
    """
    stored = {(message.key, message.content) for message in final.messages}
    tries: dict[object, list[Call]] = defaultdict(list)
    for call in _sends(calls):
        tries[call.key, call.content].append(call)
    findings = [
        Finding(check="dishonest", what="a send was refused each time and is stored", evidence=tuple(map(str, group)))
        for what, group in tries.items()
        if what in stored and all(c.outcome == "refused" and c.code != "outcome-unknown" for c in group)
    ]
    return findings + [
        Finding(check="dishonest", what=f"a client saw {call.status}", evidence=(str(call),))
        for call in calls
        if call.status is not None and call.status >= 500 and call.status != 503
    ]
