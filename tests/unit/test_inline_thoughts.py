"""Thoughts that stand in the text of an answer are taken out of it, and nothing else is."""

import pytest

from adapters.llm.inline_thoughts import InlineThoughts


def read(text: str, size: int) -> str:
    """The answer, where this text comes in pieces of a size."""
    thoughts = InlineThoughts()
    said = [thoughts.said(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join(said) + thoughts.rest()


@pytest.mark.parametrize("size", range(1, 40))
@pytest.mark.parametrize(
    "text",
    ["<think>hm</think>Tea.", "\n<think>\nhm < or </ or </think </think>\n\nTea.", "<think></think>Tea.", "Tea."],
)
def test_thoughts_at_the_beginning_are_no_text_however_they_are_cut(text: str, size: int):
    assert read(text, size) == "Tea."


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "<",
        "<thi",
        "<thin>air</thin>",
        " <b>Tea</b>",
        "Write <think>hm</think> so.",
        "<thinking>aloud</thinking>",
        "</think> is its end.",
    ],
)
def test_what_does_not_begin_with_thoughts_comes_whole(text: str, size: int):
    assert read(text, size) == text


@pytest.mark.parametrize("size", [1, 7, 100])
def test_of_an_answer_that_ends_within_its_thoughts_nothing_is_said(size: int):
    assert read("<think>hm, and then", size) == ""


@pytest.mark.parametrize("size", [1, 7, 100])
def test_later_words_of_the_same_kind_are_the_answers_own(size: int):
    assert read("<think>hm</think>Write <think>.</think>", size) == "Write <think>.</think>"


def test_an_ordinary_answer_waits_for_nothing():
    thoughts = InlineThoughts()
    assert [thoughts.said(piece) for piece in ("Tea", " is", "<think>")] == ["Tea", " is", "<think>"]
