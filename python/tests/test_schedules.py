"""Random interleavings under the contract, by seed: MEMBRAIN_CONTRACT_SEED runs one alone,
MEMBRAIN_CONTRACT_SCHEDULES that many."""

from __future__ import annotations

import os

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
