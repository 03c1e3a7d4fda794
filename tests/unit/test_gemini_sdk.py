"""Gemini by Google's own library: what is its own, beside the contract."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adapters.llm import gemini_sdk
from adapters.llm.gemini_sdk import GeminiSdk
from chat_core.errors import ModelBadAnswer, ModelError, ModelRefused, ModelUnavailable
from chat_core.ports.language_model import Conversation, End, FinishReason, ModelCheck, Text, Turn, TurnRole
from chat_core.testing.fake_provider import FakeProvider
from chat_core.testing.reading import read, text_of

VERTEX = {"GOOGLE_GENAI_USE_VERTEXAI": "true"}


@pytest.fixture(autouse=True)
def nothing_of_google(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "GEMINI_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


async def asked(provider: FakeProvider, prompt: str, model: str = "gemini-3.8-flash", **environ: str):
    """What came, and the error that came after it."""
    made = gemini_sdk.create(model, {"GEMINI_API_KEY": "s3cret", "GEMINI_BASE_URL": provider.url, **environ})
    try:
        return await read(made, prompt)
    finally:
        await made.aclose()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "GEMINI_API_KEY is not set"),
        (VERTEX, "GOOGLE_CLOUD_PROJECT is not set"),
        ({"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": "nonsense"}, "GEMINI_BASE_URL has to begin"),
        ({"GEMINI_API_KEY": "k", "GEMINI_THINKING": "hard"}, "GEMINI_THINKING has to be"),
    ],
)
def test_what_is_missing_is_named(environ: dict[str, str], told: str):
    with pytest.raises(ValueError, match=told):
        gemini_sdk.create("gemini-3.8-flash", environ)


async def test_the_settings_are_those_that_are_given_and_not_the_library_s_own(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_API_KEY", "another")
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v1")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    _, error = await asked(provider, "hello", GEMINI_THINKING="low")
    assert error is None
    assert provider.ledger[0].path == "/v1beta/models/gemini-3.8-flash:streamGenerateContent"
    config = provider.ledger[0].body["generationConfig"]
    assert config["thinkingConfig"] == {"include_thoughts": True, "thinking_level": "LOW"}


@pytest.mark.parametrize(("model", "sent"), [("gemini-2.5-flash", True), ("gemini-3.8-flash", False)])
async def test_a_temperature_is_sent_to_those_that_take_one(provider: FakeProvider, model: str, sent: bool):
    made = gemini_sdk.create(model, {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": provider.url})
    conversation = Conversation(
        turns=(Turn(role=TurnRole.USER, parts=("hello",)),), temperature=0.25, max_output_tokens=77
    )
    async with aclosing(made.stream(conversation)) as stream:
        parts = [part async for part in stream]
    await made.aclose()
    config = provider.ledger[0].body["generationConfig"]
    assert (config.get("temperature") == 0.25) is sent
    assert config["maxOutputTokens"] == 77
    assert isinstance(parts[-1], End)


async def test_no_secret_is_in_an_error_and_nothing_is_asked_twice(provider: FakeProvider):
    for prompt, kind in (("[[500]]", ModelUnavailable), ("[[429::9]]", ModelUnavailable), ("[[403]]", ModelRefused)):
        before = len(provider.ledger)
        _, error = await asked(provider, prompt)
        assert type(error) is kind
        assert "s3cret" not in error.detail
        assert len(provider.ledger) == before + 1
    _, error = await asked(provider, "[[429:1:7:body]]")
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == 7


async def test_nobody_at_the_address_is_unavailable():
    model = gemini_sdk.create("gemini-3.8-flash", {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": "http://127.0.0.1:9"})
    parts, error = await read(model, "hello")
    assert (parts, type(error)) == ([], ModelUnavailable)
    assert (await model.check()).check is ModelCheck.UNREACHABLE
    await model.aclose()


async def test_an_answer_without_bounds_is_given_up(provider: FakeProvider):
    _, error = await asked(provider, "[[huge]]", MODEL_ANSWER_MAX="100000")
    assert isinstance(error, ModelBadAnswer)
    await provider.ledger.wait(seconds=5)
    assert provider.ledger[0].client_closed


async def test_safety_and_other_reasons_mean_what_they_mean_to_the_other_adapter(provider: FakeProvider):
    for word, reason in (("SAFETY", FinishReason.BLOCKED), ("MAX_TOKENS", FinishReason.LENGTH)):
        parts, error = await asked(provider, f"[[finish:{word}]]")
        assert error is None
        assert isinstance(parts[-1], End)
        assert (parts[-1].reason, parts[-1].detail) == (reason, word)


async def test_half_of_a_surrogate_pair_is_refused(provider: FakeProvider):
    _, error = await asked(provider, "hello \ud83d")
    assert isinstance(error, ModelRefused)
    assert len(provider.ledger) == 0


async def test_the_check_tells_a_retired_model_and_a_bad_key(provider: FakeProvider):
    for model, key, found in (
        ("gemini-3.8-flash", "k", ModelCheck.OK),
        ("gemini-retired", "k", ModelCheck.MISSING),
        ("gemini-3.8-flash", "invalid", ModelCheck.REFUSED),
    ):
        made = gemini_sdk.create(model, {"GEMINI_API_KEY": key, "GEMINI_BASE_URL": provider.url})
        assert (await made.check()).check is found
        await made.aclose()


@pytest.fixture
async def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A service account whose tokens a server of this process gives."""

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"access_token":"a-token","expires_in":3600,"token_type":"Bearer"}'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(give, "127.0.0.1", 0) as server:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "client_email": "chat@example.com",
            "project_id": "another",
            "private_key": key.decode(),
            "token_uri": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token",
        }
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        yield


@pytest.mark.usefixtures("credentials")
async def test_vertex_is_asked_as_a_project_with_credentials(provider: FakeProvider):
    project = {"GOOGLE_CLOUD_PROJECT": "ours", "GOOGLE_CLOUD_LOCATION": "europe-west1"}
    parts, error = await asked(provider, "[[say:hello there]]", **VERTEX, **project)
    assert error is None
    assert text_of(parts) == "hello there"
    where = "/v1beta1/projects/ours/locations/europe-west1/publishers/google/models/gemini-3.8-flash"
    assert provider.ledger[0].path == f"{where}:streamGenerateContent"


async def test_vertex_without_credentials_is_refused(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    parts, error = await asked(provider, "hello", **VERTEX, GOOGLE_CLOUD_PROJECT="ours")
    assert not parts
    assert isinstance(error, ModelRefused)
    assert "no credentials" in error.detail


async def test_a_closed_model_begins_nothing(provider: FakeProvider):
    model: GeminiSdk = gemini_sdk.create("gemini-3.8-flash", {"GEMINI_API_KEY": "k", "GEMINI_BASE_URL": provider.url})
    parts, error = await read(model, "hello")
    assert error is None
    assert any(isinstance(part, Text) for part in parts)
    await model.aclose()
    with pytest.raises(ModelError):
        await model.models()


@pytest.mark.filterwarnings("ignore:.*is not a valid FinishReason:UserWarning")
async def test_a_reason_that_nobody_knows_is_no_end(provider: FakeProvider):
    parts, error = await asked(provider, "[[finish:WEARY]]")
    assert isinstance(error, ModelBadAnswer)
    assert "WEARY" in error.detail
    assert not any(isinstance(part, End) for part in parts)
