"""The look for known vulnerabilities: it fails for one, and says where it could not look."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.audit import audit, verdict
from tests.e2e.processes import free_port

LOCK = "bad==1.0 --hash=sha256:" + "0" * 64 + "\ngood==2.0 --hash=sha256:" + "1" * 64 + "\n"
HOLE = {"id": "GHSA-x", "summary": "a hole", "aliases": [], "affected": [], "published": "2026-01-01T00:00:00Z"}


class Knows(BaseHTTPRequestHandler):
    """A double of the service: the package ``bad`` has a hole."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"vulns": [HOLE]} if asked["package"]["name"] == "bad" else {}
        body = json.dumps(known).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Knows) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.abuse("A97")
def test_a_known_vulnerability_fails(tmp_path: Path, service: str):
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)
    code, said = audit(lock, "--vulnerability-service", "osv", "--osv-url", service)
    assert code == 1
    assert "bad 1.0: GHSA-x" in said
    assert "good" not in said
    lock.write_text(LOCK.partition("\n")[2])
    assert audit(lock, "--vulnerability-service", "osv", "--osv-url", service) == (
        0,
        "No known vulnerabilities in 1 packages",
    )


@pytest.mark.abuse("A97")
def test_a_service_that_is_away_is_said_and_passed_over(tmp_path: Path):
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)
    nobody = f"http://127.0.0.1:{free_port()}/"
    code, said = audit(lock, "--vulnerability-service", "osv", "--osv-url", nobody)
    assert (code, said.startswith("NOT AUDITED")) == (0, True)


def test_what_the_service_does_not_know_is_not_called_clean():
    skipped = {"name": "a", "skip_reason": "not found"}
    assert verdict({"dependencies": [skipped]}) == (0, "NOT AUDITED: the service knows none of 1 packages")
    known = {"name": "b", "version": "1", "vulns": []}
    code, said = verdict({"dependencies": [skipped, known]})
    assert (code, "NOT AUDITED: 1" in said) == (0, True)
