"""No fault breaks a promise: the half of the faults that show it within seconds. ``make faults`` plays all of them."""

import pytest

from tests.faults import scenarios, scenarios_model  # noqa: F401 - the first one fills the table
from tests.faults.__main__ import play, why_not
from tests.faults.outcomes import FAULTS, Fault
from tests.faults.world import World

pytestmark = [pytest.mark.faults, pytest.mark.postgres, pytest.mark.slow]

_QUICK = [pytest.param(fault, id=fault.id) for _, fault in sorted(FAULTS.items()) if fault.is_quick]


@pytest.mark.parametrize("fault", _QUICK)
async def test_no_promise_is_broken(fault_world: World, fault: Fault):
    if why := why_not(fault):
        pytest.skip(why)
    outcome = await play(fault_world, fault, seed=1)
    assert outcome.passed, "\n".join(map(str, outcome.findings))


async def test_no_promise_is_broken_by_a_provider(fault_world: World):
    outcome = await scenarios_model.one_after_another(fault_world, seed=1)
    assert outcome.passed, "\n".join(map(str, outcome.findings))
