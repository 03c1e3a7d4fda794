"""Providers whose library is missing are known without loading them."""

from importlib import metadata
from pathlib import Path

import pytest

from adapters.llm.echo import Echo
from adapters.llm.registry import GROUP, ModelName, Providers


@pytest.fixture
def providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Providers:
    """Of a package that has two, one of them by a library that nobody has."""
    info = tmp_path / "lately-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: lately\nVersion: 1.0\nProvides-Extra: the-sdk\n"
        'Requires-Dist: a-library-that-nobody-has<4,>=3; extra == "the-sdk"\nRequires-Dist: msgspec\n'
    )
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\nlately = adapters.llm.echo:create\nlately-sdk = no:create [the-sdk]\n"
    )
    return Providers(lambda: metadata.Distribution.at(info).entry_points.select(group=GROUP))


def test_a_provider_without_its_library_is_not_installed(providers: Providers):
    assert providers.installed() == ("lately",)
    assert providers.missing() == {"lately-sdk": "a-library-that-nobody-has<4,>=3"}


def test_who_names_it_is_told_what_to_install(providers: Providers):
    with pytest.raises(ValueError, match=r'not installed: pip install "a-library-that-nobody-has<4,>=3"'):
        providers.create(ModelName("lately-sdk", "any"), {})
    assert isinstance(providers.create(ModelName("lately", "any"), {}), Echo)


def test_with_the_library_it_is_one_like_the_others():
    assert "gemini-sdk" in Providers().installed()
    assert Providers().missing() == {}
