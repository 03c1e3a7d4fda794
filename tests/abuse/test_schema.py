"""The service does what its OpenAPI document says, whatever is asked, and refuses what it says is refused."""

from pathlib import Path

import pytest

from tests.abuse.fuzz import fuzz


@pytest.mark.abuse("A66")
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_nothing_that_is_asked_breaks_the_service_or_its_document(database, tmp_path: Path, request):
    url = f"sqlite:///{tmp_path}/chat.db"
    if database == "postgres":
        url = request.getfixturevalue("postgres").fresh_database()
    found = fuzz(url, tmp_path, cases=100)
    assert not found.failures, found.failures
    assert found.server_errors == 0
    assert found.requests > 3000
