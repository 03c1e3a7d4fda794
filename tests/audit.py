"""Ask for known vulnerabilities of what is locked: ``python -m tests.audit``, a part of ``make check``.

The exit code is 1 where there is one. Where the service that knows of them is not to be had, that is said, and is no
failure: what cannot be looked up is not known to be bad.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

#: The larger lock holds every version of the smaller one.
LOCK = Path(__file__).parents[1] / "requirements-dev.txt"


def audit(lock: Path, *options: str) -> tuple[int, str]:
    """An exit code and what is to be said, by ``pip-audit`` with these options of its own. Installs nothing."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [
            *(sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"),
            *("--format", "json", "--output", str(report), "--progress-spinner", "off", "--timeout", "5", *options),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not report.exists():
            lines = done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"]
            return 0, f"NOT AUDITED: known vulnerabilities cannot be asked for here ({lines[-1][:200]})"
        return verdict(json.loads(report.read_text()))


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    """What a report says."""
    packages = report["dependencies"]
    audited = [package for package in packages if "skip_reason" not in package]
    found = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none'}"
        for package in audited
        for hole in package["vulns"]
    ]
    unknown = len(packages) - len(audited)
    if found:
        return 1, "\n".join(["VULNERABLE:", *found])
    if not audited:
        return 0, f"NOT AUDITED: the service knows none of {len(packages)} packages"
    said = f"No known vulnerabilities in {len(audited)} packages"
    return 0, said + (f"; NOT AUDITED: {unknown}, which the service does not know" if unknown else "")


if __name__ == "__main__":
    code, said = audit(LOCK, *sys.argv[1:])
    print(said)
    sys.exit(code)
