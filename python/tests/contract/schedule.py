"""Engines, requests, faults and the order of everything, by one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from contract.engine import Engine, Shape
from contract.fake_cluster import FakeCluster, Faults
from contract.model import GroupSpec
from contract.simulated import connector_on

GROUPS = (
    (GroupSpec(),),
    (GroupSpec(), GroupSpec(window_tokens=9)),
    (GroupSpec(window_tokens=6),),
    (GroupSpec(), GroupSpec(window_tokens=13), GroupSpec(window_tokens=2)),
    (GroupSpec(), GroupSpec(block_tokens=8)),
    (GroupSpec(block_tokens=6), GroupSpec(window_tokens=9), GroupSpec(window_tokens=7)),
    (GroupSpec(block_tokens=2), GroupSpec(window_tokens=9, block_tokens=8)),
)
# Tokens of a request: a beginning of what was asked before, what is new, what is answered.
MOST_SHARED = 56
NEW = (0, 0, 1, 6, 12)
OUTPUT = (1, 1, 3, 12)
MOST_TOKENS = MOST_SHARED + max(NEW) + max(OUTPUT)


@dataclass
class Outcome:
    loaded_tokens: int = 0
    failed_loads: int = 0
    preemptions: int = 0
    aborts: int = 0
    requests: int = 0
    trouble: list[str] = field(default_factory=list)


class Schedule:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cluster = FakeCluster(seed, self._faults())
        self.outcome = Outcome()
        self.shape = self._shape()
        self.engines = [self._engine() for _ in range(self.random.randint(1, 2))]
        self.stems = [self._tokens(80) for _ in range(3)]

    def _faults(self) -> Faults:
        if self.random.random() < 0.3:
            return Faults(slow=self.random.choice([0.0, 0.3]))
        pick = self.random.choice
        return Faults(
            lookup=pick([0, 0.1]),
            grant=pick([0, 0, 0.1]),
            fetch=pick([0, 0, 0.2]),
            fetch_item=pick([0, 0.02, 0.1]),
            store_item=pick([0, 0, 0.05]),
            shed=pick([0, 0, 0.2]),
            evict=pick([0, 0.05, 0.5]),
            slow=pick([0, 0.2, 0.6]),
        )

    def _shape(self) -> Shape:
        pick = self.random.choice
        groups = pick(GROUPS)
        # As vLLM demands at its start: the longest request fits, however it is cut.
        least = 1 + sum(-(-MOST_TOKENS // group.block_tokens) for group in groups)
        return Shape(
            groups=groups,
            ranks=pick([1, 1, 2]),
            stages=pick([1, 1, 1, 2]),
            kv_heads=pick([8, 1]),
            layers=1,
            blocks=max(least, pick([22, 28, 48]) * len(groups)),
            budget=pick([8, 16, 48]),
        )

    def _engine(self) -> Engine:
        return Engine(
            "engine",
            self.shape,
            connector_on(self.cluster),
            hold_timeout=self.random.choice([0.05, 30.0]),
            lookup_timeout=0.02,
            events=self.random.random() < 0.2,
            among_others=self.random.random() < 0.2,
        )

    def _tokens(self, count: int) -> list[int]:
        return [self.random.randrange(50) for _ in range(count)]

    def _prompt(self) -> list[int]:
        """The beginning of something that was asked before, and something new."""
        stem = self.random.choice(self.stems)[: self.random.randint(1, MOST_SHARED)]
        return stem + self._tokens(self.random.choice(NEW))

    def run(self) -> Outcome:
        for _ in range(self.random.randint(40, 160)):
            self._act()
        if self.random.random() < 0.8:
            self.cluster.down = False
        for engine in self.engines:
            engine.run()
            self.outcome.loaded_tokens += engine.scheduler.loaded_tokens
            self.outcome.failed_loads += engine.scheduler.failed_loads
            engine.close()
        self.cluster.assert_nothing_held()
        return self.outcome

    def _act(self) -> None:
        engine = self.random.choice(self.engines)
        what = self.random.random()
        if what < 0.3 and len(engine.scheduler.requests) < 8:
            self.outcome.requests += 1
            name = f"request {self.outcome.requests}"
            engine.add(name, self._prompt(), self.random.choice(OUTPUT))
        elif what < 0.33 and engine.scheduler.requests:
            self.outcome.aborts += 1
            engine.scheduler.abort(self.random.choice(list(engine.scheduler.requests)))
        elif what < 0.34 or (self.cluster.down and what < 0.40):
            self.cluster.down = not self.cluster.down
        elif what < 0.42:
            self.cluster.evict(self.random.randint(1, 20))
        elif what < 0.423:
            engine.scheduler_connector.reset_cache()
        elif what < 0.426:
            engine.scheduler.reset_prefix_cache(reset_connector=self.random.random() < 0.5)
        elif what < 0.44:
            self.cluster.ticks += self.random.choice([10, 100, 60_000])
        else:
            self.outcome.preemptions += len(engine.step().preempted_req_ids)
