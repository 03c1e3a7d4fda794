"""Python's collector of cycles, in a process that serves."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: So many new objects are let live before the youngest are looked through.
YOUNG = 10_000


def settle() -> None:
    """Take what was loaded out of the collector's sight, and have it look less often; once, when a process is ready.

    Some 150,000 objects of modules and classes live as long as the process does. Each full collection looked through
    all of them: a tenth of the time of a busy process, and requests that stood still for 0.1 s.
    """
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)


@contextmanager
def uncollected() -> Iterator[None]:
    """No cycles are looked for meanwhile, nor ever again among what was there at the end.

    Modules and classes stay as long as the process does, and looking through them while they are made takes a tenth
    of a start.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
