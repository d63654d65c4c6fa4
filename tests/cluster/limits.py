"""Less of a machine than there is: processor time and memory, by a cgroup of either version."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000


class CpuLimit:
    """Of one process. Ends with `end`, after the process or before."""

    def __init__(self, group: Path, knob: str, words: str, free: str) -> None:
        self._group = group
        self._knob = group / knob
        self._words = words
        self._free = free

    @classmethod
    def on(cls, pid: int, percent: int) -> CpuLimit | None:
        """None where no such cgroup can be made."""
        quota = PERIOD_US * percent // 100
        name = f"membrain-test-{os.getpid()}"
        for parent, knob, words, free in (
            (ROOT, "cpu.max", f"{quota} {PERIOD_US}", f"max {PERIOD_US}"),
            (ROOT / "cpu", "cpu.cfs_quota_us", str(quota), "-1"),
        ):
            made = cls(parent / name, knob, words, free)
            if made.begin(pid):
                return made
        return None

    def begin(self, pid: int) -> bool:
        try:
            self._group.mkdir(exist_ok=True)
            if self._knob.exists():
                self._knob.write_text(self._words)
                (self._group / "cgroup.procs").write_text(str(pid))
                return True
            self._group.rmdir()
        except OSError:
            pass
        return False

    def times(self) -> int:
        """How often the process had to wait for the next period."""
        lines = (self._group / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("nr_throttled"))

    def lift(self) -> None:
        self._knob.write_text(self._free)

    def end(self) -> None:
        """Gives its processes back to the group above."""
        above = self._group.parent / "cgroup.procs"
        for pid in (self._group / "cgroup.procs").read_text().split():
            above.write_text(pid)
        self._group.rmdir()


class MemoryLimit:
    """Of processes that begin with the words `at`. Ends with `end`, after them."""

    def __init__(self, group: Path, knob: str) -> None:
        self._group = group
        self._knob = group / knob
        self.at = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]

    @classmethod
    def of(cls, limit_bytes: int) -> MemoryLimit | None:
        """None where no such cgroup can be made."""
        name = f"membrain-test-{os.getpid()}"
        for parent, knob in (
            (ROOT, "memory.max"),
            (ROOT / "memory", "memory.limit_in_bytes"),
        ):
            made = cls(parent / name, knob)
            try:
                made._group.mkdir(exist_ok=True)
                if made._knob.exists():
                    made.set(limit_bytes)
                    return made
                made._group.rmdir()
            except OSError:
                pass
        return None

    def set(self, limit_bytes: int) -> None:
        self._knob.write_text(str(limit_bytes))

    def take(self, pid: int) -> None:
        """This process, too: what it takes from now on."""
        (self._group / "cgroup.procs").write_text(str(pid))

    def end(self) -> None:
        self._group.rmdir()
