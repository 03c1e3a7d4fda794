"""``SECURITY.md`` says nothing of tests, cases and files that are not there, and leaves out no part of the standard."""

import ast
import re
from pathlib import Path

from tests.abuse.cases import CASES

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

#: The sections of OWASP ASVS 5.0 with requirements of level 1 or 2, by chapter.
SECTIONS: dict[int, tuple[int, ...]] = {
    1: (1, 2, 3, 4, 5),
    2: (1, 2, 3, 4),
    3: (2, 3, 4, 5, 7),
    4: (1, 2, 3, 4),
    5: (1, 2, 3, 4),
    6: (1, 2, 3, 4, 5, 6, 8),
    7: (1, 2, 3, 4, 5, 6),
    8: (1, 2, 3, 4),
    9: (1, 2),
    10: (1, 2, 3, 4, 5, 6, 7),
    11: (1, 2, 3, 4, 5, 6),
    12: (1, 2, 3),
    13: (1, 2, 3, 4),
    14: (1, 2, 3),
    15: (1, 2, 3),
    16: (1, 2, 3, 4, 5),
    17: (1, 2, 3),
}
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def rows() -> list[tuple[str, str, str]]:
    """The table's rows: the section, what holds, and by which tests and cases."""
    return re.findall(r"^\| V(\d+\.\d+) \| (.+) \| ?(.*) \|$", PAGE, re.MULTILINE)


def names_in(file: Path) -> set[str]:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_section_of_the_standard_has_its_row():
    named = [section for section, _, _ in rows()]
    assert named == [f"{chapter}.{section}" for chapter, sections in SECTIONS.items() for section in sections]


def test_every_row_names_what_holds_it_or_why_nothing_here_can():
    for section, holds, held_by in rows():
        assert held_by or re.match("(Not applicable|The operator's): .{10}", holds), section


def test_a_row_names_requirements_of_its_own_section():
    for section, holds, _ in rows():
        others = [number for number in re.findall(r"\d+\.\d+\.\d+", holds) if number.rpartition(".")[0] != section]
        assert others == [], section


def test_every_test_that_is_named_is_there():
    named = TEST.findall(PAGE)
    assert len(named) > 50
    assert PAGE.count(".py::") == len(named)
    missing = [f"{file}::{name}" for file, name in named if name not in names_in(TESTS / file)]
    assert missing == []


def test_every_case_that_is_named_is_on_the_list():
    named = set(re.findall(r"\bA\d\d\b", PAGE))
    assert len(named) > 50
    assert named - CASES.keys() == set()


def test_every_file_that_is_linked_or_named_is_there():
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", PAGE) if "://" not in target]
    assert len(targets) > 8
    files = re.findall(r"`((?:tests|docs|src)/[\w./-]+|[A-Za-z]+\.md)`", PAGE)
    assert [name for name in (*targets, *files) if not (ROOT / name).exists()] == []


def test_the_readme_leads_to_it():
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
