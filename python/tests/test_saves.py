"""Which blocks are stored, under which names, and what a step waits for."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from membrain.vllm.saves import SavePlanner
from membrain.vllm.settings import Group

BLOCK = 4
FULL = Group(0, BLOCK, ("attention",))
NAMES = [bytes([number]) * 4 for number in range(1, 33)]


def planner_of(*groups: Group) -> SavePlanner:
    settings: Any = SimpleNamespace(
        groups=groups, hash_tokens=BLOCK, windows=any(group.window_blocks for group in groups)
    )
    return SavePlanner(settings)


def request_of(tokens: int) -> Any:
    hashes = NAMES[: tokens // BLOCK]
    return SimpleNamespace(request_id="r", block_hashes=hashes, num_tokens=tokens)


def step_of(request: Any = None, ids: Sequence[Sequence[int]] = (), scheduled: int = 0) -> Any:
    """It gets these blocks and computes so many tokens; or nothing happens."""
    new = [SimpleNamespace(req_id="r", block_ids=ids, num_computed_tokens=0)] if request else []
    cached = SimpleNamespace(
        req_ids=[], resumed_req_ids=set(), new_block_ids=[], num_computed_tokens=[]
    )
    return SimpleNamespace(
        preempted_req_ids=None,
        scheduled_new_reqs=new,
        scheduled_cached_reqs=cached,
        num_scheduled_tokens={"r": scheduled},
    )


def test_blocks_before_the_window_of_a_finished_request_are_fenced_when_others_get_them() -> None:
    window = Group(1, BLOCK, ("sliding",), window_blocks=2, window_tokens=9)
    planner, request = planner_of(FULL, window), request_of(41)
    planner.admit(request, 0)
    blocks = [list(range(1, 12)), list(range(21, 32))]
    saves, fence = planner.plan(step_of(request, blocks, 41))
    assert fence == []
    assert planner.finished(request), "what is in the window, and all of the full group, is kept"
    assert planner.plan(step_of()) == ([], []), "nobody has got them"
    kept = [save for save in saves if save.group == 1 and save.first_depth >= 8]
    (past,) = [save for save in saves if save.group == 1 and save.first_depth < 8]

    def given(*ids: int) -> list[int]:
        """The fence when another request gets these, of which it finds the first one here."""
        other = request_of(2 * BLOCK)
        other.request_id = "other"
        new = step_of(other, [[60, 61], list(ids)], BLOCK)
        new.scheduled_new_reqs[0].req_id = "other"
        new.scheduled_new_reqs[0].num_computed_tokens = BLOCK
        return planner.plan(new)[1]

    assert given(past.ids[0], kept[0].ids[0]) == [], "it reads the first, and the other is kept"
    assert given(60, past.ids[3]) == [past.number]
    assert given(60, past.ids[3]) == [], "once"


def test_a_load_into_blocks_that_may_still_be_read_is_fenced() -> None:
    window = Group(0, BLOCK, ("sliding",), window_blocks=2, window_tokens=9)
    planner, request = planner_of(window), request_of(41)
    planner.admit(request, 0)
    saves, _ = planner.plan(step_of(request, [list(range(1, 12))], 41))
    assert planner.finished(request)
    assert planner.plan(step_of(), saves[0].ids[:1]) == ([], [saves[0].number])


def test_blocks_that_are_none_are_never_stored() -> None:
    state = Group(0, BLOCK, ("mamba",), window_blocks=1)
    planner, request = planner_of(state), request_of(6 * BLOCK)
    planner.admit(request, 0)
    saves, _ = planner.plan(step_of(request, [[0, 0, 7, 0, 0, 9]], 6 * BLOCK))
    assert [(save.ids, save.hashes, save.parent) for save in saves] == [
        ((7,), (NAMES[2],), NAMES[1]),
        ((9,), (NAMES[5],), NAMES[4]),
    ]


def test_blocks_of_a_preempted_request_are_fenced_when_others_get_them() -> None:
    window = Group(1, BLOCK, ("sliding",), window_blocks=2, window_tokens=9)
    planner, request = planner_of(FULL, window), request_of(41)
    planner.admit(request, 0)
    saves, _ = planner.plan(step_of(request, [list(range(1, 12)), list(range(21, 32))], 41))
    gone = step_of()
    gone.preempted_req_ids = {"r"}
    assert planner.plan(gone) == ([], []), "nobody has got them"
    assert not planner.finished(request), "nothing of it is kept"
    _, fence = planner.plan(step_of(), [i for save in saves for i in save.ids])
    assert fence == [save.number for save in saves]


def test_blocks_that_a_window_has_moved_past_are_fenced_in_the_step_that_gives_them() -> None:
    window = Group(0, BLOCK, ("sliding",), window_blocks=2, window_tokens=9)
    planner, request = planner_of(window), request_of(41)
    planner.admit(request, 0)
    saves, _ = planner.plan(step_of(request, [[1, 2, 3, 4]], 16))
    on = step_of()
    on.scheduled_cached_reqs = SimpleNamespace(
        req_ids=["r"],
        resumed_req_ids=set(),
        new_block_ids=[([1, 5],)],  # it gets its own first block again
        num_computed_tokens=[16],
    )
    on.num_scheduled_tokens = {"r": 8}
    first = next(save for save in saves if 1 in save.ids)
    assert planner.plan(on)[1] == [first.number]
