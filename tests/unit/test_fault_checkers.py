"""The checkers see what must not be, and nothing else: each on a small history by hand."""

from dataclasses import replace
from typing import Any

from tests.faults import checkers, reply_checkers
from tests.faults.history import Asked, Call, Finding, Snapshot, StoredAttempt, StoredMessage, StoredReply

ROOM, ALICE = "room", "alice"


def send(number: int, begun: float, ended: float, seq: int = 0, **more: Any) -> Call:
    """An acknowledged send of the message ``number``, unless ``more`` says otherwise."""
    known: dict[str, Any] = {
        "outcome": "ok",
        "status": 201,
        "room_id": ROOM,
        "user_id": ALICE,
        "m_id": f"m{number}",
        "content": f"text {number}",
        "message_id": f"id{number}",
        "seq": seq or number,
        **more,
    }
    return Call(number=number, kind="send", process="api0", begun=begun, ended=ended, **known)


def read(number: int, begun: float, ended: float, *seqs: int, after: int = 0, to_end: bool = True) -> Call:
    shown = tuple((seq, f"id{seq}") for seq in seqs)
    return Call(
        number=number,
        kind="read",
        process="api1",
        begun=begun,
        ended=ended,
        outcome="ok",
        status=200,
        room_id=ROOM,
        shown=shown,
        after=after,
        to_end=to_end,
    )


def stored(number: int, seq: int = 0, **more: Any) -> StoredMessage:
    known: dict[str, Any] = {
        "id": f"id{number}",
        "room_id": ROOM,
        "seq": seq or number,
        "m_id": f"m{number}",
        "user_id": ALICE,
        "content": f"text {number}",
        **more,
    }
    return StoredMessage(**known)


def answer(number: int, seq: int, prompt: int, content: str, **more: Any) -> StoredMessage:
    return stored(number, seq, user_id=None, is_ai=True, reply_to=f"id{prompt}", content=content, **more)


def final(*messages: StoredMessage, last_seq: int | None = None, **more: Any) -> Snapshot:
    seq = max((message.seq for message in messages), default=0) if last_seq is None else last_seq
    return Snapshot(messages=list(messages), last_seqs={ROOM: seq}, counts={ROOM: len(messages)}, **more)


def reply(number: int = 1, status: str = "complete", **more: Any) -> StoredReply:
    known: dict[str, Any] = {
        "id": f"reply{number}",
        "room_id": ROOM,
        "prompt_id": f"id{number}",
        "status": status,
        "message_id": "id2" if status == "complete" else None,
        **more,
    }
    return StoredReply(**known)


def attempt(number: int = 1, epoch: int = 1, outcome: str | None = "stop", of: int = 1) -> StoredAttempt:
    return StoredAttempt(reply_id=f"reply{of}", number=number, epoch=epoch, outcome=outcome)


def asked(number: int = 1, of: int = 1, **more: Any) -> Asked:
    return Asked(number=number, prompt=f"text {of}", **{"text": "the answer", **more})


def checks(findings: list[Finding]) -> set[str]:
    return {finding.check for finding in findings}


class TestTheLog:
    def test_a_history_without_faults_has_no_findings(self):
        calls = [send(1, 0, 1), send(2, 2, 3), send(2, 4, 5, replayed=True, status=200), read(3, 6, 7, 1, 2)]
        end = final(stored(1), stored(2), last_seq=4, entries={ROOM: [3, 4]})
        assert not checkers.lost(calls, end)
        assert not checkers.duplicated(calls, end)
        assert not checkers.reordered(calls)
        assert not checkers.holes(end)
        assert not checkers.stale_reads(calls)
        assert not checkers.late_places(calls, end)
        assert not checkers.dishonest(calls, end)

    def test_an_acknowledged_message_that_is_not_there_is_lost(self):
        [found] = checkers.lost([send(1, 0, 1), send(2, 2, 3)], final(stored(1)))
        assert "m2" in str(found)

    def test_a_send_without_an_answer_may_be_there_or_not(self):
        unknown = send(2, 2, 3, outcome="unknown", message_id="", status=None)
        assert not checkers.lost([unknown], final())
        assert not checkers.dishonest([unknown], final(stored(2)))

    def test_an_acknowledged_message_with_another_text_or_place_is_lost(self):
        assert checkers.lost([send(1, 0, 1)], final(stored(1, content="other")))
        assert checkers.lost([send(1, 0, 1)], final(stored(1, seq=2)))

    def test_two_messages_for_a_key_are_a_duplicate(self):
        assert checkers.duplicated([send(1, 0, 1)], final(stored(1), replace(stored(1), id="id9", seq=2)))

    def test_one_send_under_two_keys_is_a_duplicate(self):
        assert checkers.duplicated([send(1, 0, 1)], final(stored(1), stored(2, content="text 1")))

    def test_a_repeat_answered_with_another_id_or_place_is_a_duplicate(self):
        assert checkers.duplicated([send(1, 0, 1), send(1, 2, 3, message_id="id9")], final(stored(1)))
        assert checkers.duplicated([send(1, 0, 1), send(1, 2, 3, seq=9)], final(stored(1)))

    def test_a_later_send_with_the_smaller_place_is_reordered(self):
        assert checkers.reordered([send(1, 0, 1, seq=2), send(2, 2, 3, seq=1)])

    def test_sends_that_overlap_may_have_any_order(self):
        assert not checkers.reordered([send(1, 0, 2, seq=2), send(2, 1, 3, seq=1)])

    def test_a_repeat_that_begins_late_does_not_make_its_first_try_late(self):
        first = send(2, 0, 1, outcome="unknown", message_id="", seq=0, status=None)
        assert not checkers.reordered([first, send(1, 2, 3, seq=2), send(2, 4, 5, seq=1)])

    def test_each_place_is_taken_once_and_none_is_missing(self):
        assert "missing: [2]" in str(checkers.holes(final(stored(1), stored(3)))[0])
        assert "taken twice: [1]" in str(checkers.holes(final(stored(1), entries={ROOM: [1]}))[0])
        assert "missing: [2]" in str(checkers.holes(final(stored(1), last_seq=2))[0])
        assert "beyond the last: [2]" in str(checkers.holes(final(stored(2), last_seq=1))[0])

    def test_a_count_that_is_not_that_of_the_messages_is_seen(self):
        end = final(stored(1))
        end.counts[ROOM] = 2
        assert checkers.holes(end)

    def test_a_read_without_what_was_acknowledged_before_it_is_stale(self):
        assert checkers.stale_reads([send(1, 0, 1), read(2, 2, 3)])
        assert not checkers.stale_reads([send(1, 0, 2), read(2, 1, 3)])

    def test_a_read_without_what_another_read_showed_is_stale(self):
        assert checkers.stale_reads([read(1, 0, 1, 1, 2), read(2, 2, 3, 1)])

    def test_a_page_is_not_asked_for_what_lies_outside_of_it(self):
        calls = [read(1, 0, 1, 1, 2, 3), read(2, 2, 3, 2, after=1, to_end=False)]
        assert not checkers.stale_reads(calls)

    def test_a_place_that_could_be_read_only_after_a_higher_one_was_a_hole(self):
        calls = [read(1, 0, 1, 1, 3), read(2, 2, 3, 1, 2, 3)]
        assert checkers.late_places(calls, final(stored(1), stored(2), stored(3)))
        assert not checkers.late_places(calls[1:], final(stored(1), stored(2), stored(3)))

    def test_what_was_only_refused_is_not_stored(self):
        refused = send(1, 0, 1, outcome="refused", status=503, message_id="", code="storage-unavailable")
        assert checkers.dishonest([refused], final(stored(1)))
        assert not checkers.dishonest([refused], final())
        assert not checkers.dishonest([refused, send(1, 2, 3)], final(stored(1)))
        assert not checkers.dishonest([replace(refused, code="outcome-unknown")], final(stored(1)))

    def test_nobody_sees_a_500(self):
        assert checkers.dishonest([send(1, 0, 1, outcome="refused", status=500)], final())


class TestReplies:
    END = final(stored(1), answer(2, 2, 1, "the answer"), replies=[reply()], attempts=[attempt()])

    def test_an_answer_without_faults_has_no_findings(self):
        calls = [send(1, 0, 1, reply_id="reply1", reply_status="queued")]
        assert not reply_checkers.several_replies(self.END)
        assert not reply_checkers.not_final(self.END)
        assert not reply_checkers.changed_after_the_end(calls, self.END)
        assert not reply_checkers.billing([asked()], self.END)
        assert not reply_checkers.texts([asked()], self.END)

    def test_two_replies_or_two_messages_for_a_prompt_are_seen(self):
        second = reply(id="reply9", status="failed")
        two = final(stored(1), answer(2, 2, 1, "the answer"), replies=[reply(), second])
        assert reply_checkers.several_replies(two)
        assert not reply_checkers.several_replies(two, retried=["id1"])
        answers = (answer(2, 2, 1, "the answer"), answer(3, 3, 1, "the answer"))
        assert reply_checkers.several_replies(final(stored(1), *answers, replies=[reply()]))

    def test_a_complete_reply_without_its_message_is_seen(self):
        assert reply_checkers.several_replies(final(stored(1), replies=[reply()]))

    def test_a_reply_that_has_no_end_is_seen(self):
        assert reply_checkers.not_final(final(stored(1), replies=[reply(status="running")]))

    def test_an_end_that_changed_is_seen(self):
        failed = send(1, 0, 1, reply_id="reply1", reply_status="failed")
        complete = send(1, 2, 3, reply_id="reply1", reply_status="complete")
        assert reply_checkers.changed_after_the_end([failed], self.END)
        assert reply_checkers.changed_after_the_end([complete, replace(failed, begun=4, ended=5)], self.END)
        assert not reply_checkers.changed_after_the_end([complete], self.END)

    def test_a_request_without_a_row_is_billed_twice(self):
        assert reply_checkers.billing([asked(1), asked(2)], self.END)

    def test_a_row_without_its_request_is_not(self):
        """Whoever wrote it died before the request."""
        assert not reply_checkers.billing([], self.END)

    def test_a_second_attempt_needs_a_reason(self):
        def end(*attempts: StoredAttempt) -> Snapshot:
            return final(stored(1), replies=[reply(attempts=len(attempts))], attempts=list(attempts))

        requests = [asked(1), asked(2)]
        retried = end(attempt(1, outcome="provider-unavailable"), attempt(2))
        refused = end(attempt(1, outcome="provider-refused"), attempt(2))
        taken_over = end(attempt(1, outcome=None), attempt(2, epoch=2))
        at_once = end(attempt(1, outcome=None), attempt(2))
        assert not reply_checkers.billing(requests, retried)
        assert reply_checkers.billing(requests, refused)
        assert reply_checkers.billing(requests, taken_over)
        assert not reply_checkers.billing(requests, taken_over, makers_lost=True)
        assert reply_checkers.billing(requests, at_once, makers_lost=True)

    def test_more_than_three_attempts_are_too_many(self):
        attempts = [attempt(number, outcome="provider-timeout") for number in range(1, 5)]
        end = final(stored(1), replies=[reply(attempts=4)], attempts=attempts)
        assert reply_checkers.billing([], end)

    def test_a_count_of_attempts_that_is_not_that_of_the_rows_is_seen(self):
        assert reply_checkers.billing([], final(stored(1), replies=[reply(attempts=2)], attempts=[attempt()]))

    def test_a_text_that_the_provider_did_not_send_is_seen(self):
        assert reply_checkers.texts([asked(text="the answe")], self.END)
        assert reply_checkers.texts([asked(text="the answer", of=7)], self.END)

    def test_an_answer_that_was_cut_short_is_not_complete(self):
        assert reply_checkers.texts([asked(answered="cut")], self.END)
        cut = final(stored(1), answer(2, 2, 1, "the answer", status="incomplete"))
        assert not reply_checkers.texts([asked(answered="cut")], cut)
