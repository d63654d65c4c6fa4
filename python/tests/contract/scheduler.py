"""The engine's scheduler: continuous batching, chunked prefill, preemption, remote loads."""

from __future__ import annotations

from collections import deque
from typing import Any

from contract.model import GroupSpec, align_of, hash_tokens_of
from contract.pool import NULL_ID, BlockPool
from contract.requests import Request, Status
from contract.step import Blocks, ConnectorOutput, NewRequest, SchedulerOutput


class Scheduler:
    def __init__(
        self,
        connector: Any,
        groups: list[GroupSpec],
        blocks: int,
        budget: int = 16,
        most_running: int = 8,
    ) -> None:
        self.connector = connector
        self.groups = groups
        self.hash_tokens = hash_tokens_of(groups)
        self.align = align_of(groups)
        self.pool = BlockPool(blocks)
        self.budget = budget
        self.most_running = most_running
        self.requests: dict[str, Request] = {}  # finished ones stay while their blocks are read
        self.waiting: deque[Request] = deque()
        self.skipped: deque[Request] = deque()  # who wait for something, and come first
        self.running: list[Request] = []
        self.finished: set[str] = set()  # since the last step
        self.received: set[str] = set()  # loads that have ended
        self.sending: set[str] = set()  # of finished requests whose blocks are read
        self.done: list[str] = []
        self.failed_loads = 0
        self.loaded_tokens = 0
        self.knows_one_group = False  # when a load fails, as vLLM up to 0.26

    # ---- requests

    def add(self, request: Request) -> None:
        assert request.request_id not in self.requests
        self.requests[request.request_id] = request
        self.waiting.append(request)
        self.connector.on_new_request(request)

    def abort(self, name: str) -> None:
        request = self.requests[name]
        if request.status is Status.FINISHED:
            return
        if request in self.running:
            self.running.remove(request)
        else:
            (self.skipped if request in self.skipped else self.waiting).remove(request)
        self._finish(request)

    def _finish(self, request: Request) -> None:
        loading = request.status is Status.WAITING_FOR_REMOTE_KVS
        came = request.request_id in self.received
        request.status = Status.FINISHED
        self.finished.add(request.request_id)
        if request.ids and not loading:  # what its windows have moved past
            for group, spec in enumerate(self.groups):
                self._skip(request.ids[group], self._skip_count(spec, request.num_tokens))
        ids = tuple(list(one) for one in request.ids)
        delay, params = self.connector.request_finished_all_groups(request, ids)
        assert isinstance(delay, bool) and params is None
        if delay:
            self.sending.add(request.request_id)
        if loading and came:
            self.received.discard(request.request_id)
        self.done.append(request.request_id)
        if not delay and (not loading or came):
            self._free(request)

    def _free(self, request: Request) -> None:
        for ids in request.ids:
            self.pool.give_back(ids)
        request.ids = []
        del self.requests[request.request_id]

    @property
    def unfinished(self) -> bool:
        """Also while the workers were not told of the last that finished."""
        return bool(self.requests or self.finished)

    # ---- a step

    def schedule(self) -> SchedulerOutput:
        output = SchedulerOutput()
        budget = self.budget
        for request in list(self.running):
            if request not in self.running:
                continue  # it was preempted for one before it
            count = min(request.num_tokens - request.num_computed_tokens, budget)
            if count <= 0:
                continue
            new = self._make_room(request, count, output)
            if new is None:
                continue
            budget -= count
            output.num_scheduled_tokens[request.request_id] = count
            cached = output.scheduled_cached_reqs
            cached.req_ids.append(request.request_id)
            cached.new_block_ids.append(new if any(new) else None)
            cached.num_computed_tokens.append(request.num_computed_tokens)
        if not output.preempted_req_ids:
            self._admit(output, budget)
        output.finished_req_ids, self.finished = self.finished, set()
        meta = self.connector.build_connector_meta(output)
        assert meta is not None
        output.kv_connector_metadata = meta
        for name, count in output.num_scheduled_tokens.items():
            self.requests[name].num_computed_tokens += count
        return output

    def _make_room(
        self, request: Request, count: int, output: SchedulerOutput
    ) -> tuple[list[int], ...] | None:
        while True:
            new = self._allocate(request, count)
            if new is not None:
                return new
            victim = self.running.pop()
            self._preempt(victim, output)
            if victim is request:
                return None

    def _preempt(self, victim: Request, output: SchedulerOutput) -> None:
        name = victim.request_id
        if output.num_scheduled_tokens.pop(name, None) is not None:
            cached = output.scheduled_cached_reqs
            index = cached.req_ids.index(name)
            for column in (cached.req_ids, cached.new_block_ids, cached.num_computed_tokens):
                del column[index]  # type: ignore[attr-defined]
        self._take_back(victim)
        output.preempted_req_ids.add(name)

    def _take_back(self, victim: Request) -> None:
        for ids in victim.ids:
            self.pool.give_back(ids)
        victim.ids = []
        victim.num_computed_tokens = 0
        victim.status = Status.PREEMPTED
        self.waiting.appendleft(victim)

    def reset_prefix_cache(self, reset_connector: bool = False) -> bool:
        """With `reset_running_requests`: all that run are preempted, of which some versions of vLLM
        tell nobody. Loads that wait to run keep their blocks, and then the pool is not reset."""
        while self.running:
            self._take_back(self.running.pop())
        empty = not any(self.pool.refs)
        if empty:
            self.pool.forget_all()
        return (not reset_connector or self.connector.reset_cache() is not False) and empty

    def _admit(self, output: SchedulerOutput, budget: int) -> None:
        skipped: list[Request] = []
        while budget > 0 and len(self.running) < self.most_running:
            queue = self.skipped or self.waiting
            if not queue:
                break
            request = queue.popleft()
            name = request.request_id
            if request.status is Status.WAITING_FOR_REMOTE_KVS:
                if name not in self.received:
                    skipped.append(request)
                    continue
                self.received.discard(name)
                self._loaded(request)
            local = external = 0
            asynchronous = False
            computed = request.num_computed_tokens
            hit: list[list[int]] = [[] for _ in self.groups]
            if computed == 0:
                assert not any(request.ids)
                if not request.skip_reading_prefix_cache:
                    hit, local = self._find(request)
                found = self.connector.get_num_new_matched_tokens(request, local)
                if found[0] is None:
                    skipped.append(request)
                    continue
                external, asynchronous = found
                assert external >= 0 and external % self.align == 0
                assert external > 0 or not asynchronous, "asynchronous, but nothing to load"
                assert local + external <= request.num_tokens
                assert local + external == 0 or not request.skip_reading_prefix_cache
            count = 0
            if not asynchronous:
                count = min(request.num_tokens - computed - local, budget)
                assert count > 0
            if computed == 0:
                for ids in hit:
                    for block in ids:
                        self.pool.touch(block)
                request.ids = hit
            request.num_computed_tokens = computed or local + external
            new = self._allocate(request, count)
            if new is None:
                if computed == 0:
                    for ids in request.ids:
                        self.pool.give_back(ids)
                    request.ids = []
                request.num_computed_tokens = computed
                queue.appendleft(request)
                break
            self.connector.update_state_after_alloc(request, Blocks(request.ids), external)
            if asynchronous:
                request.status = Status.WAITING_FOR_REMOTE_KVS
                request.external = external
                skipped.append(request)
                continue
            self._schedule_new(request, count, output)
            budget -= count
        self.skipped.extendleft(reversed(skipped))

    def _schedule_new(self, request: Request, count: int, output: SchedulerOutput) -> None:
        name = request.request_id
        ids = tuple(list(one) for one in request.ids)
        if request.status is Status.PREEMPTED:
            cached = output.scheduled_cached_reqs
            cached.req_ids.append(name)
            cached.resumed_req_ids.add(name)
            cached.new_block_ids.append(ids)
            cached.num_computed_tokens.append(request.num_computed_tokens)
        else:
            new = NewRequest(name, ids, request.num_computed_tokens)
            output.scheduled_new_reqs.append(new)
        output.num_scheduled_tokens[name] = count
        request.status = Status.RUNNING
        self.running.append(request)

    # ---- blocks

    def _name(self, spec: GroupSpec, names: list[bytes], block: int) -> bytes:
        """Of a group's block: the last of the hashes that it covers."""
        return names[(block + 1) * spec.block_tokens // self.hash_tokens - 1]

    def _find(self, request: Request) -> tuple[list[list[int]], int]:
        """The longest local prefix of which every group has what it needs; at least one token is
        left to compute."""
        end = request.num_tokens - 1
        names = request.block_hashes
        while True:
            before = end = end - end % self.align
            for group, spec in enumerate(self.groups):
                blocks = self._end_of(group, spec, names, end // spec.block_tokens)
                end = min(end, blocks * spec.block_tokens)
            if end == before:
                break
        found = []
        for group, spec in enumerate(self.groups):
            last = end // spec.block_tokens
            first = max(0, last - spec.window_blocks) if spec.window_tokens else 0
            ids = [NULL_ID] * first
            for index in range(first, last):
                block = self.pool.find(group, self._name(spec, names, index))
                assert block is not None
                ids.append(block)
            found.append(ids)
        return found, end

    def _end_of(self, group: int, spec: GroupSpec, names: list[bytes], limit: int) -> int:
        def found(index: int) -> bool:
            return self.pool.find(group, self._name(spec, names, index)) is not None

        if not spec.window_tokens:
            return next((index for index in range(limit) if not found(index)), limit)
        end, run = limit, 0
        for index in range(limit - 1, -1, -1):
            if not found(index):
                end, run = index, 0
            else:
                run += 1
                if run >= spec.window_blocks:
                    break
        return end

    def _allocate(self, request: Request, count: int) -> tuple[list[int], ...] | None:
        """Blocks for `count` tokens more; None, and nothing changed but what windows have left
        behind, if there are too few."""
        if not request.ids:
            request.ids = [[] for _ in self.groups]
        computed = request.num_computed_tokens
        ends = [-(-(computed + count) // spec.block_tokens) for spec in self.groups]
        skips = []
        for group, spec in enumerate(self.groups):
            skips.append(self._skip_count(spec, computed))
            self._skip(request.ids[group], skips[-1])
        wanted = [
            max(0, ends[group] - max(len(request.ids[group]), skips[group]))
            for group in range(len(self.groups))
        ]
        if sum(wanted) > self.pool.free_count:
            return None
        news = []
        for group, number in enumerate(wanted):
            ids = request.ids[group]
            nulls = max(0, min(skips[group], ends[group]) - len(ids))
            new = [NULL_ID] * nulls + self.pool.take(number)
            ids += new
            news.append(new)
        # Loads come later, and so do their hashes.
        if request.status is not Status.WAITING_FOR_REMOTE_KVS and count > 0:
            self._cache(request, computed + count)
        return tuple(news)

    @staticmethod
    def _skip_count(spec: GroupSpec, computed: int) -> int:
        """Blocks before the window of the next token."""
        if not spec.window_tokens:
            return 0
        return max(0, computed - spec.window_tokens + 1) // spec.block_tokens

    def _skip(self, ids: list[int], count: int) -> None:
        for index in range(min(count, len(ids))):
            if ids[index] != NULL_ID:
                self.pool.give_back([ids[index]])
                ids[index] = NULL_ID

    def _cache(self, request: Request, tokens: int) -> None:
        hashed = min(tokens, len(request.block_hashes) * self.hash_tokens)
        for group, ids in enumerate(request.ids):
            spec = self.groups[group]
            for index in range(min(hashed // spec.block_tokens, len(ids))):
                if ids[index] != NULL_ID:
                    name = self._name(spec, request.block_hashes, index)
                    self.pool.cache(group, name, ids[index])

    def _loaded(self, request: Request) -> None:
        """A remote load has ended; `num_computed_tokens` counts what of it is good."""
        if request.failed_load:
            request.failed_load = False
            self.failed_loads += 1
            if request.num_computed_tokens == 0:
                for ids in request.ids:
                    self.pool.give_back(ids)
                request.ids = []
        else:
            self.loaded_tokens += request.external
        if request.num_computed_tokens:
            self._cache(request, request.num_computed_tokens)
        if request.num_computed_tokens == request.num_tokens:
            request.num_computed_tokens -= 1
        request.status = Status.WAITING

    # ---- after a step

    def update(self, output: SchedulerOutput, told: ConnectorOutput, token: int) -> None:
        """`token` is what every request that has none to compute gets next."""
        self._invalid(told.invalid_block_ids)
        for name in output.num_scheduled_tokens:
            request = self.requests.get(name)
            if request is None or request.status is not Status.RUNNING:
                continue  # aborted meanwhile
            if request.num_computed_tokens < request.num_tokens:
                continue
            request.append(token)
            if request.output_left <= 0:
                self.running.remove(request)
                self._finish(request)
        self.connector.update_connector_output(told)
        for name in sorted(told.finished_recving or ()):  # a schedule repeats itself
            request = self.requests[name]
            if request.status is Status.WAITING_FOR_REMOTE_KVS:
                assert name not in self.received
                self.received.add(name)
            else:
                assert request.status is Status.FINISHED, request.status
                if name not in self.sending:
                    self._free(request)
        for name in sorted(told.finished_sending or ()):
            assert name in self.sending, f"{name}: nobody waits for its saves"
            self.sending.discard(name)
            self._free(self.requests[name])

    def _invalid(self, invalid: set[int]) -> None:
        seen: set[int] = set()
        for request in self.skipped:
            if request.status is not Status.WAITING_FOR_REMOTE_KVS:
                continue
            if invalid and self.knows_one_group:
                (_,) = request.ids
            for group, ids in enumerate(request.ids):
                size = self.groups[group].block_tokens
                for index, block in enumerate(ids):
                    if block in invalid and block != NULL_ID:
                        seen.add(block)
                        good = index * size - index * size % self.align
                        good = min(request.num_computed_tokens, good)
                        request.num_computed_tokens = good
                        request.failed_load = True
        for request in self.requests.values():
            if request.status is Status.FINISHED:
                seen.update(block for ids in request.ids for block in ids)
        assert invalid <= seen, f"blocks that nobody loads have failed: {invalid - seen}"
