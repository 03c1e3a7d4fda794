"""Every case of the list has its tests, and no test names one that is not there."""

import ast
from pathlib import Path

from tests.abuse.cases import CASES, NOT_APPLICABLE

TESTS = Path(__file__).parents[1]


def tried() -> dict[str, list[str]]:
    """The tests of each case, by their decorators."""
    found: dict[str, list[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.abuse":
                    for case in ast.literal_eval(ast.Tuple(mark.args, ast.Load())):
                        found.setdefault(case, []).append(f"{file.name}::{node.name}")
    return found


def test_every_case_is_tried():
    assert not CASES.keys() - tried().keys()


def test_no_test_names_a_case_that_is_not_on_the_list():
    assert not tried().keys() - CASES.keys()


def test_what_is_not_applicable_is_a_part_of_a_case_and_says_why():
    for part, reason in NOT_APPLICABLE.items():
        assert part.partition(",")[0] in CASES
        assert len(reason) > 20
