"""What the README and the guides say is so: every command is run, every output compared, every example tried."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrypoints.settings import Settings, load_settings
from tests.e2e.processes import COMMAND, chat_api, environ, fake_provider, free_port, serving

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "adding-a-provider.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the heading above it, its language and its text."""

    section: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and the output that is printed below it."""

    section: str
    line: str
    output: str


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    section = ""
    language: str | None = None
    inside: list[str] = []
    for line in page.read_text().splitlines():
        if language is None and line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith("```"):
            if language is None:
                language, inside = line[3:], []
            else:
                found.append(Block(section, language, "\n".join(inside) + "\n"))
                language = None
        elif language is not None:
            inside.append(line)
    assert language is None
    return found


def commands(page: Path) -> list[Command]:
    found: list[Command] = []
    for block in blocks(page):
        if block.language in ("console", "bash", "sh", "shell"):
            assert block.text.startswith("$ "), f"a block of commands whose first line is none: {block.text}"
            for chunk in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
                # A command goes on behind a backslash or a pipe at the end of its line.
                whole = re.match(r"(?:[^\n]*[\\|]\n)*[^\n]*", chunk)
                assert whole
                found.append(Command(block.section, whole[0], chunk[whole.end() :].strip()))
    return found


# --- what is only looked at: it fetches packages, or changes the machine ---

#: The sections whose Python is that of clients.
CLIENTS = ("Answers as a stream", "Live rooms")
DEBIAN_PACKAGES = {"make", "python3-venv", "chromium"}


def _make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {word for word in words[1:] if "=" not in word} <= targets


def _apt_get(words: list[str]) -> None:
    assert words[1] == "install"
    assert set(words[2:]) == DEBIAN_PACKAGES
    assert all(package in (ROOT / ".ci" / "run").read_text() for package in words[2:])


def _pip(words: list[str]) -> None:
    assert words[1] == "install"
    assert not set(words[2:]) - {"--require-hashes", "-r", "--no-deps", "--no-build-isolation", ".", "requirements.txt"}
    assert (ROOT / "requirements.txt").exists()


def _venv(words: list[str]) -> None:
    assert words[1:] == ["-m", "venv", "/opt/chat"]


def _path(words: list[str]) -> None:
    assert words[1:] == ["PATH=/opt/chat/bin:$PATH"]


LOOKED_AT = {
    r"make( |$)": _make,
    r"apt-get ": _apt_get,
    r"/opt/chat/bin/pip ": _pip,
    r"python3 -m venv ": _venv,
    r"export PATH=": _path,
}

#: What is run in a shell, as it stands.
RUN = r"(curl|cat|export|chat-api|\.venv/bin/chat-api|[A-Z]+=\S+( [A-Z]+=.*)?|[A-Z]+=\$\(.*\)|[A-Z]+=\".*\")( |$)"
#: What stays until it is told to end.
STAYS = r"chat-api (serve|worker)( |$)|python3 -m chat_core\.testing\.fake_provider "


def only_looked_at(line: str) -> bool:
    return any(re.match(pattern, line) for pattern in LOOKED_AT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_one_that_is_run_or_looked_at(page):
    for command in commands(page):
        known = only_looked_at(command.line) or re.match(RUN, command.line, re.S) or re.match(STAYS, command.line)
        assert known, f"how is this command to be treated? {command.line}"
        for pattern, look in LOOKED_AT.items():
            if re.match(pattern, command.line):
                look(shlex.split(command.line))


def test_the_two_commands_come_first():
    assert [command.line for command in commands(README)[:2]] == ["make run", "make test"]


# --- what is run ---

MARK = "=-=-=-="


def shown(output: str) -> "re.Pattern[str]":
    """A pattern for an output of which parts are left out as ``...``; white space does not count."""
    pattern = re.escape("".join(output.split()))
    pattern = re.sub(r"[0-9a-f]{8}\\-\\\.\\\.\\\.", "[0-9a-f-]{36}", pattern)
    return re.compile(pattern.replace(r"\.\.\.", ".*?"), re.S)


def run(todo: list[Command], shell: list[str], cwd: Path, env: dict[str, str]) -> None:
    """Run the lines of ``shell``, which are those of ``todo``, in one shell, and compare what they print."""
    lines = ["set -u"]
    for line in shell:
        lines += [line, f"printf '\\n{MARK}%s\\n' $?"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], cwd=cwd, env=env, capture_output=True, text=True, timeout=180, check=False
    )
    printed = re.split(rf"\n{MARK}(\d+)\n", done.stdout)
    outputs, codes = printed[0:-1:2], printed[1::2]
    assert len(outputs) == len(todo), done.stdout + done.stderr
    for command, output, code in zip(todo, outputs, codes, strict=True):
        assert code == "0", f"{command.line}\n{output}\n{done.stderr}"
        if command.output:
            found = "".join(output.split())
            assert shown(command.output).fullmatch(found), (
                f"{command.line}\nprints\n{output}\nand not\n{command.output}"
            )


@pytest.fixture(scope="module")
def shims(tmp_path_factory) -> Path:
    """A directory for the PATH, whose ``chat-api`` is that of these sources."""
    directory = tmp_path_factory.mktemp("bin")
    script = directory / "chat-api"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    script.chmod(0o755)
    return directory


def shell_environ(shims: Path, **settings: str) -> dict[str, str]:
    env = environ(**settings)
    return env | {"PATH": f"{shims}{os.pathsep}{env['PATH']}"}


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """What ``make run`` starts, in an empty directory."""
    directory = tmp_path_factory.mktemp("service")
    assert re.search(r"^run:.*\n\t@exec \$\(BIN\)/chat-api serve ", (ROOT / "Makefile").read_text(), re.M)
    with serving(directory) as url:
        yield url, directory


def sections(page: Path, *names: str) -> list[Command]:
    found = [command for command in commands(page) if command.section in names]
    assert {command.section for command in found} == set(names)
    return found


def test_the_conversation_goes_as_it_is_shown(service, shims):
    url, directory = service
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    todo = sections(README, "A first conversation", "Answers that take their time", "Answers as a stream", "Live rooms")
    shell = [command.line.replace("http://127.0.0.1:8000", url) for command in todo]
    # The examples in Python go on with the same room.
    for name, text, output in live_examples():
        (directory / name).write_text(text)
        todo.append(Command("Live rooms", name, output))
        shell.append(f"URL=$URL ROOM=$ROOM TOKEN=$TOKEN {shlex.quote(sys.executable)} {name}")
    sessions = sections(README, "Sessions")
    todo += sessions
    shell += [command.line for command in sessions]
    run(todo, shell, directory, shell_environ(shims))


def live_examples() -> list[tuple[str, str, str]]:
    """The clients of streams and live rooms: a file's name, its text, and what it prints."""
    texts = [block.text for block in blocks(README) if block.section in CLIENTS and block.language == "python"]
    outputs = {
        "answer.py": "(echo, no AI) You said: Count to three.",
        "follow.py": "1 message.created\n2 message.created",
        "live.py": "ok 1\n...message.created None\n...message.created None",
    }
    named = {text.split("\n")[0].removeprefix("# "): text for text in texts}
    assert named.keys() == outputs.keys()
    return [(name, text, outputs[name]) for name, text in named.items()]


def test_a_real_ai_is_set_up_as_it_is_shown(service, shims):
    """With a double of Gemini, and the file that is shown."""
    _, directory = service
    todo = sections(README, "A real AI")
    [env_file] = [block.text for block in blocks(README) if block.language == "ini"]
    (directory / ".env").write_text(env_file)
    with fake_provider(directory) as provider:
        shell = [command.line.replace(".venv/bin/chat-api", "chat-api") for command in todo]
        run(todo, shell, directory, shell_environ(shims, GEMINI_BASE_URL=provider))
    (directory / ".env").unlink()


@pytest.mark.postgres
@pytest.mark.redis
def test_production_is_set_up_as_it_is_shown(postgres, redis_url, shims, tmp_path, request):
    database = postgres.fresh_database(migrated=False)
    request.addfinalizer(lambda: postgres.drop(database))
    port = free_port()
    replaced = {
        "HOST=0.0.0.0": "HOST=127.0.0.1",
        "DATABASE_URL=postgresql://chat:password@db.example.com/chat": f"DATABASE_URL={shlex.quote(database)}",
        "REDIS_URL=redis://redis.example.com:6379/0": f"REDIS_URL={redis_url}",
        "--workers 4": "--workers 2",
        "--processes 2": "--processes 1",
    }
    todo = [command for command in sections(README, "In production") if not only_looked_at(command.line)]
    shell = [command.line for command in todo]
    for old, new in replaced.items():
        assert any(old in line for line in shell), old
        shell = [line.replace(old, new) for line in shell]
    shell = [f"{line} 2>>log & PIDS+=($!)" if re.match(STAYS, line) else line for line in shell]
    # Both have to be there, and then to end in order.
    wait = (
        f"for _ in $(seq 600); do curl -sf http://127.0.0.1:{port}/health/ready > ready "
        """&& grep -q '"workers":{"status":"ok"' ready && break; sleep 0.1; done; """
        "cat ready; kill -TERM ${PIDS[@]}; wait ${PIDS[0]} && wait ${PIDS[1]}"
    )
    everything = '{...,"database":{"status":"ok",...},"redis":{"status":"ok",...},...,"workers":{"status":"ok",...}}'
    todo.append(Command("", "wait until all is ready, and end it", everything))
    env = shell_environ(shims, PORT=str(port), DRAIN_DELAY="0")
    run(todo, ["PIDS=(); " + shell[0], *shell[1:], wait], tmp_path, env)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_what_stays_takes_the_options_that_are_shown(tmp_path):
    """Where production cannot be tried for want of servers, its commands are at least understood."""
    shown_options = [shlex.split(command.line) for command in commands(README) if re.match(STAYS, command.line)]
    assert {words[1] for words in shown_options} == {"serve", "worker"}
    for words in shown_options:
        assert chat_api(*words[1:], "--help", cwd=tmp_path).returncode == 0


def test_the_double_of_the_guide_starts(tmp_path):
    [line] = [command.line for command in commands(GUIDE)]
    assert line.startswith("python3 -m chat_core.testing.fake_provider --port ")
    with fake_provider(tmp_path) as url:
        assert url


# --- the examples in Python ---


def test_the_examples_of_the_readme_run():
    examples = [
        block.text for block in blocks(README) if block.language == "python" and not block.text.startswith("# ")
    ]
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "README.md", "exec"), {"__name__": "example"})  # noqa: S102 - our own page


@pytest.mark.parametrize(("page", "provider"), [(README, "parrot"), (GUIDE, "house")], ids=["README", "guide"])
def test_a_provider_as_it_is_shown_is_installed_and_keeps_the_contract(page, provider, tmp_path):
    files = {
        match[1]: block.text
        for block in blocks(page)
        if block.language == "python"
        and block.section not in CLIENTS
        and (match := re.match(r"# (\w+\.py)\n", block.text))
    }
    assert files.keys() == {f"{provider}.py", f"test_{provider}.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    path = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])

    options = ["-W", "error", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-q", "-rs"]
    options += ["-o", "asyncio_default_fixture_loop_scope=function", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env=environ(PYTHONPATH=path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if page == GUIDE:
        assert "skipped" not in done.stdout

    [project] = [block.text for block in blocks(page) if block.language == "toml"]
    (tmp_path / "pyproject.toml").write_text(project)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    installed = tmp_path / "installed"
    subprocess.run([*pip, "--no-build-isolation", "--target", str(installed), str(tmp_path)], check=True, timeout=120)
    path = os.pathsep.join([str(installed), *(entry for entry in sys.path if entry)])
    (tmp_path / f"{provider}.py").unlink()
    listed = chat_api("providers", cwd=tmp_path, LLM=f"{provider}:grey", PYTHONPATH=path)
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert [provider, "installed", "LLM:", "1.", f"{provider}:grey"] in lines, listed.stderr
    said = chat_api("doctor", cwd=tmp_path, LLM=f"{provider}:grey", PYTHONPATH=path)
    assert said.returncode == (1 if page == GUIDE else 0), said.stdout
    if page == GUIDE:
        assert "HOUSE_URL is not set" in said.stdout


# --- the table of settings ---


def variables() -> dict[str, str]:
    """The variables of the README's table, each with its default."""
    [table] = re.findall(r"^## Configuration\n(.*?)^## ", README.read_text(), re.M | re.S)
    return dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", table, re.M))


def variables_read() -> set[str]:
    """Those that the sources read: first arguments of methods on the environment, or of helpers that take it, or looked
    for in it."""
    found = set()
    for file in (ROOT / "src" / "entrypoints" / "settings.py", *(ROOT / "src" / "adapters" / "llm").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            first = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
            elif isinstance(node, ast.Call) and len(node.args) > 1 and ast.unparse(node.args[0]) == "environ":
                first = node.args[1]  # a helper that reads this variable of it
            elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
                first = node.left
            elif isinstance(node, ast.Subscript):
                first = node.slice
            if isinstance(first, ast.Constant) and re.fullmatch(r"[A-Z][A-Z_]{2,}", str(first.value)):
                found.add(str(first.value))
    # Their transport has a method that takes the name of an HTTP method.
    return found - {"GET", "POST"}


def test_the_table_has_every_variable_that_is_read_and_no_other():
    assert variables().keys() == variables_read()


def test_nothing_else_reads_the_environment():
    readers = {
        file.name
        for file in (ROOT / "src").rglob("*.py")
        if "migrations" not in file.parts  # Alembic's own command, for making revisions
        and re.search(r"os\.environ|getenv|os\.putenv", file.read_text())
    }
    assert readers == {"settings.py", "commands.py"}


def test_the_defaults_in_the_table_are_the_real_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings({})
    checked = set()
    for name, default in variables().items():
        value = getattr(settings, name.lower(), None)
        if name.lower() in Settings.__slots__ and value not in (None, ()):
            number = f"{value:g}" if isinstance(value, float) else value
            word = str(value).lower() if isinstance(value, bool) else number
            assert default.split(" for ")[0] == f"`{word}`", name
            checked.add(name)
        elif name.lower() in Settings.__slots__:
            assert default == "not set", name
    assert len(checked) > 12


def test_every_variable_that_the_readme_names_is_in_the_table():
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", README.read_text()))
    in_code = set(re.findall(r"^(?:\$ export )?([A-Z_]{3,})=", "\n".join(b.text for b in blocks(README)), re.M))
    others = {"PATH", "PARROT_GREETING"}
    of_tests = {"TEST_DATABASE_URL", "TEST_GEMINI_API_KEY", "LLAMA_SERVER_PYTHON", "FAULTS_EARLIER_SOURCE"}
    of_the_shell = {"URL", "JSON", "TOKEN", "AUTH", "ROOM", "REPLY"}
    assert (named | in_code) - of_the_shell - of_tests - others <= variables().keys()


# --- links ---


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_within_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
