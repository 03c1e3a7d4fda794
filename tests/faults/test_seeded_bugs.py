"""A service with a bug on purpose does not pass: each of the seeded bugs is seen by the check that is there for it."""

from typing import Any

import pytest

from tests.faults.load import Traffic
from tests.faults.outcomes import Outcome
from tests.faults.world import World

pytestmark = [pytest.mark.faults, pytest.mark.postgres, pytest.mark.slow]


async def _loaded(world: World, bug: str, traffic: dict[str, Any], sends: int, room_ai: dict[str, Any]) -> Outcome:
    """What the judge says of a short load with this bug in every process."""
    environ = {"CHAT_SEEDED_BUG": bug, "CHAT_TEST_BUILD": "1"}
    async with world.system(environ=environ, workers=0) as system:
        people = await system.people(3)
        rooms = [await person.make_room(**room_ai) for person in people]
        await Traffic(people=people, rooms=rooms, seed=1, within=5, **traffic).send(sends, concurrency=6)
        for room in rooms:
            await people[0].read_all(room)
        return await system.judge(bug, within=15)


@pytest.mark.parametrize(
    ("bug", "seen_by", "traffic", "sends", "room_ai"),
    [
        ("seq-outside", {"holes"}, {"repeated": 1.0}, 60, {"mode": "off"}),
        ("lease-skipped", {"double-billed"}, {"marker": "[[slow:700]]"}, 6, {}),
        ("answer-before-commit", {"stale read"}, {"reads": 1.0}, 30, {"mode": "off"}),
        ("event-dropped:20", {"lost", "holes"}, {}, 60, {"mode": "off"}),
    ],
)
async def test_the_bug_is_seen(
    fault_world: World, bug: str, seen_by: set[str], traffic: dict[str, Any], sends: int, room_ai: dict[str, Any]
):
    outcome = await _loaded(fault_world, bug, traffic, sends, room_ai)
    assert seen_by <= {finding.check for finding in outcome.findings}, "\n".join(map(str, outcome.findings))


async def test_the_same_load_without_a_bug_has_no_findings(fault_world: World):
    outcome = await _loaded(fault_world, "", {"repeated": 0.5, "reads": 1.0}, 60, {})
    assert outcome.passed, "\n".join(map(str, outcome.findings))
