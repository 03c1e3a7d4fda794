"""Whether a run kept the promises on replies: one end, one AI message, the text as it was sent, and an honest bill."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tests.faults.history import FINAL_STATUSES, Asked, Call, Finding, Snapshot, StoredAttempt, StoredReply

#: Ends of an attempt after which I9 allows another one.
RETRYABLE = frozenset({"provider-unavailable", "provider-timeout", "provider-interrupted"})
ATTEMPTS_MAX = 3


def several_replies(final: Snapshot, retried: Iterable[str] = ()) -> list[Finding]:
    """I7: one reply for a prompt (more only where it was ``retried``, at most one of them not final) and at most one AI
    message; and each complete reply has its message."""
    findings: list[Finding] = []
    allowed = set(retried)
    by_prompt: dict[str, list[StoredReply]] = defaultdict(list)
    for reply in final.replies:
        by_prompt[reply.prompt_id].append(reply)
    for prompt, replies in by_prompt.items():
        unfinished = sum(reply.status not in FINAL_STATUSES for reply in replies)
        if (len(replies) > 1 and prompt not in allowed) or unfinished > 1:
            what = f"prompt {prompt} has {len(replies)} replies, {unfinished} of them not final"
            findings.append(Finding(check="several replies", what=what, evidence=tuple(map(repr, replies))))
    answers: dict[str | None, list[str]] = defaultdict(list)
    for message in final.messages:
        if message.is_ai:
            answers[message.reply_to].append(repr(message))
    findings += [
        Finding(check="several replies", what=f"prompt {prompt} has {len(rows)} AI messages", evidence=tuple(rows))
        for prompt, rows in answers.items()
        if len(rows) > 1
    ]
    ids = {message.id for message in final.messages if message.is_ai}
    for reply in final.replies:
        if (reply.message_id in ids) != (reply.status in ("complete", "incomplete")):
            what = f"a reply is {reply.status}, and its message {'is' if reply.message_id in ids else 'is not'} there"
            findings.append(Finding(check="several replies", what=what, evidence=(repr(reply),)))
    return findings


def not_final(final: Snapshot) -> list[Finding]:
    """I7: in the end every reply has its end."""
    return [
        Finding(check="not final", what=f"a reply is still {reply.status}", evidence=(repr(reply),))
        for reply in final.replies
        if reply.status not in FINAL_STATUSES
    ]


def changed_after_the_end(calls: Sequence[Call], final: Snapshot) -> list[Finding]:
    """I7: once anybody saw a final status, everybody sees that one."""
    seen: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.outcome == "ok" and call.reply_id:
            seen[call.reply_id].append(call)
    stored = {reply.id: reply for reply in final.replies}
    findings: list[Finding] = []
    for reply_id, group in seen.items():
        ends = [call for call in group if call.reply_status in FINAL_STATUSES]
        if not ends:
            continue
        first = min(ends, key=lambda call: call.ended_at)
        later = [call for call in group if call.begun > first.ended_at and call.reply_status != first.reply_status]
        evidence = [str(call) for call in (first, *later)]
        reply = stored.get(reply_id)
        if later or reply is None or reply.status != first.reply_status:
            what = f"reply {reply_id} was {first.reply_status} and did not stay so"
            findings.append(Finding(check="final changed", what=what, evidence=(*evidence, repr(reply))))
    return findings


def billing(asked: Sequence[Asked], final: Snapshot, *, makers_lost: bool = False, providers: int = 1) -> list[Finding]:
    """I9: no request without its row, exactly one without a fault, and at most three for each provider.

    A further attempt is explained by a retryable end of the one before it, or, where ``makers_lost`` says that the run
    killed, stopped or cut off makers of replies, by a later epoch. Prompts of a run differ from each other.
    """
    prompts = {message.id: message.content for message in final.messages if not message.is_ai}
    requests: dict[str, list[Asked]] = defaultdict(list)
    for request in asked:
        requests[request.prompt].append(request)
    rows: dict[str, list[StoredAttempt]] = defaultdict(list)
    for attempt in sorted(final.attempts, key=lambda attempt: attempt.number):
        rows[attempt.reply_id].append(attempt)
    findings: list[Finding] = []
    rows_of_prompt: dict[str, int] = defaultdict(int)
    for reply in final.replies:
        attempts = rows[reply.id]
        prompt = prompts.get(reply.prompt_id, "")
        rows_of_prompt[prompt] += len(attempts)
        evidence = (repr(reply), *map(repr, attempts), *map(repr, requests[prompt]))
        findings += [
            Finding(check="double-billed", what=what, evidence=evidence)
            for what in _unexplained(reply, attempts, makers_lost, providers)
        ]
    findings += [
        Finding(
            check="double-billed",
            what=f"the provider had {len(group)} requests for one prompt, and {rows_of_prompt[prompt]} have a row",
            evidence=tuple(map(repr, group)),
        )
        for prompt, group in requests.items()
        if len(group) > rows_of_prompt[prompt]
    ]
    return findings


def _unexplained(reply: StoredReply, attempts: list[StoredAttempt], makers_lost: bool, providers: int) -> Iterable[str]:
    if reply.attempts != len(attempts):
        yield f"a reply counts {reply.attempts} attempts and has {len(attempts)} rows"
    if len(attempts) > ATTEMPTS_MAX * providers:
        yield f"a reply has {len(attempts)} attempts"
    for before, after in itertools.pairwise(attempts):
        lease_lost = makers_lost and after.epoch > before.epoch
        if before.outcome not in RETRYABLE and not lease_lost:
            yield f"nothing explains attempt {after.number}: the one before it ended as {before.outcome}"


def texts(asked: Sequence[Asked], final: Snapshot) -> list[Finding]:
    """I11 and I14: what is stored as an answer is, byte for byte, what the provider sent in one request for it; and
    ``complete`` only where that request was answered to its end."""
    prompts = {message.id: message.content for message in final.messages if not message.is_ai}
    requests: dict[str, list[Asked]] = defaultdict(list)
    for request in asked:
        requests[request.prompt].append(request)
    findings: list[Finding] = []
    for message in final.messages:
        if not message.is_ai:
            continue
        candidates = requests[prompts.get(message.reply_to or "", "")]
        same = [request for request in candidates if request.text == message.content]
        if not same:
            what = "an AI message is not what the provider sent"
        elif message.status == "complete" and all(request.answered not in ("complete", "200") for request in same):
            what = "an answer that was cut short is stored as complete"
        else:
            continue
        evidence = (repr(message)[:600], *(repr(request)[:600] for request in candidates))
        findings.append(Finding(check="text differs", what=what, evidence=evidence))
    return findings
