"""The client's operations as the module starts them, for blocking calls and awaited ones."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from membrain import _native
from membrain.buffers import HOST, all_pieces, host_buffers, one_device
from membrain.errors import Closed, InvalidArgument, WrongProcess, error_of
from membrain.values import Block, Match, Namespace

if TYPE_CHECKING:
    from membrain.layout import Layout

Rule = Literal["prefix", "window", "all"]
LONGEST = 0xFFFFFFFF // 1000  # seconds of a time-out: it travels as 32 bits of milliseconds
_RULES: dict[Rule, int] = {"prefix": 0, "window": 1, "all": 2}


def _milliseconds(seconds: float | None) -> int:
    if seconds is None:
        return 0
    if not 0 < seconds <= LONGEST:
        raise InvalidArgument(f"a time-out is positive, and at most {LONGEST} seconds")
    return max(1, round(seconds * 1000))


def value_of(answer: Any) -> Any:
    value, code, words = answer
    if code != 0:
        raise error_of(code, words)
    return value


_clients: weakref.WeakSet[Core] = weakref.WeakSet()


def _forget_clients() -> None:
    for core in list(_clients):
        core.abandon()


os.register_at_fork(after_in_child=_forget_clients)


class Core:
    """What both kinds of calls share."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._numbers = itertools.count(1)
        self._forked = False
        # Told of the last completions by whoever closes, in that thread.
        self.on_close: Callable[[Any], None] | None = None
        _clients.add(self)

    @property
    def native(self) -> Any:
        if self._forked:
            raise WrongProcess("this client was opened before a fork: open one in this process")
        if self._native is None:
            raise Closed("this client was closed")
        return self._native

    @property
    def is_open(self) -> bool:
        return self._native is not None

    def abandon(self) -> None:
        native, self._native = self._native, None
        if native is not None:
            self._forked = True
            native.abandon()

    def close(self) -> Any:
        native, self._native = self._native, None
        if native is not None:
            native.close()
            if self.on_close is not None:
                self.on_close(native)
        return native

    def number(self) -> int:
        return next(self._numbers)

    def lookup(
        self,
        number: int,
        notify: bool,
        space: Namespace,
        hashes: Sequence[bytes],
        rule: Rule = "prefix",
        window_blocks: int = 0,
        parts: int = 1,
        pin: bool = True,
        timeout: float | None = None,
    ) -> None:
        if rule not in _RULES:
            raise InvalidArgument(f"no such rule: {rule!r}; there are: {', '.join(_RULES)}")
        options = _native.LookupOptions(
            pin, _RULES[rule], window_blocks, parts, _milliseconds(timeout)
        )
        _begin(self.native.lookup, number, notify, space.native, hashes, options)

    def open_namespace(self, number: int, notify: bool, **fields: Any) -> None:
        _begin(self.native.open_namespace, number, notify, namespace_of(fields))

    def clear(self, number: int, notify: bool, space: Namespace) -> None:
        _begin(self.native.clear, number, notify, space.native)

    def grant(self, number: int, notify: bool, match: Match, valid: float) -> None:
        _begin(self.native.grant, number, notify, match.native, _milliseconds(valid))

    def adopt(self, number: int, notify: bool, grant: bytes) -> None:
        _begin(self.native.adopt, number, notify, grant)

    def fetch(
        self,
        number: int,
        notify: bool,
        match: Match,
        into: Sequence[object],
        blocks: Sequence[int] | None = None,
        part: int = 0,
        timeout: float | None = None,
    ) -> None:
        wanted = range(len(into)) if blocks is None else blocks
        if len(wanted) != len(into):
            raise InvalidArgument(f"{len(wanted)} blocks, but {len(into)} buffers")
        if (buffers := host_buffers(into, writable=True)) is not None:
            terms = _terms(timeout, HOST)
            to = [] if blocks is None else list(blocks)
            begin = self.native.fetch_buffers
            return _begin(begin, number, notify, match.native, buffers, to, part, terms)
        pieces = all_pieces(into, writable=True)
        items = [
            (block, part, 0, memory.size, memory.runs)
            for block, memory in zip(wanted, pieces, strict=True)
        ]
        terms = _terms(timeout, one_device(pieces))
        _begin(self.native.fetch, number, notify, match.native, items, terms, pieces)

    def store(
        self,
        number: int,
        notify: bool,
        space: Namespace,
        blocks: Sequence[Block],
        timeout: float | None = None,
        after: int = 0,
    ) -> None:
        pieces = all_pieces([block.data for block in blocks], writable=False)
        items = [
            (block.hash, block.parent, block.depth, block.part, block.priority, memory.runs)
            for block, memory in zip(blocks, pieces, strict=True)
        ]
        terms = _terms(timeout, one_device(pieces), after)
        _begin(self.native.store, number, notify, space.native, items, terms, pieces)

    def fetch_blocks(
        self,
        number: int,
        notify: bool,
        match: Match,
        layout: Layout,
        ids: Sequence[int],
        blocks: Sequence[int] | None = None,
        part: int = 0,
        first_plane: int = 0,
        planes: int = 0,
        timeout: float | None = None,
        after: int = 0,
    ) -> None:
        wanted = (list(ids), list(blocks or ()), part, first_plane, planes)
        terms = _terms(timeout, layout.device, after)
        _begin(
            self.native.fetch_blocks,
            number,
            notify,
            match.native,
            layout.native,
            wanted,
            terms,
            layout,
        )

    def store_blocks(
        self,
        number: int,
        notify: bool,
        space: Namespace,
        layout: Layout,
        ids: Sequence[int],
        hashes: Sequence[bytes],
        parent: bytes = b"",
        first_depth: int = 0,
        part: int = 0,
        priority: int = 0,
        timeout: float | None = None,
        after: int = 0,
    ) -> None:
        run = (list(hashes), list(ids), parent, first_depth, part, priority)
        terms = _terms(timeout, layout.device, after)
        words = (space.native, layout.native, run, terms, layout)
        _begin(self.native.store_blocks, number, notify, *words)

    def offer_blocks(
        self,
        number: int,
        space: Namespace,
        layout: Layout,
        ids: Sequence[int],
        hashes: Sequence[bytes],
        parent: bytes = b"",
        first_depth: int = 0,
        part: int = 0,
        priority: int = 0,
        after: int = 0,
    ) -> None:
        run = (list(hashes), list(ids), parent, first_depth, part, priority)
        terms = _terms(None, layout.device, after)
        value_of(
            self.native.offer_blocks(number, space.native, layout.native, run, terms, layout)
        )


def _terms(timeout: float | None, device: int, after: int = 0) -> Any:
    return _native.Terms(_milliseconds(timeout), device, after)


def _begin(call: Any, *words: Any) -> None:
    try:
        call(*words)
    except (ValueError, TypeError) as error:  # also a number too large for its type
        raise InvalidArgument(str(error).partition("\n")[0]) from error


def config_of(server: str, options: Mapping[str, Any]) -> Any:
    config = _native.ClientConfig()
    config.server = server
    for name, value in options.items():
        if not hasattr(config, name):
            raise InvalidArgument(f"no such option of a client: {name}")
        try:
            setattr(config, name, value)
        except TypeError as error:
            raise InvalidArgument(f"a client's {name} cannot be {value!r}") from error
    return config


def open_core(server: str, options: Mapping[str, Any]) -> Core:
    return Core(value_of(_native.open(config_of(server, options))))


def namespace_of(options: dict[str, Any]) -> Any:
    space = _native.Namespace()
    for name, value in options.items():
        if not hasattr(space, name):
            raise InvalidArgument(f"no such field of a namespace: {name}")
        setattr(space, name, value)
    return space
