"""Fuzzes every decoder for a while: builds the preset `fuzz` with clang 16, runs one target after
the other, keeps new inputs, and ends with a table.

usage: tools/fuzz.sh [--minutes M] [--jobs N] [--json] [--list] [TARGET...]

A target begins with its seeds (fuzz_seeds), its corpus in tests/fuzz/corpus/TARGET, and what
earlier runs here have found (build/fuzz/corpus/TARGET). Inputs that reach an edge of the program
that the corpus does not reach are added to it: `git status` shows them. A crash is kept in
build/fuzz/crashes and named with the command that repeats it. The status is 0 if no target crashed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "tests" / "fuzz"
BUILD = ROOT / "build" / "fuzz"
PROGRAMS = BUILD / "tests" / "fuzz"
CORPUS = HERE / "corpus"
COMPILER = "clang++-16"

LONGEST_INPUT = 4096  # bytes
INPUT_PATIENCE = 20  # seconds for one input
MEMORY_MIB = 2048
ALLOCATION_MIB = 256  # of one allocation: decoders are bounded
PROGRESS_SECONDS = 10.0
# Targets that need files write them here: not to a disk, if there is other memory.
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None

# UCX, gRPC and libmicrohttpd are not built with the sanitizer: what they give us is not tracked.
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:detect_container_overflow=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
STATUS = re.compile(r"^#(?P<runs>\d+):?\s+(\w+\s+)?cov: (?P<edges>\d+) ")  # of one job, or more
FINAL_RUNS = re.compile(r"^stat::number_of_executed_units:\s+(\d+)")
ARTIFACT = re.compile(r"Test unit written to (\S+)")


class CannotRun(Exception):
    """What is missing, in words."""


@dataclass
class Outcome:
    target: str
    executions: int = 0
    seconds: float = 0.0
    edges: int = 0
    inputs: int = 0  # that the corpus has now
    added: int = 0  # of them, new
    crashes: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> int:
        return round(self.executions / self.seconds) if self.seconds else 0

    def take_line(self, line: str) -> None:
        """Reads a line that libFuzzer prints."""
        if status := STATUS.match(line):
            self.executions = max(self.executions, int(status["runs"]))
            self.edges = max(self.edges, int(status["edges"]))
        elif final := FINAL_RUNS.match(line):
            self.executions = int(final[1])
        elif artifact := ARTIFACT.search(line):
            self.crashes.append(artifact[1])


def all_targets(listing: str) -> list[str]:
    """Those that tests/fuzz/CMakeLists.txt names; `planted` has bugs on purpose."""
    names = re.findall(r"^\s*fuzz_target\((\w+)", listing, re.MULTILINE)
    return sorted(name for name in names if name != "planted")


def shown(path: str | Path) -> str:
    path = Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


# ---- building ----


def check_tools() -> None:
    if shutil.which(COMPILER) is None:
        raise CannotRun(f"{COMPILER} is not installed: tools/setup.sh --all, or apt-get install"
                        " clang-16 libclang-rt-16-dev")
    if shutil.which("cmake") is None:
        raise CannotRun("cmake is not installed: tools/setup.sh --build")
    runtime = [COMPILER, "-print-file-name=libclang_rt.fuzzer-x86_64.a"]
    printed = subprocess.run(runtime, capture_output=True, text=True, check=False).stdout.strip()
    if not Path(printed).is_file():
        raise CannotRun("clang's libFuzzer is not installed: apt-get install libclang-rt-16-dev")


def build(targets: list[str], jobs: int) -> None:
    words = ["cmake", "--preset", "fuzz"]
    environment = dict(os.environ)
    if shutil.which("ccache"):
        words.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
        environment |= {"CCACHE_BASEDIR": str(ROOT), "CCACHE_NOHASHDIR": "1"}
    programs = ["fuzz_seeds", *(f"fuzz_{target}" for target in targets)]
    for step in (words, ["cmake", "--build", str(BUILD), "-j", str(jobs), "--target", *programs]):
        done = subprocess.run(
            step, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            print((done.stdout + done.stderr)[-4000:], file=sys.stderr)
            raise CannotRun(f"this failed: {' '.join(step)}")


# ---- one target ----


def libfuzzer(
    program: Path, flags: list[str], folders: list[Path], temporary: str
) -> Iterator[str]:
    """Runs it; yields what it prints, line by line."""
    words = [str(program), *flags, *map(str, folders)]
    environment = os.environ | ENVIRONMENT | {"TMPDIR": temporary}
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace",
    ) as process:
        assert process.stderr is not None
        try:
            yield from process.stderr
        except BaseException:  # nobody listens any more
            process.kill()
            raise
    if process.returncode != 0:
        yield f"exit {process.returncode}"


def flags_for(seconds: float, jobs: int, crashes: Path) -> list[str]:
    flags = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={INPUT_PATIENCE}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-malloc_limit_mb={ALLOCATION_MIB}",
        f"-artifact_prefix={crashes}/",
        "-print_final_stats=1",
        "-close_fd_mask=3",  # what the program itself says of bad input
        "-detect_leaks=0" if jobs > 1 else "-detect_leaks=1",
    ]
    return flags + ([f"-fork={jobs}", "-ignore_crashes=0"] if jobs > 1 else [])


def fuzz(program: Path, outcome: Outcome, seconds: float, jobs: int, folders: list[Path]) -> None:
    """One run of one target. One that ends badly without an input of its own is a crash too: its
    log is named."""
    crashes = BUILD / "crashes" / outcome.target
    log = BUILD / "logs" / f"{outcome.target}.log"
    for folder in (crashes, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    began = last = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="membrain-fuzz-", dir=SCRATCH) as temporary,
        log.open("w", encoding="utf-8") as kept,
    ):
        for line in libfuzzer(program, flags_for(seconds, jobs, crashes), folders, temporary):
            kept.write(line)
            outcome.take_line(line)
            outcome.seconds = time.monotonic() - began
            if line.startswith("exit ") and not outcome.crashes:
                outcome.crashes.append(str(log))
            if began + outcome.seconds - last >= PROGRESS_SECONDS:
                last = began + outcome.seconds
                report_progress(outcome, seconds)


def report_progress(outcome: Outcome, seconds: float) -> None:
    print(
        f"  {outcome.target}: {outcome.seconds:.0f} of {seconds:.0f} s, {outcome.executions:,}"
        f" executions, {outcome.edges:,} edges",
        file=sys.stderr,
        flush=True,
    )


def merge(program: Path, target: str, found: Path, others: list[Path]) -> int:
    """Adds to the corpus what reaches edges that it does not; how many inputs these are."""
    corpus = CORPUS / target
    corpus.mkdir(parents=True, exist_ok=True)
    before = len(list(corpus.iterdir()))
    flags = ["-set_cover_merge=1", "-use_counters=0", f"-max_len={LONGEST_INPUT}",
             "-close_fd_mask=3", "-detect_leaks=0"]
    with tempfile.TemporaryDirectory(prefix="membrain-fuzz-", dir=SCRATCH) as temporary:
        said = list(libfuzzer(program, flags, [corpus, found, *others], temporary))
    if said and said[-1].startswith("exit "):
        raise CannotRun(f"merging the inputs of {target} failed: {''.join(said[-5:])}")
    return len(list(corpus.iterdir())) - before


def run_target(outcome: Outcome, seconds: float, jobs: int) -> None:
    target = outcome.target
    program = PROGRAMS / f"fuzz_{target}"
    found = BUILD / "corpus" / target
    found.mkdir(parents=True, exist_ok=True)
    others = [path for path in (CORPUS / target, BUILD / "seeds" / target) if path.is_dir()]
    fuzz(program, outcome, seconds, jobs, [found, *others])
    if not outcome.crashes:
        outcome.added = merge(program, target, found, others[-1:])
    outcome.inputs = len(list((CORPUS / target).iterdir())) if (CORPUS / target).is_dir() else 0


# ---- what is said ----


def table(outcomes: list[Outcome]) -> str:
    rows = [["target", "seconds", "executions", "exec/s", "edges", "inputs", "new", "crashes"]]
    for one in outcomes:
        figures = (round(one.seconds), one.executions, one.per_second, one.edges, one.inputs,
                   one.added)
        rows.append([one.target, *(f"{figure:,}" for figure in figures), str(len(one.crashes))])
    executions = sum(one.executions for one in outcomes)
    seconds = sum(one.seconds for one in outcomes)
    totals = (round(seconds), executions, round(executions / seconds) if seconds else 0,
              sum(one.edges for one in outcomes), sum(one.inputs for one in outcomes),
              sum(one.added for one in outcomes), sum(len(one.crashes) for one in outcomes))
    rows.append(["total", *(f"{figure:,}" for figure in totals)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def crashes_in_words(outcomes: list[Outcome]) -> str:
    lines = []
    for one in outcomes:
        for crash in one.crashes:
            if crash.endswith(".log"):
                lines.append(f"{one.target} ended badly without an input: see {shown(crash)}")
                continue
            lines.append(f"{one.target} crashed: {shown(crash)}")
            lines.append(f"  repeat: {shown(PROGRAMS)}/fuzz_{one.target} {shown(crash)}")
    return "\n".join(lines)


def as_json(outcomes: list[Outcome]) -> str:
    return json.dumps(
        {
            "targets": [asdict(one) | {"exec_per_second": one.per_second} for one in outcomes],
            "seconds": sum(one.seconds for one in outcomes),
            "executions": sum(one.executions for one in outcomes),
            "crashes": sum(len(one.crashes) for one in outcomes),
        },
        indent=2,
    )


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def options_of(arguments: list[str], known: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/fuzz.sh", description=(__doc__ or "").split("\n\n", maxsplit=1)[0],
        epilog="targets: " + ", ".join(known),
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="those to run (all)")
    parser.add_argument("--minutes", type=positive, default=2.0, metavar="M",
                        help="for each target (2)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="processes that fuzz a target together, and that build (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not the table")
    parser.add_argument("--list", action="store_true", help="print the targets, run none")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.targets) - set(known)):
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(known)}")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: at least one")
    return options


def main(arguments: list[str]) -> int:
    known = all_targets((HERE / "CMakeLists.txt").read_text(encoding="utf-8"))
    options = options_of(arguments, known)
    if options.list:
        print("\n".join(known))
        return 0
    targets = list(dict.fromkeys(options.targets)) or known
    outcomes: list[Outcome] = []
    interrupted = False
    try:
        check_tools()
        print(f"building {len(targets)} targets", file=sys.stderr, flush=True)
        build(targets, options.jobs)
        seeds = [str(PROGRAMS / "fuzz_seeds"), str(BUILD / "seeds")]
        subprocess.run(seeds, check=True, stdout=subprocess.DEVNULL)
        for number, target in enumerate(targets, 1):
            print(f"{number} of {len(targets)}: {target}", file=sys.stderr, flush=True)
            outcomes.append(Outcome(target))
            run_target(outcomes[-1], options.minutes * 60, options.jobs)
    except CannotRun as missing:
        print(f"fuzz: {missing}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        interrupted = True
        print("fuzz: interrupted; what ran until now:", file=sys.stderr)
    if crashed := crashes_in_words(outcomes):
        print(crashed, file=sys.stderr)
    print(as_json(outcomes) if options.json else table(outcomes))
    return 1 if crashed else 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
