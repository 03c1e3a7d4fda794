"""Loading what a process needs, and no more than that: a third of a start went into the rest."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Absent:
    """An importer that comes before all others, and says that there are no such modules."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {name!r} is wanted here", name=name)
        return None


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """What is imported meanwhile does not find these packages, as where they are not installed.

    For libraries that can work with many others, and load each that they find. Whatever is loaded already is found.
    """
    finder = _Absent([name for name in names if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
