"""Less of a machine than there is: processor time, by a cgroup of either version."""

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
