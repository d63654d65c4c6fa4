"""What the cluster has of each request's prompt: asked once, answered later, pinned meanwhile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from membrain.errors import InvalidArgument, MembrainError, NotFound, Stale
from membrain.polled_client import Completion
from membrain.values import Match
from membrain.vllm.link import Link, Opened
from membrain.vllm.settings import Group, Settings
from membrain.vllm.stats import Counters


MAX_BLOCKS = 65536  # of one lookup; of a longer prompt the beginning


class State(Enum):
    LOOKING = 1
    GRANTING = 2
    FOUND = 3
    MISSED = 4


@dataclass
class Ask:
    """One request's question. Its matches pin their blocks until it is over."""

    request: str
    opened: Opened
    expires: float  # then what is pinned for it is given back
    state: State = State.LOOKING
    under_way: set[int] = field(default_factory=set)  # operations
    matches: list[Match | None] = field(default_factory=list)  # by group
    grants: list[bytes] = field(default_factory=list)
    limit_tokens: int = 0  # of a hit
    hit_tokens: int = 0

    def release(self) -> None:
        for match in self.matches:
            if match is not None:
                match.release()
        self.matches = [None] * len(self.matches)


def group_hashes(group: Group, hash_tokens: int, hashes: Sequence[bytes]) -> list[bytes]:
    """A block is named by the last of the hashes that it covers."""
    each = group.block_tokens // hash_tokens
    return list(hashes) if each == 1 else list(hashes[each - 1 :: each])


def hit_of(settings: Settings, matches: Sequence[Match | None], limit: int) -> int:
    """Tokens, at most `limit`, of the longest prefix that every group has: all blocks of it, or
    those of the last window."""
    align = settings.align_tokens
    groups = list(zip(settings.groups, matches, strict=True))
    hit = min((len(match) if match else 0) * group.block_tokens for group, match in groups)
    hit = min(hit, limit)
    for group, match in groups:
        if not group.window_blocks and match:
            hit = min(hit, match.prefix * group.block_tokens)
    hit -= hit % align
    while hit > 0:
        shorter = min(
            _window_hit(group, match, hit)
            for group, match in groups
            if match is not None
        )
        shorter -= shorter % align
        if shorter == hit:
            break
        hit = shorter
    return hit


def _window_hit(group: Group, match: Match, limit: int) -> int:
    """Tokens, at most `limit`, whose last window is there."""
    if not group.window_blocks:
        return limit
    end = limit // group.block_tokens
    there = 0
    for block in range(end - 1, -1, -1):
        if not match.has(block):
            end, there = block, 0
            continue
        there += 1
        if there == group.window_blocks:
            break
    return end * group.block_tokens


class Lookups:
    """Asks of an engine's requests, by request id. Nothing here waits.

    Threads: the scheduler's."""

    MAX_ASKS = 65536

    def __init__(
        self, settings: Settings, link: Link, counters: Counters, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._link = link
        self._counters = counters
        self._clock = clock
        self._asks: OrderedDict[str, Ask] = OrderedDict()
        self._loading: dict[str, Ask] = {}
        self._numbers: dict[int, tuple[Ask, int]] = {}  # operations under way: of which group
        self._drained: dict[int, Completion] = {}  # of these, what has ended and was not looked at

    def __len__(self) -> int:
        """Those that hold something, or will."""
        return len(self._asks) + len(self._loading) + len(self._numbers)

    def begin(self, request: str, tokens: int, hashes: Sequence[bytes]) -> None:
        """`tokens`: of the request, which has `hashes` of its full blocks."""
        opened = self._link.opened
        if opened is None or not hashes or len(self._asks) >= self.MAX_ASKS:
            return
        self.drop(request)
        options = self._settings.options
        now = self._clock()
        ask = Ask(request, opened, now + options.hold_timeout)
        # vLLM computes the last token again, whose window begins before that of the next one.
        ask.limit_tokens = tokens - 1 if self._settings.windows else tokens
        ask.matches = [None] * len(self._settings.groups)
        ask.grants = [b""] * len(self._settings.groups)
        self._asks[request] = ask
        self._counters.add(lookups=1)
        for group, space in zip(self._settings.groups, opened.spaces, strict=True):
            wanted = group_hashes(group, self._settings.hash_tokens, hashes)[:MAX_BLOCKS]
            if not wanted:
                self._missed(ask)
                return
            rule = "all" if group.window_blocks else "prefix"
            try:
                number = opened.client.lookup(
                    space,
                    wanted,
                    rule=rule,
                    parts=self._settings.ranks.parts,
                    timeout=options.lookup_timeout,
                )
            except MembrainError as error:
                self._failed(ask, error)
                return
            self._numbers[number] = (ask, group.index)
            ask.under_way.add(number)

    def hit(self, request: str) -> int | None:
        """Tokens that the cluster has for it; None while nobody knows. KeyError if it was not
        asked, or too long ago."""
        self.poll()
        ask = self._asks[request]
        if ask.expires < self._clock():
            self.drop(request)
            raise KeyError(request)
        return ask.hit_tokens if ask.state in (State.FOUND, State.MISSED) else None

    def take(self, request: str) -> Ask:
        """Its blocks will be loaded: pinned until `loaded`."""
        ask = self._asks.pop(request)
        options = self._settings.options
        ask.expires = self._clock() + options.load_timeout + options.hold_timeout
        self._loading[request] = ask
        return ask

    def loaded(self, request: str) -> None:
        ask = self._loading.pop(request, None)
        if ask is not None:
            self._end(ask)

    def drop(self, request: str) -> None:
        """It is not wanted any more."""
        ask = self._asks.pop(request, None)
        if ask is not None:
            self._end(ask)

    def drop_all(self) -> None:
        """What was found is not there any more."""
        for request in list(self._asks):
            self.drop(request)

    def poll(self) -> None:
        """Takes what was answered, and gives back what was held for too long."""
        client = self._link.client
        if client is not None:
            self._drained = {done.number: done for done in client.drain_completions()}
            while self._drained:
                number, done = self._drained.popitem()
                ask, group = self._numbers.pop(number)
                ask.under_way.discard(number)
                self._answered(ask, group, done.value, done.error)
        now = self._clock()
        while self._asks:
            request, oldest = next(iter(self._asks.items()))
            if oldest.expires >= now:
                break
            self.drop(request)
        for request in [name for name, ask in self._loading.items() if ask.expires < now]:
            self.loaded(request)

    def close(self, client: Any) -> None:
        """Gives everything back; `client` ends what is under way."""
        for ask in [*self._asks.values(), *self._loading.values()]:
            self._end(ask)
        self._asks.clear()
        self._loading.clear()
        if client is not None:
            client.close()

    # ---- answers

    def _answered(self, ask: Ask, group: int, value: Any, error: MembrainError | None) -> None:
        if error is not None:
            self._failed(ask, error)
        elif ask.state is State.LOOKING:
            ask.matches[group] = value
            if not ask.under_way:
                self._looked_up(ask)
        elif ask.state is State.GRANTING:
            ask.grants[group] = value
            if not ask.under_way:
                ask.state = State.FOUND

    def _looked_up(self, ask: Ask) -> None:
        ask.hit_tokens = hit_of(self._settings, ask.matches, ask.limit_tokens)
        if ask.hit_tokens == 0 or ask.hit_tokens < self._settings.options.min_hit_tokens:
            self._missed(ask)
            return
        ask.state = State.GRANTING
        options = self._settings.options
        valid = options.hold_timeout + options.load_timeout
        for group, match in enumerate(ask.matches):
            try:
                number = ask.opened.client.grant(match, valid)
            except MembrainError as error:
                self._failed(ask, error)
                return
            self._numbers[number] = (ask, group)
            ask.under_way.add(number)

    def _failed(self, ask: Ask, error: MembrainError) -> None:
        self._counters.add(lookup_errors=1)
        if isinstance(error, Stale | NotFound | InvalidArgument):
            self._link.reopen()
        self._missed(ask)

    def _missed(self, ask: Ask) -> None:
        ask.state = State.MISSED
        ask.hit_tokens = 0
        self._end(ask)

    def _end(self, ask: Ask) -> None:
        """Gives back what is pinned for it, now or when it comes."""
        for number in ask.under_way:
            del self._numbers[number]
            done = self._drained.pop(number, None)
            if done is None:
                ask.opened.client.forget(number)
            elif done.value is not None and not isinstance(done.value, bytes):
                done.value.release()
        ask.under_way.clear()
        ask.release()
