"""The checkers of viewers see what breaks a stream, and nothing where it is whole."""

import pytest

from tests.faults.viewer_checkers import Shown, reply_viewer, room_viewer

WHOLE = [
    Shown("reply", "1-0"),
    Shown("delta", "1-1", "a"),
    Shown("delta", "1-2", "b"),
    Shown("ai_message", "1-3"),
    Shown("end", "1-4"),
]


def test_a_whole_stream_has_no_findings():
    assert reply_viewer("v", [Shown("user_message", ""), *WHOLE], "ab") == []


def test_what_came_before_a_reset_does_not_count():
    again = [Shown("reset", "2-0"), Shown("delta", "2-1", "ab"), Shown("ai_message", "2-2"), Shown("end", "2-3")]
    assert reply_viewer("v", [*WHOLE[:2], *again], "ab") == []


def test_a_rebuilt_text_has_the_id_of_its_last_part():
    rebuilt = [Shown("reset", "2-0"), Shown("delta", "2-7", "ab"), Shown("ai_message", "2-8"), Shown("end", "2-9")]
    assert reply_viewer("v", [*WHOLE[:2], *rebuilt], "ab") == []


@pytest.mark.parametrize("left_out", range(1, 5))
def test_an_event_left_out_is_seen(left_out):
    assert reply_viewer("v", WHOLE[:left_out] + WHOLE[left_out + 1 :], "ab")


def test_an_event_that_comes_twice_is_seen():
    assert reply_viewer("v", [*WHOLE[:2], *WHOLE[1:]], "ab")


def test_a_zombies_part_is_seen():
    taken_over = [*WHOLE[:2], Shown("reset", "2-0"), Shown("delta", "1-2", "b")]
    assert reply_viewer("v", taken_over, "b")


def test_text_that_outlives_a_failure_is_seen():
    failed = [*WHOLE[:2], Shown("failed", "1-2"), Shown("end", "1-3")]
    assert reply_viewer("v", failed, None)


def test_every_place_of_a_room_comes_once_and_in_order():
    assert room_viewer("v", [3, 4, 5], 5, after=2) == []


@pytest.mark.parametrize("seqs", [[1, 3], [1, 2, 2, 3], [2, 1, 3], [1, 2]])
def test_a_room_with_a_gap_a_double_or_no_end_is_seen(seqs):
    assert room_viewer("v", seqs, 3)
