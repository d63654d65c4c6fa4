"""What calls take and yield."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from membrain.errors import name_of


@dataclass(frozen=True)
class Namespace:
    """An opened namespace: blocks of one model, one layout, one hash function."""

    native: Any = field(repr=False)

    @property
    def id(self) -> int:
        return int(self.native.id)

    @property
    def other_seed(self) -> bool:
        """The same model is cached here under another hash seed: most likely a mistake."""
        return bool(self.native.other_seed)


class Match:
    """What a lookup found. What it pins stays until `release`, or its end."""

    def __init__(self, native: Any) -> None:
        self.native = native

    def __len__(self) -> int:
        return int(self.native.block_count)

    @property
    def prefix(self) -> int:
        """Blocks of the prompt's beginning that are there."""
        return int(self.native.prefix_blocks)

    def has(self, block: int) -> bool:
        return 0 <= block < len(self) and bool(self.native.has(block))

    def answered(self, block: int) -> bool:
        """Its shard said so. False behind the end of a prefix, where nobody was asked, and where a
        shard is away while others answer: such a block was not found, and may be there."""
        return 0 <= block < len(self) and bool(self.native.answered(block))

    def size(self, block: int, part: int = 0) -> int:
        """Bytes of a block's part; 0 if it was not found."""
        return int(self.native.part_bytes(block, part))

    def release(self) -> None:
        self.native.release()

    def __enter__(self) -> Match:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True)
class Block:
    """A block to keep. `data` is memory as `membrain.buffers` takes it."""

    hash: bytes
    data: object
    parent: bytes = b""  # the hash of the block before it; empty for the first
    depth: int = 0  # blocks before it in the prompt
    part: int = 0
    priority: int = 0  # higher stays longer


@dataclass(frozen=True)
class Outcome:
    """What became of one item."""

    ok: bool
    duplicate: bool  # of a store: it was there already
    why: str  # "ok", or the error's name


@dataclass(frozen=True)
class Report:
    """What became of a transfer, item by item in the order of the call."""

    items: list[Outcome]
    bytes: int  # moved and accepted
    lanes: dict[str, int]  # of these, by lane: "mapped", "shm", "tcp", ...

    @property
    def ok(self) -> int:
        return sum(item.ok for item in self.items)


@cache  # there are few, and they cannot change
def _outcome_of(ok: bool, duplicate: bool, why: int) -> Outcome:
    return Outcome(ok, duplicate, name_of(why))


def report_of(value: Any) -> Report:
    items, moved, lanes = value
    return Report([_outcome_of(*item) for item in items], moved, lanes)
