"""``chat-api`` as its users type it."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.sql.tables import SCHEMA_REVISION
from chat_core.testing.fake_provider import FakeProvider
from entrypoints.cli import main
from entrypoints.version import VERSION
from tests.e2e.processes import chat_api, environ, free_port

HEAVY = ("litestar", "sqlalchemy", "alembic", "aiohttp", "redis", "dramatiq", "uvicorn")
KEY = "unguessable-0123456789-abcdefghijklmnop"
OLDER_KEY = "unguessed-9876543210-ponmlkjihgfedcba"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs a command in this process, with these settings alone, in an empty directory: its exit code, and what it
    said. What a whole process would add is tried once for each command; this is much faster."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **settings: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            for name in set(os.environ) - environ().keys():
                patch.delenv(name)
            for name, value in settings.items():
                patch.setenv(name, value)
            capfd.readouterr()
            code = main(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield run
    # A command sends the logs of its process, here ours, to a standard error that is about to end.
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def modules_after(code: str, tmp_path: Path, **settings: str) -> set[str]:
    """The modules that are loaded in a fresh process that ran ``code``."""
    script = f"{code}\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environ(**settings),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


# --- what a process loads ---


def test_a_worker_does_not_load_the_web_framework(tmp_path):
    code = "from entrypoints import worker; from entrypoints.container import memory_container as m; m().hub()"
    assert not {name for name in modules_after(code, tmp_path) if name.split(".")[0] in ("litestar", "uvicorn")}


# --- help, version, providers ---


def test_help_lists_every_command(tmp_path):
    done = chat_api("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    listed = set(re.findall(r"^    ([a-z]+)\b", done.stdout, re.M))
    assert {"serve", "worker", "migrate", "doctor", "providers", "version"} <= listed
    assert list(tmp_path.iterdir()) == []


def test_help_loads_nothing_heavy(tmp_path):
    code = "from entrypoints.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert modules_after(code, tmp_path).isdisjoint(HEAVY)


#: An API of these settings, from its start to where it takes requests.
STARTS = (
    "import asyncio\n"
    "from entrypoints.container import build_container, prepare_storage\n"
    "from entrypoints.settings import load_settings, read_environ\n"
    "settings = load_settings(read_environ())\n"
    "asyncio.run(prepare_storage(build_container(settings)))\n"
    "from entrypoints import serve\n"
    "from entrypoints.http.asgi import create\n"
    "from entrypoints.running import running\n"
    "create()\n"
    "async def start():\n"
    "    async with running(build_container(settings)): await asyncio.sleep(0.2)\n"
    "asyncio.run(start())\n"
)


@pytest.mark.abuse("A97")
def test_an_api_with_an_echo_loads_no_client_of_anything_else(tmp_path):
    loaded = modules_after(STARTS, tmp_path, LLM="echo")
    assert loaded.isdisjoint({"aiohttp", "redis", "dramatiq", "httpx2", "openai", "anthropic", "prometheus_client"})
    assert loaded.isdisjoint({"google.genai", "google.generativeai", "google.protobuf", "grpc"})
    assert loaded.isdisjoint({"google.auth", "requests", "tenacity"})
    assert not {name for name in loaded if name.startswith(("adapters.llm.gemini", "adapters.llm.sdk"))}


def test_an_api_on_a_database_of_its_version_loads_neither_migrations_nor_what_it_has_no_use_for(run, tmp_path):
    assert run("migrate", SECRET_KEY=KEY)[0] == 0
    loaded = modules_after(STARTS, tmp_path, LLM="echo", SECRET_KEY=KEY)
    assert loaded.isdisjoint(
        {"sqlalchemy.orm", "alembic", "mako", "attr", "pydantic", "pydantic_settings", "werkzeug", "starlette"}
    )
    # They are hidden from those who would load them for nothing, and from nobody else.
    assert {"pydantic", "attr"} <= modules_after(f"{STARTS}\nimport pydantic, attr", tmp_path, LLM="echo")


def test_the_version_is_the_installed_one(run):
    assert run("version") == (0, f"{VERSION}\n", "")


def test_providers_are_listed_and_the_one_that_answers_is_marked(run):
    code, out, _ = run("providers")
    assert code == 0
    answers = {line.split()[0]: "LLM:" in line for line in out.splitlines()}
    assert (answers["echo"], answers["gemini"]) == (True, False)


def test_a_command_that_is_none_is_refused(tmp_path):
    done = chat_api("sreve", cwd=tmp_path)
    assert done.returncode == 2
    assert "sreve" in done.stderr


# --- migrate ---


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_migrate_brings_the_schema_up_and_its_check_says_so(run, request, tmp_path, database):
    settings = {"SECRET_KEY": KEY}
    if database == "postgres":
        server = request.getfixturevalue("postgres")
        settings["DATABASE_URL"] = url = server.fresh_database(migrated=False)
        request.addfinalizer(lambda: server.drop(url))
    code, out, _ = run("migrate", "--check", **settings)
    assert code == 1
    assert "has no tables yet" in out
    assert "chat-api migrate" in out
    assert list(tmp_path.iterdir()) == [], "a check makes nothing"
    assert run("migrate", **settings)[0] == 0
    code, out, _ = run("migrate", "--check", **settings)
    assert (code, "as this version needs" in out) == (0, True)
    assert run("migrate", **settings)[0] == 0


def test_migrate_in_a_process_of_its_own(tmp_path):
    done = chat_api("migrate", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "chat.db").exists()


def test_migrate_says_that_the_database_is_away(run):
    url = f"postgresql://bob:hunter2@127.0.0.1:{free_port()}/chat"
    code, out, err = run("migrate", DATABASE_URL=url)
    assert code == 1
    assert "DATABASE_URL" in err
    assert "hunter2" not in out + err


# --- doctor ---


def table(out: str) -> dict[str, tuple[str, str]]:
    """The doctor's lines: what, its state, the detail."""
    rows = [re.fullmatch(r"(\S+) +(ok|note|problem) +(.+)", line) for line in out.splitlines()]
    assert all(rows), out
    return {row[1]: (row[2], row[3]) for row in rows if row}


def test_the_doctor_finds_a_fresh_checkout_well_and_changes_nothing(run, tmp_path):
    code, out, err = run("doctor", SECRET_KEY=KEY)
    assert (code, err) == (0, "")
    found = table(out)
    assert list(found) == ["server", "SECRET_KEY", "DATABASE_URL", "REDIS_URL", "LLM"]
    assert {name: state for name, (state, _) in found.items()} == {
        "server": "ok", "SECRET_KEY": "ok", "DATABASE_URL": "note", "REDIS_URL": "note", "LLM": "note",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_in_a_process_of_its_own(tmp_path):
    done = chat_api("doctor", cwd=tmp_path, LLM="nobody:nothing")
    assert done.returncode == 1
    assert "nobody" in table(done.stdout)["settings"][1]


async def test_the_doctor_asks_the_provider_for_the_model(run):
    async with FakeProvider() as provider:

        async def llm(model: str, key: str) -> tuple[int, str, str]:
            settings = {"GEMINI_BASE_URL": provider.url, "GEMINI_API_KEY": key, "SECRET_KEY": KEY}
            code, out, err = await asyncio.to_thread(run, "doctor", LLM=f"gemini:{model}", **settings)
            assert key not in out + err
            return code, *table(out)["LLM"]

        code, state, detail = await llm("gemini-3.8-flash", "a-good-key")
        assert (code, state) == (0, "ok")
        assert "gemini:gemini-3.8-flash" in detail

        code, state, detail = await llm("gemini-retired-flash", "a-good-key")
        assert (code, state) == (1, "problem")
        assert "gemini-retired-flash" in detail
        assert "LLM" in detail

        code, state, detail = await llm("gemini-3.8-flash", "an-invalid-key")
        assert (code, state) == (1, "problem")
        assert "GEMINI_API_KEY" in detail


async def test_the_doctor_finds_each_model_that_would_not_answer_also_behind_one_that_does(run):
    async with FakeProvider() as provider:
        settings = {"GEMINI_BASE_URL": provider.url, "GEMINI_API_KEY": "key", "SECRET_KEY": KEY}

        async def doctor(llm: str, offered: str = "") -> tuple[int, dict[str, tuple[str, str]]]:
            code, out, _ = await asyncio.to_thread(run, "doctor", LLM=llm, LLM_OFFERED=offered, **settings)
            return code, table(out)

        code, found = await doctor("gemini:good,echo:", "gemini:better")
        assert (code, found["LLM"][0], "gemini:better" in found) == (0, "ok", False)
        for llm, offered in (
            ("gemini:good,gemini:retired", ""),
            ("gemini:retired,gemini:good", ""),
            ("gemini:good", "gemini:retired"),
        ):
            code, found = await doctor(llm, offered)
            assert (code, found["LLM"][0], found["gemini:retired"][0]) == (1, "ok", "problem")
            assert "does not offer retired" in found["gemini:retired"][1]
            assert "gemini:good" not in found


def test_the_doctor_finds_what_does_not_answer(run):
    port = free_port()
    code, out, err = run(
        "doctor",
        DATABASE_URL=f"postgresql://bob:hunter2@127.0.0.1:{port}/chat",
        REDIS_URL=f"redis://:hunter2@127.0.0.1:{port}/0",
        GEMINI_API_KEY="hunter2-key",
        GEMINI_BASE_URL=f"http://127.0.0.1:{port}",
        SECRET_KEY=KEY,
        SECRET_KEY_PREVIOUS=OLDER_KEY,
    )
    assert code == 1
    found = table(out)
    assert [found[name][0] for name in ("DATABASE_URL", "REDIS_URL", "LLM")] == ["problem"] * 3
    for secret in ("hunter2", KEY, OLDER_KEY):
        assert secret not in out + err


@pytest.mark.redis
def test_the_doctor_asks_redis(run, redis_url):
    code, out, _ = run("doctor", REDIS_URL=redis_url, SECRET_KEY=KEY)
    assert (code, table(out)["REDIS_URL"][0]) == (0, "ok")


def test_the_doctor_says_which_settings_are_wrong(run):
    code, out, err = run("doctor", PORT="http", LOG_LEVEL="loud")
    assert (code, out) == (2, "")
    assert [line.split()[0] for line in err.splitlines()] == ["PORT", "LOG_LEVEL"]


# --- serve and worker refuse ---

REFUSED = {
    "others can reach it, with DEBUG": ({"HOST": "0.0.0.0"}, ["HOST", "DEBUG"]),
    "no key": ({"DEBUG": "false"}, ["SECRET_KEY"]),
    "a short key": ({"DEBUG": "false", "SECRET_KEY": "hunter2"}, ["SECRET_KEY"]),
    "a well-known key": ({"SECRET_KEY": "your-secret-key-here-hunter2-0123456789"}, ["SECRET_KEY"]),
    "a bad earlier key": ({"SECRET_KEY": KEY, "SECRET_KEY_PREVIOUS": "hunter2"}, ["SECRET_KEY_PREVIOUS"]),
    "another database": ({"DATABASE_URL": "mysql://bob:hunter2@localhost/chat"}, ["DATABASE_URL"]),
    "no database": ({"DATABASE_URL": "postgresql://bob:hunter2@localhost"}, ["DATABASE_URL"]),
    "a database away": ({"DATABASE_URL": "postgresql://bob:hunter2@127.0.0.1:9/chat"}, ["DATABASE_URL"]),
    "no Redis URL": ({"REDIS_URL": "hunter2@localhost:6379"}, ["REDIS_URL"]),
    "no port": ({"PORT": "eighty"}, ["PORT"]),
    "no provider": ({"LLM": "nobody:nothing"}, ["LLM"]),
    "Gemini without a key": ({"LLM": "gemini:gemini-3.8-flash"}, ["GEMINI_API_KEY"]),
    "no level of thinking": ({"GEMINI_API_KEY": "k", "GEMINI_THINKING": "hunter2"}, ["GEMINI_THINKING"]),
    "any origin": ({"CORS_ORIGINS": "*"}, ["CORS_ORIGINS"]),
    "two at once": ({"PORT": "0x50", "SEND_WAIT": "a while"}, ["PORT", "SEND_WAIT"]),
}


@pytest.mark.abuse("A95")
@pytest.mark.parametrize(("settings", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_serve_refuses_settings_by_their_name(run, settings, named):
    code, out, err = run("serve", **settings)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "hunter2" not in err
    assert all(name in err for name in named)


@pytest.mark.abuse("A95")
def test_serve_refuses_in_a_process_of_its_own(tmp_path):
    done = chat_api("serve", "--host", "0.0.0.0", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "DEBUG" in done.stderr


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_schema_that_does_not_fit_is_refused(run, command):
    code, _, err = run(command, AUTO_MIGRATE="false", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert code == 2
    assert err == f"The database has no tables yet, this version needs {SCHEMA_REVISION}: run `chat-api migrate`.\n"


def test_a_worker_needs_redis(run):
    code, _, err = run("worker")
    assert code == 2
    assert "REDIS_URL" in err


def test_a_worker_says_that_the_database_is_away(run):
    url = f"postgresql://bob:hunter2@127.0.0.1:{free_port()}/chat"
    code, _, err = run("worker", DATABASE_URL=url, REDIS_URL="redis://127.0.0.1:9/0")
    assert code == 2
    assert "DATABASE_URL" in err.splitlines()[-1]
    assert "hunter2" not in err


@pytest.mark.parametrize("option", ["--processes", "--threads", "--concurrency"])
def test_a_worker_refuses_numbers_that_make_no_sense(run, option):
    code, _, err = run("worker", option, "0", REDIS_URL="redis://127.0.0.1:9/0")
    assert code == 2
    assert option in err


@pytest.mark.postgres
@pytest.mark.parametrize("wrong", ["role", "database"])
def test_a_database_that_lets_nobody_in_is_said_in_its_own_words(postgres_url: str, tmp_path: Path, wrong: str) -> None:
    url = sa.make_url(postgres_url)
    url = url.set(username="nobody_there") if wrong == "role" else url.set(database="nowhere")
    name = url.render_as_string(hide_password=False)
    for command in (("migrate",), ("migrate", "--check"), ("doctor",)):
        done = chat_api(*command, cwd=tmp_path, DATABASE_URL=name, LLM="echo")
        said = done.stdout + done.stderr
        assert done.returncode != 0
        assert "Traceback" not in said
        assert "does not exist" in said


def test_a_directory_that_is_not_there_is_found_by_the_doctor(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nowhere/chat.db"
    done = chat_api("doctor", cwd=tmp_path, DATABASE_URL=url, LLM="echo", DEBUG="false", SECRET_KEY="k1" * 20)
    assert done.returncode == 1
    assert "no such directory" in done.stdout
