"""What a stranger gets: a wheel that holds all that runs, and locks that pin all that it needs."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.txt", "requirements-dev.txt")
DATA = (".css", ".html", ".ico", ".js", ".json", ".mako", ".mjs", ".png", ".svg", ".txt", ".typed")
# Options by which pip, uv and npm are told where to fetch from, and the files in which they write it down.
ADDRESS_OPTION = re.compile(
    r"--(extra-|default-)?index(-url)?[ =]\S|--find-links|index-url\s*=|registry\s*=\s*\"?https?:"
)
ADDRESS_FILES = {"package-lock.json", "pip.conf", "poetry.lock", "pylock.toml", "uv.lock", ".npmrc"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names inside the wheel, built as an installer would, but with nothing fetched."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", out, ROOT),
        ],
        check=True,
        cwd=out,
    )
    [built] = out.glob("chat_api-*.whl")
    return zipfile.ZipFile(built).namelist()


def pins(lock: str) -> dict[str, str]:
    """Each requirement of a lock (a name and its marker, since one name may stand twice) with its version."""
    pinned = r"^([\w.-]+)(?:\[[\w.,-]+\])?==([^\s;]+) *(;[^\\\n]*)?"
    found = re.findall(pinned, (ROOT / lock).read_text(), re.MULTILINE)
    return {f"{name} {marker.strip()}": version for name, version, marker in found}


def versions(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for requirement, version in pins(lock).items():
        found.setdefault(requirement.partition(" ")[0], set()).add(version)
    return found


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_the_wheel_ships_the_contract_suites(wheel: list[str]):
    assert "chat_core/testing/__init__.py" in wheel


def test_the_wheel_ships_the_types_of_the_core(wheel: list[str]):
    assert "chat_core/py.typed" in wheel


def test_the_wheel_ships_the_documentation_pages(wheel: list[str]):
    folder = "entrypoints/http/docs/"
    for page in (folder + "swagger.html", folder + "redoc.html"):
        assets = re.findall(r'"/docs/assets/([^"]+)"', (ROOT / "src" / page).read_text())
        assert len(assets) >= 2
        assert {page, *(f"{folder}assets/{name}" for name in assets)} <= set(wheel)


def test_the_documentation_pages_load_nothing_from_elsewhere_and_run_no_inline_script():
    folder = ROOT / "src" / "entrypoints" / "http" / "docs"
    for page in (folder / "swagger.html", folder / "redoc.html"):
        assert re.findall(r"""(?:src|href)=["']?(?:[a-z]+:)?//""", page.read_text()) == []
        assert re.findall(r"<script(?![^>]* src=)", page.read_text()) == []
    for asset in (folder / "assets").glob("*.js"):
        assert "cdn.redoc" not in asset.read_text(encoding="utf-8"), f"{asset.name} was renewed without its change"


def test_the_wheel_ships_the_migrations(wheel: list[str]):
    migrations = ROOT / "src" / "adapters" / "sql" / "migrations"
    names = {
        path.relative_to(ROOT / "src").as_posix()
        for path in migrations.rglob("*")
        if path.is_file() and path.suffix in {".py", ".mako", ".ini"}
    }
    assert "adapters/sql/migrations/env.py" in names
    assert names <= set(wheel)


def test_the_wheel_ships_every_source_and_data_file(wheel: list[str]):
    here = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.suffix in {".py", *DATA} and "__pycache__" not in path.parts
    }
    assert here - set(wheel) == set()


def test_the_wheel_carries_the_licences_of_what_it_ships(wheel: list[str]):
    licences = {name.partition("/licenses/")[2] for name in wheel if ".dist-info/licenses/" in name}
    of_docs = ("LICENSE-swagger-ui", "NOTICE-swagger-ui", "LICENSE-redoc")
    of_page = ("LICENSE-marked", "LICENSE-dompurify", "LICENSE-dompurify-MPL")
    assert licences >= {"LICENSE", *(f"src/entrypoints/http/docs/assets/{name}" for name in of_docs)}
    assert licences >= {f"src/entrypoints/http/page/vendor/{name}" for name in of_page}


def test_the_wheel_ships_no_tests_of_the_project(wheel: list[str]):
    assert {name.partition("/")[0] for name in wheel if ".dist-info/" not in name} == {
        "adapters",
        "chat_core",
        "entrypoints",
    }


@pytest.mark.abuse("A97")
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_everything_by_hash(lock: str):
    lines = (ROOT / lock).read_text().replace("\\\n", " ").splitlines()
    requirements = [line for line in lines if line.strip() and not line.startswith("#")]
    assert requirements
    assert [line for line in requirements if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address(lock: str):
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--[a-z-]*index[a-z-]*|--find-links)\b", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_the_extras_that_its_packages_ask_for(lock: str):
    """Where one is missing, pip asks for the newest release with that extra, which need not be the locked one."""
    with_extras = re.findall(r"^([\w.-]+)\[(.+?)\]==", (ROOT / lock).read_text(), re.MULTILINE)
    locked = {name: set(extras.split(",")) for name, extras in with_extras}
    installed = {distribution.name.lower() for distribution in metadata.distributions()}
    missing = [
        f"{asks}: {needed}"
        for asks in versions(lock)
        if asks in installed
        for needed in metadata.requires(asks) or []
        if (found := re.match(r"([\w.-]+)\[([\w.,-]+)\]", needed)) and "extra ==" not in needed
        if not set(found[2].split(",")) <= locked.get(found[1].lower(), set())
    ]
    assert missing == []


def test_the_locks_agree():
    assert "hatchling" in versions("requirements.txt"), "the project itself is built from the lock"
    dev = versions("requirements-dev.txt")
    assert {name: v for name, v in versions("requirements.txt").items() if dev.get(name) != v} == {}


@pytest.mark.abuse("A97")
def test_the_installed_versions_are_the_locked_ones():
    locked = versions("requirements-dev.txt")
    apart = {
        name: (metadata.version(name), locked[name])
        for name in ("litestar", "sqlalchemy", "dramatiq", "redis", "pytest")
        if metadata.version(name) not in locked[name]
    }
    if apart and not os.environ.get("CI"):
        pytest.skip(f"an environment of your own, not the lock's: {apart}")
    assert apart == {}


def test_no_tracked_file_says_where_to_fetch_packages_from():
    told = []
    for path in tracked_files():
        name = path.relative_to(ROOT)
        if path.name in ADDRESS_FILES:
            told.append(f"{name} records addresses")
        if path == Path(__file__) or {"assets", "vendor"} & set(path.parts):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        told += [f"{name}: {match.group()}" for match in ADDRESS_OPTION.finditer(text)]
    assert told == []
