"""A clause of a contract suite is kept, or its failure is declared with a reason."""

import subprocess
import sys
from pathlib import Path

import pytest

from chat_core.testing.contract import Contract
from chat_core.testing.language_model import LanguageModelContract
from chat_core.testing.storage import StorageContract

SUITE = """
import pytest
from chat_core.testing.contract import Contract

class Clauses(Contract):
    @pytest.fixture
    def value(self): return 2

    def test_it_is_two(self, value): assert value == 2

    @pytest.mark.parametrize("more", [1, 2])
    def test_it_is_less(self, value, more): assert value < 2 + more

"""


def outcome(folder: Path, subclass: str) -> str:
    """The last line of a run of this subclass's tests."""
    file = folder / "test_subclass.py"
    file.write_text(SUITE + subclass, encoding="utf-8")
    command = (sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--rootdir", folder, file)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("suite", [LanguageModelContract, StorageContract])
def test_a_suite_with_an_overridden_clause_is_refused(suite: type[Contract]):
    name = next(name for name in dir(suite) if name.startswith("test_"))
    for instead in (lambda self: None, None):
        with pytest.raises(TypeError, match=f"overrides the clause {name}.*expected_failures"):
            type("TestOurs", (suite,), {name: instead})


def test_a_clause_is_not_overridden_by_another_base_either():
    class Beside:
        async def test_usage_is_reported(self) -> None: ...

    with pytest.raises(TypeError, match="overrides the clause test_usage_is_reported"):
        type("TestOurs", (Beside, LanguageModelContract), {})


def test_nor_by_itself_which_a_mark_would_be():
    """``pytest.mark.skip`` gives back what it is put on."""
    itself = {"test_usage_is_reported": LanguageModelContract.test_usage_is_reported}
    with pytest.raises(TypeError, match="overrides the clause test_usage_is_reported"):
        type("TestOurs", (LanguageModelContract,), itself)


def test_nor_further_down():
    class TestOurs(LanguageModelContract):
        expected_failures = {"test_usage_is_reported": "it counts nothing"}  # noqa: RUF012

    with pytest.raises(TypeError, match="overrides the clause test_usage_is_reported"):
        type("TestTheirs", (TestOurs,), {"test_usage_is_reported": None})


def test_tests_of_other_names_and_fixtures_are_welcome():
    class TestOurs(LanguageModelContract):
        def test_of_our_own(self) -> None: ...

        @pytest.fixture
        def model(self) -> None: ...

    assert TestOurs.test_usage_is_reported is LanguageModelContract.test_usage_is_reported


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"test_that_is_no_clause": "why"}, "no clause"),
        ({"test_usage_is_reported": " "}, "does not say why"),
        ({"test_usage_is_reported": None}, "does not say why"),
    ],
)
def test_a_declaration_names_a_clause_and_says_why(declared: dict[str, str], told: str):
    with pytest.raises(TypeError, match=told):
        type("TestOurs", (LanguageModelContract,), {"expected_failures": declared})


def test_a_declared_failure_marks_no_other_suite_and_can_be_taken_back():
    class TestOurs(LanguageModelContract):
        expected_failures = {"test_usage_is_reported": "it counts nothing"}  # noqa: RUF012

    class TestLater(TestOurs):
        expected_failures = {}  # noqa: RUF012

    [mark] = TestOurs.test_usage_is_reported.pytestmark  # type: ignore[attr-defined]
    assert mark.kwargs == {"reason": "it counts nothing", "strict": True}
    assert not hasattr(LanguageModelContract.test_usage_is_reported, "pytestmark")
    assert TestLater.test_usage_is_reported is LanguageModelContract.test_usage_is_reported


@pytest.mark.slow
def test_a_declared_failure_is_expected_for_its_reason(tmp_path: Path):
    told = outcome(
        tmp_path,
        """
class TestThree(Clauses):
    expected_failures = {"test_it_is_two": "ours is three", "test_it_is_less": "three is not less"}

    @pytest.fixture
    def value(self): return 4
""",
    )
    assert "3 xfailed" in told
    assert "ours is three" in told


@pytest.mark.slow
def test_a_clause_that_passes_after_all_fails_its_suite(tmp_path: Path):
    told = outcome(tmp_path, 'class TestTwo(Clauses):\n    expected_failures = {"test_it_is_two": "ours is three"}\n')
    assert "1 failed, 2 passed" in told
    assert "XPASS(strict)] ours is three" in told
