"""What all contract suites have in common: a clause is kept, or its failure is declared and explained."""

import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import pytest

_OURS = "expected failures are copies of clauses"


class Contract:
    """A suite of clauses, which are its methods named ``test_...``.

    Who subclasses a suite gives it fixtures and adds tests of other names. A clause cannot be overridden, also not by
    ``None``, by another base class, or by itself with a mark: the class is refused with ``TypeError``, for a suite with
    a hole in it is no suite. An adapter that can't keep a clause yet says so, and why::

        class TestOurs(LanguageModelContract):
            expected_failures = {"test_usage_is_reported": "the provider counts nothing before its version 3"}

    Such a clause runs as a strict xfail: it fails the suite as soon as it passes. What a subclass declares stands
    instead of what its bases do.
    """

    #: The clauses that are known to fail, by name, each with the reason.
    expected_failures: ClassVar[Mapping[str, str]] = types.MappingProxyType({})

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        clauses = _clauses_of(cls)
        for name, clause in clauses.items():
            # In its own body it is refused whatever it is: `pytest.mark.skip(clause)` is the clause itself.
            if name in vars(cls) or _found_in(cls, name) is not clause:
                raise TypeError(
                    f"{cls.__qualname__} overrides the clause {name}: a clause is not changed. Give the test another "
                    "name; or, if the adapter cannot keep the clause, name it in `expected_failures` with the reason"
                )
        if "expected_failures" not in vars(cls):
            return
        expected = cls.expected_failures
        for name, why in expected.items():
            if name not in clauses:
                raise TypeError(f"{cls.__qualname__} expects {name} to fail, which is no clause of its suite")
            if not isinstance(cast("object", why), str) or not why.strip():
                raise TypeError(f"{cls.__qualname__} expects {name} to fail, and does not say why")
        for name, clause in clauses.items():
            if name in expected:
                setattr(cls, name, pytest.mark.xfail(reason=expected[name], strict=True)(_copy(clause)))
            elif getattr(cls, name) is not clause:
                setattr(cls, name, clause)


def _clauses_of(cls: type) -> dict[str, object]:
    """The tests that its bases among the suites define; the one nearest to the suites' own root counts."""
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__[1:]):
        if issubclass(base, Contract):
            for name, value in vars(base).items():
                if name.startswith("test_") and not _is_copy(value):
                    found.setdefault(name, value)
    return found


def _found_in(cls: type, name: str) -> object:
    """What pytest would find under this name, but for expected failures."""
    for base in cls.__mro__:
        if name in vars(base) and not _is_copy(vars(base)[name]):
            return vars(base)[name]
    return None


def _copy(clause: object) -> Callable[..., object]:
    """The same function once more, so that a mark on it is on no other suite's."""
    assert isinstance(clause, types.FunctionType), f"{clause!r} is a clause and no function"
    copy = types.FunctionType(
        clause.__code__, clause.__globals__, clause.__name__, clause.__defaults__, clause.__closure__
    )
    copy.__kwdefaults__ = clause.__kwdefaults__
    copy.__dict__.update(clause.__dict__)
    copy.__doc__, copy.__annotations__ = clause.__doc__, clause.__annotations__
    copy.__qualname__, copy.__module__ = clause.__qualname__, clause.__module__
    setattr(copy, _OURS, True)
    # A list of marks that is shared would mark the clause too.
    if hasattr(clause, "pytestmark"):
        copy.__dict__["pytestmark"] = [*clause.__dict__["pytestmark"]]
    return copy


def _is_copy(value: object) -> bool:
    return getattr(value, _OURS, False) is True
