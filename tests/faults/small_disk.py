"""A file system that is soon full: one of Linux's in memory, for which one has to be root."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The bit of CAP_SYS_ADMIN (capabilities(7)).
_ADMIN = 21


def may_mount() -> bool:
    """Whether this process may mount what it likes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    held = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(held, 16) >> _ADMIN & 1)


class SmallDisk:
    """A mounted file system, and what takes up its room."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Take all that is free."""
        with self._ballast.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                pass

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink()


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """Mounted while this lasts, where everybody may read it."""
    path = Path(tempfile.mkdtemp(prefix="faults-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "small", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)
        path.rmdir()
