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
    fetch_window_blocks: int
    probe_store_bytes: int
    background_store_bytes: int
    devices: list[int]
    staging_slots: int
    staging_slot_bytes: int
    pin_arenas: bool

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
    def answered(self, block: int) -> bool: ...
    def part_bytes(self, block: int, part: int = 0) -> int: ...
    def release(self) -> None: ...

class Buffer:
    def __init__(self, object: object, writable: bool) -> None: ...
    address: int
    size: int

class Buffers:
    def __init__(self, objects: Sequence[object], writable: bool) -> None: ...

class DlTensor:
    def __init__(self, capsule: object) -> None: ...
    address: int
    size: int
    device_type: int
    device: int

class Terms:
    def __init__(self, timeout_ms: int, device: int, after: int) -> None: ...

class RegisteredLayout:
    block_count: int
    plane_count: int
    block_bytes: int

def register_layout(planes: Sequence[tuple[int, int, int]], blocks: int) -> Answer: ...

class KvCacheManager:
    def computed_blocks(self, hashes: Sequence[bytes], remote: int = 0) -> tuple[int, int]: ...
    def allocate(self, request: int, hashes: Sequence[bytes], count: int) -> Answer: ...
    def publish(self, request: int, hashes: Sequence[bytes]) -> Answer: ...
    def free(self, request: int) -> Answer: ...
    def forget(self) -> None: ...
    def blocks_of(self, request: int) -> list[int]: ...
    def refcount(self, block: int) -> int: ...
    def use(self) -> dict[str, int]: ...

def kv_cache_manager(blocks: int) -> Answer: ...

class NativeClient:
    descriptor: int
    def close(self) -> None: ...
    def abandon(self) -> None: ...
    def open_namespace(self, number: int, notify: bool, space: Namespace) -> None: ...
    def clear(self, number: int, notify: bool, space: OpenedNamespace) -> None: ...
    def contains(self, space: OpenedNamespace, hashes: list[bytes], parts: int) -> Answer: ...
    def server_stats(self) -> Answer: ...
    def lookup(
        self,
        number: int,
        notify: bool,
        space: OpenedNamespace,
        hashes: Sequence[bytes],
        options: LookupOptions,
    ) -> None: ...
    def fetch(
        self,
        number: int,
        notify: bool,
        match: Match,
        items: Sequence[tuple[int, int, int, int, list[Piece]]],
        terms: Terms,
        keep: object,
    ) -> None: ...
    def store(
        self,
        number: int,
        notify: bool,
        space: OpenedNamespace,
        items: Sequence[tuple[bytes, bytes, int, int, int, list[Piece]]],
        terms: Terms,
        keep: object,
    ) -> None: ...
    def grant(self, number: int, notify: bool, match: Match, valid_ms: int) -> None: ...
    def adopt(self, number: int, notify: bool, grant: bytes) -> None: ...
    def fetch_buffers(
        self,
        number: int,
        notify: bool,
        match: Match,
        into: Buffers,
        blocks: list[int],
        part: int,
        terms: Terms,
    ) -> None: ...
    def fetch_blocks(
        self,
        number: int,
        notify: bool,
        match: Match,
        into: RegisteredLayout,
        blocks: tuple[list[int], list[int], int, int, int],
        terms: Terms,
        keep: object,
    ) -> None: ...
    def store_blocks(
        self,
        number: int,
        notify: bool,
        space: OpenedNamespace,
        source: RegisteredLayout,
        blocks: tuple[list[bytes], list[int], bytes, int, int, int],
        terms: Terms,
        keep: object,
    ) -> None: ...
    def offer_blocks(
        self,
        number: int,
        space: OpenedNamespace,
        source: RegisteredLayout,
        blocks: tuple[list[bytes], list[int], bytes, int, int, int],
        terms: Terms,
        keep: object,
    ) -> Answer: ...
    def wait(self, number: int) -> Answer: ...
    def cancel(self, number: int) -> None: ...
    def forget(self, number: int) -> None: ...
    def drain(self) -> list[tuple[int, Answer]]: ...

def open(config: ClientConfig) -> Answer: ...
