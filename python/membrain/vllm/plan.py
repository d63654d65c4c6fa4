"""What the scheduler's side tells the workers each step. Plain values: vLLM pickles them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from membrain.vllm.interface import KVConnectorHandshakeMetadata, KVConnectorMetadata


@dataclass(frozen=True)
class GroupLoad:
    """Blocks of one group."""

    group: int
    grant: bytes  # with which a worker may fetch
    blocks: tuple[int, ...]  # of the prompt, and of the grant's
    ids: tuple[int, ...]  # of the engine's blocks, as many


@dataclass(frozen=True)
class Load:
    """Everything that one request waits for."""

    request: str
    timeout: float  # seconds
    groups: tuple[GroupLoad, ...]


@dataclass(frozen=True)
class Save:
    """A run of one group's blocks that this step fills."""

    number: int
    request: str
    group: int
    ids: tuple[int, ...]
    hashes: tuple[bytes, ...]
    parent: bytes
    first_depth: int


@dataclass
class Step(KVConnectorMetadata):
    """`fence`: saves whose blocks this step may overwrite: they end before it begins. `finished`:
    requests whose blocks are kept until their saves are done. `cleared`: the cache was reset, so
    that loads under way bring what nobody wants any more."""

    loads: tuple[Load, ...] = ()
    saves: tuple[Save, ...] = ()
    fence: tuple[int, ...] = ()
    finished: tuple[str, ...] = ()
    cleared: bool = False


Fields = tuple[tuple[str, Any], ...]  # of a namespace, by name


@dataclass(frozen=True)
class Handshake(KVConnectorHandshakeMetadata):
    """Each group's namespace. The workers decide: only they know how blocks lie in memory, and
    what a model's weights have made of the cache's dtype."""

    spaces: tuple[Fields, ...] = ()
