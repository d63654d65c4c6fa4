"""The adapters for SGLang and LMCache, driven as those drive them."""

from __future__ import annotations

import hashlib
import select
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Server

import membrain
from membrain import SyncClient
from membrain.lmcache import Done, MembrainNativeClient, open_client
from membrain.polled_client import Completion
from membrain.sglang import MembrainHiCache

# ---- SGLang

LAYERS, PAGES, PAGE_TOKENS, ROW = 4, 16, 8, 32


class HostPool:
    """A host pool in layout page_first: keys and values of a page are one piece each."""

    dtype = "torch.bfloat16"
    layout = "page_first"
    page_size = PAGE_TOKENS

    def __init__(self, mla: bool = False) -> None:
        self.kinds = 1 if mla else 2
        shape = (self.kinds, PAGES, PAGE_TOKENS * LAYERS * ROW)
        self.kv_buffer = np.zeros(shape, np.uint8)

    def get_page_buffer_meta(self, indices: Any) -> tuple[list[int], list[int]]:
        """`indices` are of tokens, as SGLang's are."""
        addresses, sizes = [], []
        for page in [int(token) // PAGE_TOKENS for token in indices[::PAGE_TOKENS]]:
            for kind in range(self.kinds):
                row = self.kv_buffer[kind, page]
                addresses.append(int(row.ctypes.data))
                sizes.append(row.nbytes)
        return addresses, sizes

    def fill(self, page: int, seed: int) -> None:
        shape = self.kv_buffer[:, page].shape
        self.kv_buffer[:, page] = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def tokens_of(pages: list[int]) -> Any:
    return np.array([page * PAGE_TOKENS + t for page in pages for t in range(PAGE_TOKENS)])


def keys(count: int) -> list[str]:
    return [hashlib.sha256(b"page %d" % n).hexdigest() for n in range(count)]


def storage(
    server: Server, rank: int = 0, ranks: int = 1, mla: bool = False, **config: int
) -> MembrainHiCache:
    made = SimpleNamespace(
        tp_rank=rank,
        tp_size=ranks,
        pp_rank=0,
        pp_size=1,
        is_mla_model=mla,
        model_name="a model",
        extra_config={"server": server.address},
        **config,
    )
    return MembrainHiCache(made, {})


def test_pages_go_from_one_pool_to_another(server: Server) -> None:
    one, other = storage(server), storage(server)
    source, target = HostPool(), HostPool()
    one.register_mem_pool_host(source)
    other.register_mem_pool_host(target)
    for page in range(6):
        source.fill(page, page)
    assert other.batch_exists(keys(8)) == 0
    assert one.batch_set_v1(keys(6), tokens_of(list(range(6)))) == [True] * 6
    assert other.batch_exists(keys(8)) == 6
    places = [9, 3, 12, 1, 0, 15, 7]
    assert other.batch_get_v1(keys(7), tokens_of(places)) == [True] * 6 + [False]
    for number, place in enumerate(places[:6]):
        assert np.array_equal(target.kv_buffer[:, place], source.kv_buffer[:, number])
    assert other.counters()["loaded"] == 6 and one.counters()["stored"] == 6
    assert one.get_stats() is None, "SGLang's collector of metrics takes its own class, or None"
    other.clear()
    assert other.batch_exists(keys(8)) == 0
    limit = time.monotonic() + 30
    while other.batch_exists(keys(8)) != 2:
        # It finds out, and opens the namespace again; and a node may still have the old blocks.
        one.batch_set_v1(keys(2), tokens_of([0, 1]))
        assert time.monotonic() < limit, "what was cleared cannot be stored again"
    one.close()
    other.close()


def test_ranks_do_not_mix_but_for_mla(server: Server) -> None:
    for mla in (False, True):
        ranks = [storage(server, rank, 2, mla) for rank in range(2)]
        pools = [HostPool(mla) for _ in ranks]
        for rank, pool in zip(ranks, pools, strict=True):
            pool.fill(0, 99)
            rank.register_mem_pool_host(pool)
        assert ranks[0].batch_set_v1(keys(1), tokens_of([0])) == [True]
        assert ranks[1].batch_exists(keys(1)) == (1 if mla else 0)
        assert ranks[1].batch_set_v1(keys(1), tokens_of([0])) == [True]
        assert ranks[1].counters()["stored"] == (0 if mla else 1), "MLA is stored once"
        for rank in ranks:
            rank.close()


@pytest.mark.parametrize("mla", [False, True])
def test_slices_of_context_parallelism_do_not_mix(server: Server, mla: bool) -> None:
    """Each rank holds other tokens of every page, and SGLang asks for them by one key."""
    slices = [storage(server, mla=mla, attn_cp_rank=n, attn_cp_size=2) for n in range(2)]
    pools = [HostPool(mla) for _ in slices]
    for number, (one, pool) in enumerate(zip(slices, pools, strict=True)):
        pool.fill(0, number)
        one.register_mem_pool_host(pool)
        assert one.batch_set_v1(keys(1), tokens_of([0])) == [True]
    for one, pool in zip(slices, pools, strict=True):
        assert one.batch_get_v1(keys(1), tokens_of([5])) == [True]
        assert np.array_equal(pool.kv_buffer[:, 5], pool.kv_buffer[:, 0])
        one.close()


def test_values_may_be_tensors_of_the_callers(server: Server) -> None:
    one = storage(server)
    one.register_mem_pool_host(HostPool())
    values = [np.full(256, n, np.uint8) for n in range(3)]
    assert one.batch_set(["a", "b", "c"], values) and one.exists("b") and not one.exists("d")
    into = [np.zeros(256, np.uint8) for _ in range(4)]
    got = one.batch_get(["c", "d", "a", "b"], into)
    assert got[1] is None and np.array_equal(got[0], values[2])
    assert np.array_equal(one.get("b", into[1]), values[1])
    one.close()


def test_a_dead_server_is_a_miss_for_sglang(server: Server) -> None:
    one = storage(server)
    one.register_mem_pool_host(HostPool())
    one.batch_set_v1(keys(2), tokens_of([0, 1]))
    server.kill()
    assert one.batch_exists(keys(2)) == 0
    assert one.batch_get_v1(keys(2), tokens_of([2, 3])) == [False, False]
    assert one.batch_set_v1(keys(2), tokens_of([2, 3])) == [False, False]
    with pytest.raises(membrain.InvalidArgument, match="2 pages, but 2 pieces|3 pages"):
        one.batch_get_v1(keys(3), tokens_of([2, 3]))
    one.close()


# ---- LMCache


def wait_for(client: MembrainNativeClient, number: int) -> Done:
    while True:
        assert select.select([client.event_fd()], [], [], 30)[0], "it ended"
        for done in client.drain_completions():
            assert done[0] == number
            return done


def views(count: int, fill: int | None = None) -> list[memoryview]:
    return [
        memoryview(bytearray([n + 1 if fill is None else fill] * 8192)) for n in range(count)
    ]


def test_lmcaches_calls_end_on_one_descriptor(server: Server) -> None:
    client = open_client(server.address)
    names = [f"model@1@0@{n:x}@bf16" for n in range(4)]
    assert wait_for(client, client.submit_batch_set(names, views(4)))[1:] == (True, "", [True] * 4)
    number = client.submit_batch_exists([*names, "other"])
    assert wait_for(client, number)[3] == [True] * 4 + [False]
    into = views(5, 0)
    done = wait_for(client, client.submit_batch_get([names[2], "other", *names[:3]], into))
    assert done[1:] == (True, "", [True, False, True, True, True])
    assert [view[0] for view in into] == [3, 0, 1, 2, 3]
    done = wait_for(client, client.submit_batch_get(["x", "y"], views(2)))
    assert done[3] == [False, False]
    short = memoryview(bytearray(16))
    assert wait_for(client, client.submit_batch_get(names[:1], [short]))[3] == [False]
    numbers = {client.submit_batch_get(names, views(4)) for _ in range(5)}
    assert {done[0] for done in client.drain_completions() + client.close()} == numbers
    assert client.close() == []


def test_lmcache_opens_again_what_others_have_cleared(server: Server) -> None:
    client = open_client(server.address)
    with SyncClient.open(server.address) as other:
        fields = {"model": "lmcache", "layout": "lmcache", "block_tokens": 1}
        other.clear(other.open_namespace(**fields))
    until = time.monotonic() + 20
    while wait_for(client, client.submit_batch_set(["a"], views(1)))[3] != [True]:
        assert time.monotonic() < until
        time.sleep(0.01)
    client.close()


SPACE: Any = "a namespace"


class Hasty:
    """A client whose lookups have ended, and are drained by another thread, before their number is
    known: as late as that thread can be made to wait."""

    def __init__(self) -> None:
        self.ended: list[Completion] = []
        self.drain: Any = None

    def lookup(self, *_: Any, **__: Any) -> int:
        self.ended = [Completion(7, SimpleNamespace(has=lambda _: True))]
        self.drain.start()
        self.drain.join(0.1)
        return 7

    def drain_completions(self) -> list[Completion]:
        ended, self.ended = self.ended, []
        return ended


def test_lmcache_may_submit_in_one_thread_and_drain_in_another() -> None:
    hasty: Any = Hasty()
    client = MembrainNativeClient(hasty, SPACE)
    done: list[Done] = []
    hasty.drain = threading.Thread(target=lambda: done.extend(client.drain_completions()))
    number = client.submit_batch_exists(["a"])
    hasty.drain.join()
    assert done == [(number, True, "", [True])]


def test_lmcaches_calls_fail_with_words(server: Server) -> None:
    client = open_client(server.address, namespace="another")
    server.kill()
    number, ok, words, items = wait_for(client, client.submit_batch_exists(["a"]))
    assert not ok and words and items is None and number == 1
    client.close()
