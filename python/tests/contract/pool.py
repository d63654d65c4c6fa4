"""The engine's blocks: refcounts, the prefix cache, and reuse of the least recently used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

NULL_ID = 0


class BlockPool:
    """Ids 1 .. count-1; 0 stands for none. A free block keeps its content and its hash until it is
    taken again."""

    def __init__(self, count: int) -> None:
        self.refs = [0] * count
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, count))
        self._cached: dict[tuple[int, bytes], int] = {}
        self._name: dict[int, tuple[int, bytes]] = {}

    @property
    def free_count(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        assert count <= len(self._free)
        ids = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            assert self.refs[block] == 0
            self.refs[block] = 1
            name = self._name.pop(block, None)
            if name is not None and self._cached.get(name) == block:
                del self._cached[name]
            ids.append(block)
        return ids

    def touch(self, block: int) -> None:
        if block == NULL_ID:
            return
        if self.refs[block] == 0:
            del self._free[block]
        self.refs[block] += 1

    def give_back(self, ids: Sequence[int]) -> None:
        """Tail first, so that a prompt's beginning stays longest."""
        for block in reversed(ids):
            if block == NULL_ID:
                continue
            assert self.refs[block] > 0, f"block {block} is given back twice"
            self.refs[block] -= 1
            if self.refs[block] == 0:
                self._free[block] = None

    def cache(self, group: int, name: bytes, block: int) -> None:
        assert self.refs[block] > 0
        if block in self._name:
            assert self._name[block] == (group, name), "a block that is cached is written again"
            return
        self._name[block] = (group, name)
        self._cached.setdefault((group, name), block)

    def uncache(self, block: int) -> None:
        name = self._name.pop(block, None)
        if name is not None and self._cached.get(name) == block:
            del self._cached[name]

    def find(self, group: int, name: bytes) -> int | None:
        return self._cached.get((group, name))

    def forget_all(self) -> None:
        assert not any(self.refs), "the prefix cache is reset while requests run"
        self._cached.clear()
        self._name.clear()

    def assert_all_free(self) -> None:
        leaked = [block for block, refs in enumerate(self.refs) if refs]
        assert not leaked, f"leaked blocks: {leaked}"
