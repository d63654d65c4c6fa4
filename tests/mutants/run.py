"""Proves that the simulator can fail: bugs are put into a copy of the tree, one at a time, and each
must be found.

usage: run.py [--rotate N | NAME...] [--schedules N] [--build FOLDER] [--jobs N] [--json]

Each NAME.patch beside this file is one bug that is found, told in its first line (in `unfound`: not
yet; their names are unfound/NAME). Its second line, `kind: KIND`, may say which kind of schedules
finds it soonest; without one all take turns. The tree is copied, built, and for each patch built
again with it, like all code without a warning; then membrain-sim runs until it reports a violation,
or ends the process (a check of our own, or a crash: found too). Without names all are run; --rotate
N takes N of them, others after each commit. The last line is "N passed, N failed".
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATCHES = Path(__file__).resolve().parent
PATIENCE = 900  # seconds for one mutant's schedules


@dataclass
class Bug:
    name: str
    about: str
    kind: str  # of schedules


@dataclass
class Verdict:
    name: str
    about: str
    kind: str
    caught: bool
    schedules: int
    seconds: float
    how: str


def verdict(bug: Bug, caught: bool, schedules: int, seconds: float, how: str) -> Verdict:
    return Verdict(bug.name, bug.about, bug.kind, caught, schedules, seconds, how)


class Tree:
    """A copy that is built, spoiled, built again and mended. It is laid out as a clone that builds
    the preset dev: what ccache knows of that is not compiled again."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.source = folder / "tree"
        self.build = self.source / "build" / "dev"
        self.jobs = jobs
        self.sim = self.build / "tests" / "sim" / "membrain-sim"
        shutil.rmtree(self.source, ignore_errors=True)
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (self.source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.source / name)

    def configure(self) -> None:
        words = ["cmake", "--preset", "dev", "-DMEMBRAIN_BENCH=OFF"]
        if shutil.which("ccache"):
            words.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=self.source)

    def make(self) -> bool:
        words = ["cmake", "--build", str(self.build), "--target", "membrain-sim"]
        words += ["--parallel", str(self.jobs)]
        environment = os.environ | {"CCACHE_BASEDIR": str(self.source), "CCACHE_NOHASHDIR": "1"}
        made = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        if made.returncode != 0:
            print(made.stdout[-3000:], file=sys.stderr)
        return made.returncode == 0

    def apply(self, patch: Path, *, undo: bool = False) -> bool:
        words = ["patch", "-p1", "--silent", "--force", "--input", str(patch)]
        words += ["--reverse"] if undo else []
        return subprocess.run(words, cwd=self.source, check=False).returncode == 0


def read_bug(name: str) -> Bug:
    about, second = (PATCHES / f"{name}.patch").read_text(encoding="utf-8").split("\n")[:2]
    return Bug(name, about, second.removeprefix("kind: ") or "all")


def simulate(tree: Tree, bug: Bug, schedules: int) -> Verdict:
    words = [str(tree.sim), "--kind", bug.kind, "--schedules", str(schedules)]
    words += ["--most-violations", "1", "--json"]
    began = time.monotonic()
    try:
        ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return verdict(bug, False, 0, PATIENCE, f"nothing within {PATIENCE} s")
    took = time.monotonic() - began
    if ran.returncode == 1:
        first = next((line for line in ran.stderr.splitlines() if "membrain sim:" in line), "")
        how = first.partition("membrain sim: ")[2] or ran.stderr.strip().split("\n")[0]
        return verdict(bug, True, int(json.loads(ran.stdout)["schedules"]), took, how)
    if ran.returncode == 0:
        return verdict(bug, False, schedules, took, "not found")
    at = re.search(r"schedule (\d+) of this run ended the process", ran.stderr)
    lines = [line for line in ran.stderr.strip().split("\n") if "membrain sim:" not in line]
    said = [line for line in lines if "replay:" not in line and " requests, " not in line]
    how = f"the process ended: {said[-1] if said else f'signal {-ran.returncode}'}"
    return verdict(bug, ran.returncode < 0, int(at[1]) if at else 0, took, how)


def judge(tree: Tree, name: str, schedules: int) -> Verdict:
    patch = PATCHES / f"{name}.patch"
    bug = read_bug(name)
    if not tree.apply(patch):
        return verdict(bug, False, 0, 0.0, "the patch does not apply: make it again")
    try:
        if not tree.make():
            return verdict(bug, False, 0, 0.0, "it does not build: make the patch again")
        return simulate(tree, bug, schedules)
    finally:
        tree.apply(patch, undo=True)


def rotated(names: list[str], count: int) -> list[str]:
    """Others with each commit."""
    words = ["git", "rev-list", "--count", "HEAD"]
    counted = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    first = int(counted.strip() or 0) * count
    return [names[(first + i) % len(names)] for i in range(min(count, len(names)))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", help="of patches, without .patch")
    options.add_argument("--rotate", type=int, metavar="N", help="run N, others each time")
    options.add_argument("--schedules", type=int, default=10_000, help="at most, of each mutant")
    options.add_argument("--build", type=Path, default=ROOT / "build" / "mutants")
    options.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilers at once")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    every = sorted(patch.stem for patch in PATCHES.glob("*.patch"))
    names = chosen.names or (rotated(every, chosen.rotate) if chosen.rotate else every)
    if unknown := sorted(name for name in names if not (PATCHES / f"{name}.patch").exists()):
        sys.exit(f"no such mutant: {', '.join(unknown)}; there are {', '.join(every)}")
    tree = Tree(chosen.build, chosen.jobs)
    tree.configure()
    if not tree.make():
        sys.exit("the tree does not build without any mutant")
    verdicts = []
    for number, name in enumerate(names, 1):
        judged = judge(tree, name, chosen.schedules)
        verdicts.append(judged)
        found = f"{judged.schedules} schedules" if judged.caught else "SURVIVED"
        print(
            f"{number} of {len(names)}: {name}: {found}, {judged.seconds:.1f} s: {judged.how}",
            file=sys.stderr,
            flush=True,
        )
    caught = sum(judged.caught for judged in verdicts)
    if chosen.json:
        print(json.dumps([asdict(judged) for judged in verdicts], indent=2))
    else:
        print(f"{caught} passed, {len(verdicts) - caught} failed")
    sys.exit(0 if caught == len(verdicts) else 1)


if __name__ == "__main__":
    main()
