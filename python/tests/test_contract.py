"""The connector under vLLM's contract, on a simulated cluster: by name what is in vllm.md, and
then anything at all, by seed."""

from __future__ import annotations

import gc
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from contract.engine import Engine, Shape
from contract.fake_cluster import FakeCluster, Faults
from contract.model import GroupSpec, align_of
from contract.requests import Request, Status
from contract.simulated import connector_on
from contract.step import SchedulerOutput
from contract.tensors import Tensor
from membrain.vllm import settings

PROMPT = list(range(100, 141))  # ten blocks and one token
HYBRID = Shape(groups=(GroupSpec(), GroupSpec(window_tokens=9)), blocks=96)
SHAPES = {
    "one rank": Shape(),
    "two ranks": Shape(ranks=2),
    "more ranks than heads": Shape(ranks=4, kv_heads=2),
    "MLA": Shape(ranks=2, mla=True),
    "more heads in windows": Shape(
        groups=(GroupSpec(), GroupSpec(window_tokens=9, own=True)), ranks=4, kv_heads=2, blocks=96
    ),
    "full and window": HYBRID,
    "two windows, two ranks": Shape(
        groups=(GroupSpec(), GroupSpec(window_tokens=6), GroupSpec(window_tokens=13)),
        blocks=128,
        ranks=2,
    ),
    "two block sizes": Shape(groups=(GroupSpec(), GroupSpec(block_tokens=8)), blocks=96),
    "a window of other blocks, two stages": Shape(
        groups=(GroupSpec(), GroupSpec(window_tokens=9, block_tokens=6)), blocks=96, stages=2
    ),
}


def most(shape: Shape, tokens: int) -> int:
    """That can be loaded of so many. With windows the last block's beginning is needed again."""
    tokens -= any(group.window_tokens for group in shape.groups)
    return tokens - tokens % align_of(shape.groups)


class House:
    """A cluster and engines."""

    def __init__(self, shape: Shape = SHAPES["one rank"], seed: int = 1, **faults: float) -> None:
        self.cluster = FakeCluster(seed, Faults(**faults))
        self.shape = shape
        self.engines: list[Engine] = []

    def engine(self, shape: Shape | None = None, **extra: Any) -> Engine:
        name = f"engine {len(self.engines)}"
        made = Engine(name, shape or self.shape, connector_on(self.cluster), **extra)
        self.engines.append(made)
        return made

    def close(self) -> None:
        for engine in self.engines:
            engine.run()
            engine.close()
        self.cluster.assert_nothing_held()


def serve(engine: Engine, name: str, prompt: list[int] = PROMPT, output: int = 1) -> int:
    """Runs one request to its end. Tokens that were loaded for it."""
    before = engine.scheduler.loaded_tokens
    engine.add(name, prompt, output)
    engine.run()
    return engine.scheduler.loaded_tokens - before


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_what_one_engine_computed_another_loads(shape: Shape) -> None:
    house = House(shape)
    assert serve(house.engine(), "a") == 0
    assert serve(house.engine(), "b") == most(shape, len(PROMPT))
    house.close()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_whole_prompt_may_be_loaded(shape: Shape) -> None:
    house = House(shape)
    serve(house.engine(), "a", PROMPT[:40])
    assert serve(house.engine(), "b", PROMPT[:40]) == most(shape, 40)
    house.close()


def test_what_is_there_in_part_is_loaded_in_part() -> None:
    house = House()
    serve(house.engine(), "a", PROMPT[:20])
    other = house.engine()
    assert serve(other, "b") == 20
    assert serve(house.engine(), "c") == 40, "b stored the rest"
    house.close()


def test_what_is_at_hand_is_not_loaded() -> None:
    house = House()
    engine = house.engine()
    serve(engine, "a")
    assert serve(engine, "b") == 0
    other = house.engine()
    serve(other, "c", PROMPT[:16])
    assert serve(other, "d") == 24
    house.close()


def test_tokens_that_were_generated_are_stored_too() -> None:
    house = House()
    engine = house.engine()
    request = engine.add("a", PROMPT, 12)
    engine.run()
    assert serve(house.engine(), "b", request.tokens) == 52
    house.close()


def test_prompts_longer_than_a_step_are_stored_step_by_step() -> None:
    house = House(Shape(budget=8))
    serve(house.engine(), "a", list(range(200)))
    assert serve(house.engine(), "b", list(range(200))) == 200
    house.close()


def test_a_request_that_needs_every_token_computed_loads_none_and_is_stored() -> None:
    house = House()
    serve(house.engine(), "a")
    engine = house.engine()
    engine.add("b", PROMPT, skip_reading_prefix_cache=True)
    engine.add("c", [7, *PROMPT], skip_reading_prefix_cache=True)
    engine.run()
    assert engine.scheduler.loaded_tokens == 0
    assert serve(house.engine(), "d", [7, *PROMPT]) == 40
    house.close()


def test_preemption_while_saving_stores_no_other_requests_bytes() -> None:
    preempted = 0
    for seed in range(30):
        house = House(Shape(blocks=22, budget=64), seed, slow=0.5)
        engine = house.engine()
        for number in range(4):
            engine.add(f"r{number}", [number] * 5 + PROMPT[:20], 12)
        while engine.scheduler.unfinished:
            preempted += len(engine.step().preempted_req_ids)
        reader = house.engine(Shape())
        for number in range(4):
            serve(reader, f"s{number}", [number] * 5 + PROMPT[:20])
        house.close()
    assert preempted > 20


def test_a_block_that_fails_is_computed_and_loaded_no_more() -> None:
    for seed in range(20):
        house = House(seed=seed)
        serve(house.engine(), "a")
        house.cluster.faults.fetch_item = 0.3
        engine = house.engine()
        serve(engine, "b")
        house.close()


def test_a_load_that_fails_whole_is_asked_for_once() -> None:
    house = House()
    serve(house.engine(), "a")
    house.cluster.faults.fetch = 1.0
    engine = house.engine()
    assert serve(engine, "b") == 0
    assert engine.scheduler.failed_loads == 1
    house.close()


@pytest.mark.parametrize("survives", [False, True])
def test_a_scheduler_that_a_failed_load_would_end_is_given_none(
    survives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM up to 0.26, with several groups. Told that it survives, it shows how it ends."""
    monkeypatch.setattr(settings, "survives_failed_loads", lambda groups: survives)
    house = House(HYBRID)
    serve(house.engine(), "a")
    house.cluster.faults.fetch = 1.0
    engine = house.engine()
    engine.scheduler.knows_one_group = True
    if survives:
        with pytest.raises(ValueError, match="too many values to unpack"):
            serve(engine, "b")
        return
    assert serve(engine, "b", [*PROMPT, 7, 7, 7, 7]) == 0
    house.cluster.faults.fetch = 0.0
    monkeypatch.undo()
    assert serve(house.engine(), "c", [*PROMPT, 7, 7, 7, 7]) == 44, "it stores all the same"
    house.close()


def test_one_rank_that_fails_fails_the_block_for_all() -> None:
    house = House(SHAPES["two ranks"])
    serve(house.engine(), "a")
    engine = house.engine()
    engine.add("b", PROMPT)
    while not any(part == 1 for _, _, part in house.cluster.blocks):
        engine.step()
    request = engine.scheduler.requests["b"]
    while request.status is not Status.WAITING_FOR_REMOTE_KVS:
        engine.step()
    lost = [key for key in house.cluster.blocks if key[2] == 1][3]
    del house.cluster.blocks[lost]  # pinned or not
    engine.run()
    house.close()


class Event:
    """torch.cuda.Event's place."""

    recorded: ClassVar[set[int]] = set()
    made: ClassVar[int] = 0

    def __init__(self) -> None:
        Event.made += 1
        self.cuda_event = Event.made

    def record(self) -> None:
        Event.recorded.add(self.cuda_event)

    def __del__(self) -> None:
        Event.recorded.discard(self.cuda_event)


def test_on_a_gpu_nothing_moves_before_the_engine_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "device", SimpleNamespace(type="cuda", index=0))
    torch: Any = ModuleType("torch")
    torch.cuda = SimpleNamespace(Event=Event)
    monkeypatch.setitem(sys.modules, "torch", torch)
    house = House(slow=0.5)
    house.cluster.events = Event.recorded
    serve(house.engine(), "a")
    assert serve(house.engine(), "b", [*PROMPT, 7, 7, 7, 7]) == 40
    house.close()
    gc.collect()
    assert Event.made > 1 and not Event.recorded, "events are kept no longer than transfers"


@pytest.mark.parametrize("steps", range(8))
def test_abort_at_each_stage_leaves_nothing(steps: int) -> None:
    for seed in range(20):
        house = House(HYBRID, seed, slow=0.3)
        serve(house.engine(), "a")
        engine = house.engine()
        engine.add("b", PROMPT, 4)
        engine.add("c", [7, *PROMPT], 4)
        for _ in range(steps):
            engine.step()
        for name in ("b", "c"):
            if name in engine.scheduler.requests:
                engine.scheduler.abort(name)
        house.close()


@pytest.mark.parametrize("steps", range(8))
def test_a_server_that_goes_at_any_stage_means_misses(steps: int) -> None:
    for seed in range(10):
        house = House(SHAPES["two ranks"], seed, slow=0.3)
        serve(house.engine(), "a")
        engine = house.engine()
        for number in range(3):
            engine.add(f"b{number}", [*PROMPT, number])
        for _ in range(steps):
            engine.step()
        house.cluster.down = True
        engine.run()
        serve(engine, "c", [5, *PROMPT])
        house.cluster.down = False
        serve(engine, "d", [6, *PROMPT])
        assert serve(house.engine(), "e", [6, *PROMPT]) == 40, "it is used again"
        house.close()


def test_loads_that_do_not_fit_together_take_turns() -> None:
    house = House(Shape(blocks=24))
    serve(house.engine(), "a", list(range(44)))
    engine = house.engine()
    for number in range(4):  # each needs sixteen blocks, eleven of which are loaded
        engine.add(f"b{number}", [*range(44), *range(1000 * number, 1000 * number + 20)])
    engine.run()
    assert engine.scheduler.loaded_tokens > 0
    house.close()


def test_an_engine_starts_without_a_server_and_uses_it_later() -> None:
    house = House()
    house.cluster.down = True
    engine = house.engine()
    serve(engine, "a")
    house.cluster.down = False
    serve(engine, "b", [1, *PROMPT])
    assert serve(house.engine(), "c", [1, *PROMPT]) == 40
    house.close()


def test_eviction_between_lookup_and_load_takes_nothing_that_is_pinned() -> None:
    house = House()
    serve(house.engine(), "a")
    engine = house.engine()
    engine.add("b", PROMPT)
    request = engine.scheduler.requests["b"]
    while request.status is not Status.WAITING_FOR_REMOTE_KVS:
        engine.step()
    assert house.cluster.evict(100) == 0
    engine.run()
    assert engine.scheduler.loaded_tokens == 40
    house.close()


def test_another_hash_seed_shares_nothing() -> None:
    house = House()
    engine = house.engine()
    engine.add("a", PROMPT, seed=b"one")
    engine.run()
    other = house.engine()
    other.add("b", PROMPT, seed=b"two")
    other.run()
    assert other.scheduler.loaded_tokens == 0
    house.close()


def test_a_reset_forgets_for_everyone() -> None:
    house = House()
    engine, other = house.engine(), house.engine()
    serve(engine, "a")
    assert engine.scheduler_connector.reset_cache()
    assert serve(other, "b") == 0, "the first one to ask finds it cleared"
    serve(other, "c", [3, *PROMPT])
    assert serve(house.engine(), "d", [3, *PROMPT]) == 40
    house.cluster.down = True
    assert engine.scheduler_connector.reset_cache() is False
    house.close()


def test_engines_of_other_weights_or_shapes_share_nothing() -> None:
    house = House()
    serve(house.engine(), "a")
    assert serve(house.engine(weights_version="2"), "b") == 0
    assert serve(house.engine(model="another"), "c") == 0
    assert serve(house.engine(SHAPES["two ranks"]), "d") == 0
    house.close()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_among_other_connectors_it_learns_its_namespaces_in_the_first_step(shape: Shape) -> None:
    house = House(shape)
    engine = house.engine(among_others=True)
    serve(engine, "a", [1, *PROMPT])
    serve(engine, "b")
    whole = most(shape, len(PROMPT))
    assert serve(house.engine(), "c") == whole, "the workers stored from the first step on"
    other = house.engine(among_others=True)
    serve(other, "d")
    assert serve(other, "e", [1, *PROMPT]) == most(shape, 1 + len(PROMPT))
    house.close()


def test_what_was_found_before_a_reset_is_not_loaded_after_it() -> None:
    for steps in range(12):
        house = House(seed=steps)
        serve(house.engine(), "a")
        engine = house.engine()
        engine.add("b", PROMPT)
        for _ in range(steps):  # it is looked up, or granted, or neither
            engine.scheduler_connector.build_connector_meta(SchedulerOutput())
        assert engine.scheduler_connector.reset_cache()
        engine.run()
        assert engine.scheduler.loaded_tokens == 0
        house.close()


def test_a_load_that_is_under_way_at_a_reset_fails() -> None:
    caught = 0
    for seed in range(20):
        house = House(seed=seed, slow=1.0)
        serve(house.engine(), "a")
        engine = house.engine()
        engine.add("b", PROMPT)
        while engine.scheduler.requests["b"].status is not Status.WAITING_FOR_REMOTE_KVS:
            engine.step()
        under_way = engine.workers[0].worker.held > 0
        assert engine.scheduler_connector.reset_cache()
        engine.run()
        assert engine.scheduler.loaded_tokens == (0 if under_way else 40)
        caught += under_way
        house.close()
    assert caught > 5


def _amid_a_prompt_with_new_weights(house: House) -> tuple[Engine, Request]:
    """80 of its 200 tokens are computed with the old ones."""
    engine = house.engine()
    running = engine.add("a", list(range(200)), 20)
    while running.num_computed_tokens < 80:
        engine.step()
    engine.update_weights(b"new")
    return engine, running


def test_what_was_computed_with_weights_of_before_a_reset_is_not_stored_after_it() -> None:
    house = House(Shape(budget=8))
    engine, running = _amid_a_prompt_with_new_weights(house)
    assert engine.scheduler_connector.reset_cache()
    engine.run()
    assert running.tokens[:200] == list(range(200)) and len(running.tokens) == 220, "it went on"
    other = house.engine()
    other.weights = b"new"
    serve(other, "b", running.tokens)
    third = house.engine()
    third.weights = b"new"
    assert serve(third, "c", running.tokens) == 220, "what the second computed"
    house.close()


def test_running_requests_that_are_reset_store_what_they_compute_again() -> None:
    house = House(Shape(budget=8))
    engine, running = _amid_a_prompt_with_new_weights(house)
    assert engine.scheduler.reset_prefix_cache(reset_connector=True)
    engine.run()
    third = house.engine()
    third.weights = b"new"
    assert serve(third, "c", running.tokens) == 216
    house.close()


def test_preemptions_that_nobody_tells_of_store_no_other_requests_bytes() -> None:
    for seed in range(30):
        house = House(Shape(blocks=24, budget=64), seed, slow=1.0)
        engine = house.engine(role="kv_producer")  # asks nothing: they run again at once
        for number in range(3):
            engine.add(f"r{number}", [number] * 5 + PROMPT[:20], 2)
        engine.step()
        assert len(engine.scheduler.running) > 1
        assert engine.scheduler.reset_prefix_cache()
        engine.run()
        reader = house.engine(Shape())
        for number in range(3):
            serve(reader, f"s{number}", [number] * 5 + PROMPT[:20])
        house.close()


@pytest.mark.parametrize("steps", range(4))
def test_abort_after_a_preemption_that_nobody_tells_of_leaves_nothing(steps: int) -> None:
    aborted = 0
    for seed in range(20):
        house = House(seed=seed, slow=0.5)
        engine = house.engine()
        serve(engine, "a")
        request = engine.add("b", [*PROMPT, *range(20)], 30)
        while request.num_computed_tokens < 60:
            engine.step()
        engine.scheduler.reset_prefix_cache()
        while request.status not in (Status.WAITING_FOR_REMOTE_KVS, Status.RUNNING):
            engine.step()
        for _ in range(steps):
            engine.step()
        aborted += request.status is Status.WAITING_FOR_REMOTE_KVS
        engine.scheduler.abort("b")
        house.close()
    assert aborted > 0


def test_roles_are_kept() -> None:
    house = House()
    serve(house.engine(role="kv_consumer"), "a")
    assert not house.cluster.blocks
    serve(house.engine(role="kv_producer"), "b")
    assert house.cluster.blocks
    assert serve(house.engine(role="kv_producer"), "c") == 0
    assert serve(house.engine(role="kv_consumer"), "d") == 40
    house.close()


def test_mla_blocks_are_stored_once_by_ranks_in_turns() -> None:
    house = House(SHAPES["MLA"])
    engine = house.engine()
    serve(engine, "a")
    stats = [worker.get_kv_connector_stats() for worker in engine.workers]
    assert [stat.data["saved_blocks"] for stat in stats if stat] == [5, 5]
    house.close()
