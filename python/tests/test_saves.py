"""Which blocks are stored, under which names, and what a step waits for."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from membrain.vllm.saves import READERS, SavePlanner
from membrain.vllm.settings import Group

BLOCK = 4
FULL = Group(0, BLOCK, ("attention",))
NAMES = [bytes([number]) * 4 for number in range(1, 33)]


def planner_of(*groups: Group) -> SavePlanner:
    settings: Any = SimpleNamespace(groups=groups, hash_tokens=BLOCK, blocks=64)
    return SavePlanner(settings)


def request_of(tokens: int, name: str = "r") -> Any:
    hashes = NAMES[: tokens // BLOCK]
    return SimpleNamespace(request_id=name, block_hashes=hashes, num_tokens=tokens)


def step_of(
    request: Any = None, ids: Sequence[Sequence[int]] = (), scheduled: int = 0, computed: int = 0
) -> Any:
    """It gets these blocks and computes so many tokens; or nothing happens."""
    name = request.request_id if request else ""
    first = SimpleNamespace(req_id=name, block_ids=ids, num_computed_tokens=computed)
    new = [first] if request else []
    cached = SimpleNamespace(
        req_ids=[], resumed_req_ids=set(), new_block_ids=[], num_computed_tokens=[]
    )
    return SimpleNamespace(
        preempted_req_ids=None,
        scheduled_new_reqs=new,
        scheduled_cached_reqs=cached,
        num_scheduled_tokens={name: scheduled},
    )


def step_on(
    ids: Sequence[int] | None, scheduled: int, computed: int, resumed: bool = False
) -> Any:
    """The request goes on, and gets these blocks; or all of them, if it is `resumed`."""
    on = step_of()
    on.scheduled_cached_reqs = SimpleNamespace(
        req_ids=["r"],
        resumed_req_ids={"r"} if resumed else set(),
        new_block_ids=[None if ids is None else (list(ids),)],
        num_computed_tokens=[computed],
    )
    on.num_scheduled_tokens = {"r": scheduled}
    return on


def test_blocks_before_the_window_of_a_finished_request_are_fenced_when_others_get_them() -> None:
    window = Group(1, BLOCK, ("sliding",), window_blocks=2, window_tokens=9)
    planner, request = planner_of(FULL, window), request_of(41)
    planner.admit(request, 0)
    blocks = [list(range(1, 12)), list(range(21, 32))]
    saves, fence = planner.plan(step_of(request, blocks, 41))
    assert fence == []
    assert planner.finished(request), "what is in the window, and all of the full group, is kept"
    assert planner.plan(step_of()) == ([], []), "nobody has got them"
    (past,) = [save for save in saves if save.group == 1 and save.first_depth < 8]

    def given(*ids: int) -> list[int]:
        """The fence when another request gets these, of which it finds the first one here."""
        other = request_of(2 * BLOCK, "other")
        return planner.plan(step_of(other, [[60, 61], list(ids)], BLOCK, BLOCK))[1]

    assert given(past.ids[0], 62) == [], "it reads the first"
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
    first = next(save for save in saves if 1 in save.ids)
    again = step_on([1, 5], 8, 16)  # it gets its own first block again
    assert planner.plan(again)[1] == [first.number]


def test_a_preemption_that_nobody_tells_of_is_known_when_the_request_has_blocks_again() -> None:
    planner, request = planner_of(FULL), request_of(5 * BLOCK)
    planner.admit(request, 0)
    (save,), _ = planner.plan(step_of(request, [[1, 2, 3, 4]], 4 * BLOCK))
    planner.admit(request, 0)
    assert not planner.finished(request), "nothing reads what it has now"
    planner.admit(request, 0)
    (again,), fence = planner.plan(step_on([9, 3, 8, 7], 4 * BLOCK, 0, resumed=True))
    assert fence == [save.number], "the third block is read as the second"
    assert (again.ids, again.hashes) == ((9, 3, 8, 7), tuple(NAMES[:4]))
    planner.admit(request, 2 * BLOCK)  # likewise, and now the cluster has two blocks
    (last,), _ = planner.plan(step_on([11, 12, 13, 14], BLOCK, 3 * BLOCK, resumed=True))
    assert last.hashes == tuple(NAMES[2:4])


def test_a_block_that_many_read_is_fenced_from_the_oldest() -> None:
    planner = planner_of(FULL)
    numbers, fences = [], []
    for name in range(READERS + 3):
        request = request_of(BLOCK + 1, str(name))
        planner.admit(request, 0)
        (save,), fence = planner.plan(step_of(request, [[1, 40]], 1, BLOCK))
        numbers.append(save.number)
        fences += fence
    assert fences == numbers[:3]


def test_after_a_reset_nothing_is_stored_that_was_computed_before_or_on_it() -> None:
    planner, request = planner_of(FULL), request_of(9 * BLOCK)
    planner.admit(request, 0)
    assert planner.plan(step_of(request, [[1, 2]], 2 * BLOCK))[0]
    planner.reset()
    assert planner.plan(step_on([3], BLOCK, 2 * BLOCK))[0] == [], "it goes on"
    other = request_of(5 * BLOCK, "finds it")
    planner.admit(other, 0)
    assert planner.plan(step_of(other, [[1, 2, 3, 4]], BLOCK, 3 * BLOCK))[0] == []
    another = request_of(5 * BLOCK, "finds what that one computed")
    planner.admit(another, 0)
    assert planner.plan(step_of(another, [[1, 2, 3, 4, 5]], BLOCK, 4 * BLOCK))[0] == []
    assert not planner.finished(another), "nothing reads its blocks"


def test_after_a_reset_what_is_computed_anew_is_stored() -> None:
    planner, request = planner_of(FULL), request_of(4 * BLOCK)
    planner.admit(request, 0)
    planner.plan(step_of(request, [[1, 2]], 2 * BLOCK))
    planner.reset()
    gone = step_of()
    gone.preempted_req_ids = {"r"}
    planner.plan(gone)
    planner.admit(request, 0)
    (save,), _ = planner.plan(step_on([2, 1], 2 * BLOCK, 0, resumed=True))
    assert save.ids == (2, 1)
    other = request_of(4 * BLOCK, "other")
    planner.admit(other, BLOCK)
    planner.plan(step_of(), [7])  # its first block is loaded
    (save,), _ = planner.plan(step_of(other, [[7, 8, 9]], 2 * BLOCK, BLOCK))
    assert save.ids == (8, 9)
