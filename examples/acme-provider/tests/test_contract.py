"""Acme's adapter keeps the contract of the port."""

from collections.abc import AsyncIterator

import acme_provider
import pytest
from acme_provider import Acme

from chat_core.ports.language_model import ModelCheck
from chat_core.testing.fake_provider import FakeProvider
from chat_core.testing.language_model import LanguageModelContract
from chat_core.testing.provider_script import FakeProviderScript, ProviderScript


class TestAcme(LanguageModelContract):
    """Were there a clause that Acme cannot keep, it would stand in ``expected_failures`` with the reason."""

    @pytest.fixture
    async def provider(self) -> AsyncIterator[FakeProvider]:
        async with FakeProvider() as provider:
            yield provider

    @pytest.fixture
    def script(self, provider: FakeProvider) -> ProviderScript:
        return FakeProviderScript(provider)

    @pytest.fixture
    async def model(self, provider: FakeProvider) -> AsyncIterator[Acme]:
        model = acme_provider.create("fake", {"ACME_URL": provider.url, "ACME_KEY": "any"})
        yield model
        await model.aclose()

    async def test_the_doctor_is_told_what_is_amiss(self, model: Acme, provider: FakeProvider) -> None:
        assert (await model.check()).check is ModelCheck.OK
        for name, key, found in (
            ("other", "any", ModelCheck.MISSING),
            ("fake", "invalid", ModelCheck.REFUSED),
        ):
            other = acme_provider.create(name, {"ACME_URL": provider.url, "ACME_KEY": key})
            assert (await other.check()).check is found
            await other.aclose()


@pytest.mark.parametrize("missing", ["ACME_URL", "ACME_KEY"])
def test_what_is_not_set_is_named(missing: str) -> None:
    environ = {"ACME_URL": "http://acme.example", "ACME_KEY": "any"} | {missing: ""}
    with pytest.raises(ValueError, match=f"{missing} is not set"):
        acme_provider.create("fake", environ)
