"""Random interleavings under the contract, by seed: MEMBRAIN_CONTRACT_SEED runs one alone,
MEMBRAIN_CONTRACT_SCHEDULES that many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from contract.schedule import Schedule

ONE = os.environ.get("MEMBRAIN_CONTRACT_SEED")
COUNT = int(os.environ.get("MEMBRAIN_CONTRACT_SCHEDULES", "1000"))
FIRST = int(ONE) if ONE else 1
PER_TEST = 100


@pytest.mark.parametrize("first", range(FIRST, FIRST + (1 if ONE else COUNT), PER_TEST))
def test_no_byte_is_wrong_and_nothing_is_left(first: int) -> None:
    count = 1 if ONE else min(PER_TEST, FIRST + COUNT - first)
    loaded = failed = preempted = 0
    for seed in range(first, first + count):
        try:
            outcome = Schedule(seed).run()
        except BaseException as error:
            error.add_note(f"MEMBRAIN_CONTRACT_SEED={seed} runs it alone")
            raise
        loaded += outcome.loaded_tokens
        failed += outcome.failed_loads
        preempted += outcome.preemptions
    if count == PER_TEST:
        assert loaded > 100 and failed > 0 and preempted > 0, "it shows nothing"


REPEATED = """
from contract.schedule import Schedule
schedules = [Schedule(seed) for seed in range(1110, 1116)]
print([(schedule.run(), schedule.cluster.ticks) for schedule in schedules])
"""


def test_a_seed_is_the_same_schedule_in_every_process() -> None:
    """Whatever order Python's sets have there."""
    here = Path(__file__).parent
    seen = set()
    for hashing in ("1", "5"):
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        environment["PYTHONPATH"] = f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        command = [sys.executable, "-c", REPEATED]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        seen.add(ran.stdout)
    assert len(seen) == 1 and "loaded_tokens" in seen.pop()
