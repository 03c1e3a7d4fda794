"""Play all faults, with several seeds, and print the table: ``python -m tests.faults [--seeds 1,2] [--only F01,F14]``.

``--sends`` is how many the steady load makes. The exit code is 1 where a promise was broken.
"""

import argparse
import asyncio
import sys
import time
import traceback

from tests.faults import scenarios  # noqa: F401 - fills the table
from tests.faults.history import Finding
from tests.faults.outcomes import FAULTS, Fault, Outcome, table
from tests.faults.servers import Missing
from tests.faults.world import World, build_has


def why_not(fault: Fault) -> str:
    """Why this one cannot be played here; empty where it can."""
    if fault.why_not:
        return fault.why_not
    lacking = [word for word in fault.needs if not build_has(word)]
    return f"this build does not know {', '.join(lacking)}" if lacking else ""


async def play(world: World, fault: Fault, seed: int) -> Outcome:
    """One try; what breaks on the way is a finding. Raises ``Missing``."""
    assert fault.run is not None
    try:
        async with asyncio.timeout(fault.seconds):
            return await fault.run(world, seed)
    except Missing:
        raise
    except Exception as error:  # noqa: BLE001 - one scenario that breaks is a row of the table
        lines = "".join(traceback.format_exception(error)).splitlines()
        return Outcome(fault=fault.id, findings=[Finding(check="broke", what=repr(error)[:500], evidence=tuple(lines))])


async def play_all(seeds: list[int], only: set[str], sends: int, quick: bool) -> int:
    world = World(sends=sends, quick=quick)
    outcomes: list[Outcome] = []
    left_out: list[str] = []
    try:
        for fault in sorted(FAULTS.values(), key=lambda fault: fault.id):
            if only and fault.id not in only:
                continue
            if why := why_not(fault):
                left_out.append(f"{fault.id} {fault.title}: not run: {why}")
                continue
            for seed in seeds:
                began = time.monotonic()
                outcome = await play(world, fault, seed)
                outcomes.append(outcome)
                word = "passed" if outcome.passed else "FAILED"
                seconds = time.monotonic() - began
                print(f"{fault.id} seed {seed}: {word} in {seconds:.1f} s", file=sys.stderr, flush=True)
                for finding in outcome.findings[:10]:
                    print("\n".join(f"  {line[:600]}" for line in str(finding).splitlines()[-25:]), file=sys.stderr)
    except Missing as missing:
        print(f"nothing can be played here: {missing}", file=sys.stderr)
        return 2
    finally:
        world.close()
    print(table(outcomes))
    print("\n".join(["", *left_out]) if left_out else "")
    print(f"Logs and findings: {world.directory}", file=sys.stderr)
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="1,2,3", help="numbers with commas between (1,2,3)")
    parser.add_argument("--only", default="", help="ids with commas between, such as F01,F14")
    parser.add_argument("--sends", type=int, default=10_000, help="how many the steady load makes (10000)")
    parser.add_argument("--quick", action="store_true", help="shorter loads and waits")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    only = {name.strip().upper() for name in options.only.split(",") if name.strip()}
    return asyncio.run(play_all(seeds, only, options.sends, options.quick))


if __name__ == "__main__":
    sys.exit(main())
