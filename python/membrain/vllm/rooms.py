"""How many of an engine's blocks loads may take, so that vLLM cannot lock itself up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from membrain.vllm.settings import Settings


@dataclass
class Room:
    """What one request needs to run."""

    blocks: int
    holds: bool = False  # it is being loaded, or was: it has blocks, and does not run yet


class Rooms:
    """vLLM takes no blocks back from a request that is loaded and does not run yet, and stops at
    the first waiting request that gets none. So all that hold blocks, and all that wait before
    them, must fit together. Those wait before a request that were told to before it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rooms: dict[str, Room] = {}  # in the order in which they were told to wait, or load

    def __len__(self) -> int:
        return len(self._rooms)

    def wait(self, request: Any) -> None:
        """It was told to wait."""
        if request.request_id not in self._rooms:
            self._rooms[request.request_id] = Room(self._need(request))

    def fits(self, request: Any) -> bool:
        """Whether it may be loaded now."""
        taken, before = 0, True
        for name, room in self._rooms.items():
            if name == request.request_id:
                before = False
            elif before or room.holds:
                taken += room.blocks
        return taken == 0 or taken + self._need(request) < self._settings.blocks

    def load(self, request: Any) -> None:
        self.wait(request)
        self._rooms[request.request_id].holds = True

    def leave(self, name: str) -> None:
        """It runs, or is gone."""
        self._rooms.pop(name, None)

    def _need(self, request: Any) -> int:
        sizes = [group.block_tokens for group in self._settings.groups]
        return sum(int(request.num_tokens) // size + 1 for size in sizes)
