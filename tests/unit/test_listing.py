"""Lists of models, as providers really write them."""

from collections.abc import Sequence
from datetime import date

import msgspec
import pytest

from adapters.llm import chat_completions_format, claude_messages_format, gemini_format, listing
from adapters.llm.offers import Answered, offers_of
from adapters.llm.registry import Providers
from chat_core.errors import ModelBadAnswer
from chat_core.ports.language_model import Conversation, OfferedModel


@pytest.mark.parametrize(
    ("model", "ends"),
    [
        ({"object": "model", "created": 1, "owned_by": "openai"}, None),
        ({"shutdown_date": None}, None),
        ({"shutdown_date": "2026-12-01"}, date(2026, 12, 1)),  # OpenAI
        ({"expiration_date": "2026-12-31", "pricing": {"prompt": "0"}}, date(2026, 12, 31)),  # OpenRouter
        ({"deprecation": "2026-11-30T12:00:00Z", "aliases": []}, date(2026, 11, 30)),  # Mistral
        ({"deprecation": {"fine_tune": 1677662127, "inference": 1709284527}}, date(2024, 3, 1)),  # Azure
        ({"deprecated": True}, None),
        ({"deprecated": "2027-01-02"}, date(2027, 1, 2)),
        ({"deprecation": "next spring"}, None),
        ({"expiration_date": 1e300}, None),
    ],
)
def test_the_end_of_a_model_is_read_in_whatever_way_it_is_said(model: dict[str, object], ends: date | None):
    listed = [{"id": "m", **model}]
    for document in ({"object": "list", "data": listed}, listed):
        found = chat_completions_format.read_models(msgspec.json.encode(document), "openai")
        assert found == [OfferedModel(name="m", ends=ends)]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data":[{"name":"m"}]}', b'{"data":3}', b"\xff"])
def test_what_is_no_list_is_a_bad_answer(body: bytes):
    with pytest.raises(ModelBadAnswer):
        chat_completions_format.read_models(body, "openai")
    with pytest.raises(ModelBadAnswer):
        claude_messages_format.read_models(body, "anthropic")


def test_gemini_s_list_holds_what_answers():
    body = (
        b'{"models":[{"name":"models/a","supportedGenerationMethods":["generateContent","countTokens"]},'
        b'{"name":"models/b","supportedGenerationMethods":["predict"]},{"name":"models/c"}],"nextPageToken":"t"}'
    )
    assert gemini_format.read_models(body, "gemini") == ([OfferedModel(name="a"), OfferedModel(name="c")], "t")


async def test_a_list_without_an_end_is_given_up():
    asked: list[str] = []

    async def page(begin: str) -> tuple[Sequence[OfferedModel], str]:
        asked.append(begin)
        return [OfferedModel(name="m")], str(len(asked))

    with pytest.raises(ModelBadAnswer, match="more than 50 pages"):
        await listing.pages(page, "gemini")
    assert len(asked) == listing.PAGES_MAX


async def test_a_page_that_leads_to_itself_is_the_last():
    async def page(begin: str) -> tuple[Sequence[OfferedModel], str]:
        return [OfferedModel(name="m")], "t"

    assert len(await listing.pages(page, "gemini")) == 2


class Point:
    name = "ours"

    def __init__(self, made: object) -> None:
        self._made = made

    def load(self) -> object:
        def create(model: str, environ: object) -> object:
            if isinstance(self._made, Exception):
                raise self._made
            return self._made

        return create


class Bare:
    def stream(self, conversation: Conversation, /) -> object: ...


class Broken(Bare):
    async def models(self) -> Sequence[OfferedModel]:
        raise RuntimeError("a slip")


@pytest.mark.parametrize(
    ("made", "answered", "detail"),
    [
        (ValueError("OURS_KEY is not set"), Answered.NOT_SET_UP, "OURS_KEY is not set"),
        (Bare(), Answered.CANNOT_LIST, ""),
        (Broken(), Answered.FAILED, "RuntimeError: a slip"),
    ],
)
async def test_what_a_provider_does_instead_of_listing_is_told(made: object, answered: Answered, detail: str):
    offers = await offers_of("ours", {}, Providers(lambda: [Point(made)]))
    assert (offers.answered, offers.models, offers.detail) == (answered, (), detail)
