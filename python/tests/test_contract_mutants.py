"""The simulated contract can fail: bugs that others had, put into the connector, are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import test_contract
from contract.schedule import Schedule
from membrain.vllm import lookups
from membrain.vllm.lookups import Lookups
from membrain.vllm.rooms import Rooms
from membrain.vllm.saves import SavePlanner
from membrain.vllm.worker import WorkerSide

SCHEDULES = 300


def nothing(*_: Any, **__: Any) -> None:
    pass


def hit_without_limit(right: Callable[..., int]) -> Callable[..., int]:
    return lambda settings, matches, limit: right(settings, matches, limit + 1)


def early(right: Callable[..., Any]) -> Callable[..., Any]:
    """Reports a load when its grants have come."""

    def adopted(self: WorkerSide, operation: Any, match: Any, error: Any) -> None:
        right(self, operation, match, error)
        self._received.add(operation.loading.load.request)

    return adopted


MUTANTS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "saves are not fenced": (WorkerSide, "fence", lambda _: nothing),
    "nobody knows who reads a block": (SavePlanner, "_read", lambda _: lambda *_: set()),
    "blocks of finished requests are freed": (SavePlanner, "finished", lambda _: nothing),
    "blocks that others get are unfenced": (SavePlanner, "_given", lambda _: lambda *_: set()),
    "failed blocks are not reported": (WorkerSide, "errors", lambda _: lambda _: set()),
    "pins of loads are kept": (Lookups, "loaded", lambda _: nothing),
    "pins of aborted requests are kept": (Lookups, "drop", lambda _: nothing),
    "loads take all blocks": (Rooms, "fits", lambda _: lambda *_: True),
    "a load has ended before it began": (WorkerSide, "_adopted", early),
    "the last window is cut short": (lookups, "hit_of", hit_without_limit),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, wrong = MUTANTS[name]
    monkeypatch.setattr(owner, attribute, wrong(getattr(owner, attribute)))
    for seed in range(SCHEDULES + 1):
        try:
            if seed == 0:
                test_contract.test_loads_that_do_not_fit_together_take_turns()
            else:
                Schedule(seed).run()
        except (AssertionError, KeyError):
            return
    pytest.fail(f"{SCHEDULES} schedules did not notice: {name}")
