"""The connector against a real server and node: the contract's engines, every byte."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server, own_address
from contract.engine import Engine, Shape
from test_contract import HYBRID, PROMPT, SHAPES


# Where a test asks what is found, no pause of the machine may be long enough to make it a miss.
PATIENT: dict[str, Any] = {"lookup_timeout": 60.0, "load_timeout": 60.0}


class House:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.engines: list[Engine] = []

    def engine(self, shape: Shape = SHAPES["one rank"], **extra: Any) -> Engine:
        made = Engine("engine", shape, server=self.server.address, **{**PATIENT, **extra})
        self.engines.append(made)
        return made

    def opened(self, shape: Shape = SHAPES["one rank"], **extra: Any) -> Engine:
        engine = self.engine(shape, **extra)
        wait_until_open(engine)
        return engine


def wait_until_open(engine: Engine, seconds: float = 30) -> None:
    links = [engine.scheduler_connector.scheduler.link]
    links += [worker.worker.link for worker in engine.workers]
    limit = time.monotonic() + seconds
    while not all(link.opened for link in links):
        assert time.monotonic() < limit, "the connector did not reach its server"
        for link in links:
            if link.client is not None:
                link.client.wait(0.01)


@pytest.fixture
def house(server: Server) -> Iterator[House]:
    made = House(server)
    yield made
    for engine in made.engines:
        engine.shutdown()


def serve(engine: Engine, name: str, prompt: list[int] = PROMPT, output: int = 1) -> int:
    before = engine.scheduler.loaded_tokens
    engine.add(name, prompt, output)
    engine.run(100_000)
    return engine.scheduler.loaded_tokens - before


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_engines_share_blocks(house: House, shape: Shape) -> None:
    first = house.opened(shape)
    for number in range(4):
        serve(first, f"a{number}", [number, *PROMPT])
    other = house.opened(shape)
    loaded = [serve(other, f"b{number}", [number, *PROMPT]) for number in range(4)]
    assert all(loaded) if shape.groups == (SHAPES["one rank"].groups) else any(loaded)
    assert other.scheduler.failed_loads == 0


def test_many_requests_at_once_with_preemption_and_aborts(house: House) -> None:
    for round_number in range(3):
        engine = house.opened(Shape(blocks=60, budget=32))
        for number in range(30):
            engine.add(f"r{number}", [number % 5] * 7 + PROMPT[: 10 + number], 8)
        for step in range(400):
            engine.step()
            if step % 10 == round_number and engine.scheduler.requests:
                engine.scheduler.abort(next(iter(engine.scheduler.requests)))
        engine.run(100_000)
        engine.scheduler.pool.assert_all_free()
    assert house.engines[1].scheduler.loaded_tokens > 0


def test_a_server_that_dies_means_misses_and_is_used_again() -> None:
    server = Server(listen=own_address())
    house = House(server)
    engine = house.opened(HYBRID, lookup_timeout=0.2, load_timeout=1.0)
    serve(engine, "a")
    for number in range(3):
        engine.add(f"b{number}", [number, *PROMPT])
    for _ in range(2):
        engine.step()
    server.kill()
    engine.run(100_000)
    serve(engine, "c", [7, *PROMPT])
    again = Server(listen=server.address)
    limit = time.monotonic() + 60
    number = 0
    while True:
        number += 1
        serve(engine, f"d{number}", [100 + number, *PROMPT])
        other = house.opened(HYBRID)
        if serve(other, "e", [100 + number, *PROMPT]):
            break
        assert time.monotonic() < limit, "the server is back, but it is not used"
    for one in house.engines:
        one.shutdown()
    again.end()


def test_an_engine_may_start_first() -> None:
    address = own_address()
    engine = Engine("early", SHAPES["one rank"], server=address, **PATIENT)
    assert serve(engine, "a") == 0
    server = Server(listen=address)
    wait_until_open(engine)
    serve(engine, "b", [1, *PROMPT])
    other = House(server).opened()
    assert serve(other, "c", [1, *PROMPT]) == 40
    engine.shutdown()
    other.shutdown()
    server.end()
