from collections.abc import Sequence
from datetime import timedelta

Answer = tuple[object, int, str]
Piece = tuple[int, int]

ERRORS: dict[int, str]

class ClientConfig:
    server: str
    secret: str
    tenant: str
    label: str
    connect_timeout: timedelta
    default_timeout: timedelta
    verify_checksums: bool
    mapped: bool
    one_sided_reads: bool
    copy_threads: int

class Namespace:
    model: str
    revision: str
    weights_version: str
    kv_dtype: str
    block_tokens: int
    layout: str
    part_count: int
    kv_group: int
    hash_algorithm: str
    hash_seed_fingerprint: str

class OpenedNamespace:
    id: int
    era: int
    other_seed: bool

class LookupOptions:
    def __init__(
        self, pin: bool, rule: int, window_blocks: int, parts: int, timeout_ms: int
    ) -> None: ...

class Match:
    block_count: int
    prefix_blocks: int
    pinned: bool
    def has(self, block: int) -> bool: ...
    def part_bytes(self, block: int, part: int = 0) -> int: ...
    def release(self) -> None: ...

class Buffer:
    def __init__(self, object: object, writable: bool) -> None: ...
    address: int
    size: int

class NativeClient:
    descriptor: int
    def close(self) -> None: ...
    def abandon(self) -> None: ...
    def open_namespace(self, space: Namespace) -> Answer: ...
    def clear(self, space: OpenedNamespace) -> Answer: ...
    def contains(self, space: OpenedNamespace, hashes: list[bytes], parts: int) -> Answer: ...
    def server_stats(self) -> Answer: ...
    def lookup(
        self,
        number: int,
        notify: bool,
        space: OpenedNamespace,
        hashes: list[bytes],
        options: LookupOptions,
    ) -> None: ...
    def fetch(
        self,
        number: int,
        notify: bool,
        match: Match,
        items: Sequence[tuple[int, int, int, int, list[Piece]]],
        timeout_ms: int,
        keep: object,
    ) -> None: ...
    def store(
        self,
        number: int,
        notify: bool,
        space: OpenedNamespace,
        items: Sequence[tuple[bytes, bytes, int, int, int, list[Piece]]],
        timeout_ms: int,
        keep: object,
    ) -> None: ...
    def wait(self, number: int) -> Answer: ...
    def cancel(self, number: int) -> None: ...
    def drain(self) -> list[tuple[int, Answer]]: ...

def open(config: ClientConfig) -> Answer: ...
