"""The rings of the house, proved on the source: who may import whom."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"

# The one room that puts adapters together.
MAY_NAME_ADAPTERS = {"container.py": ("adapters",)}


def python_files(package: str) -> list[Path]:
    return sorted((SRC / package).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Every module that the file imports, wherever in it: at the top, in a function, or for types alone."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), filename=str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{file}:{node.lineno}: an import of `.` hides its ring"
            assert node.level == 0, f"{file}:{node.lineno}: a relative import hides its ring"
            # `from adapters.sql import migrate` may name a module by its last word, so it is given whole.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_the_core_imports_the_standard_library_alone():
    files = python_files("chat_core")
    assert files
    foreign = [
        f"{file.relative_to(SRC)} imports {module}"
        for file in files
        for module in imports(file)
        if (top := module.partition(".")[0]) not in sys.stdlib_module_names | {"chat_core"}
        # The contract suites are tests, shipped for the authors of adapters.
        and not (top == "pytest" and (SRC / "chat_core" / "testing") in file.parents)
    ]
    assert foreign == []


def test_the_core_does_not_need_its_contract_suites():
    testing = SRC / "chat_core" / "testing"
    assert [
        f"{file.relative_to(SRC)} imports {module}"
        for file in python_files("chat_core")
        if testing not in file.parents
        for module in imports(file)
        if is_within(module, ("chat_core.testing",))
    ] == []


def test_only_the_container_names_an_adapter():
    entrypoints = SRC / "entrypoints"
    assert [
        f"{file.relative_to(SRC)} imports {module}"
        for file in python_files("entrypoints")
        for module in imports(file)
        if is_within(module, ("adapters",))
        and not is_within(module, MAY_NAME_ADAPTERS.get(str(file.relative_to(entrypoints)), ()))
    ] == []


@pytest.mark.slow
def test_the_linter_of_imports_finds_every_contract_kept():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
