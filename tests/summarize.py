"""Adds up what tools/test.sh ran: prints the end of what each failed test said, what each skip
lacks and every failure, then one line.

usage: summarize.py FOLDER   (with *.xml from `ctest --output-junit` and *.step files)
The status is 0 only if something passed and nothing failed.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# GoogleTest prints "file:line: Skipped", then the reason; unittest "... skipped 'the reason'";
# pytest -rs "SKIPPED [1] file:line: the reason".
SKIP_REASONS = (
    re.compile(r":\d+: Skipped\n(?P<reason>.*?)(?:\n\n|\n\[|\Z)", re.DOTALL),
    re.compile(r" \.\.\. skipped (?P<quote>['\"])(?P<reason>.*)(?P=quote)$", re.MULTILINE),
    re.compile(r"^SKIPPED \[\d+\] \S+:\d+: (?P<reason>.*)$", re.MULTILINE),
)

LAST_LINES, LINE_LENGTH = 40, 240  # of a failed test's output


@dataclass
class Tally:
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    said: dict[str, list[str]] = field(default_factory=dict)  # by failed tests
    skipped: Counter[str] = field(default_factory=Counter)

    def add_step(self, path: Path) -> None:
        if path.read_text(encoding="utf-8").strip() == "passed":
            self.passed += 1
        else:
            self.failed.append(path.stem)

    def add_junit(self, path: Path) -> None:
        try:
            cases = ElementTree.parse(path).getroot().findall("testcase")
        except ElementTree.ParseError:
            self.failed.append(f"{path.stem}: unreadable results")
            return
        if not cases:
            self.failed.append(f"{path.stem}: no test ran")
        for case in cases:
            self.add_case(path.stem, case)

    def add_case(self, preset: str, case: ElementTree.Element) -> None:
        name = f"{preset}: {case.get('name')}"
        skip = case.find("skipped")
        if case.get("status") == "run" and case.find("failure") is None:
            self.passed += 1
        elif skip is not None and (reason := skip_reason(case)):
            self.skipped[f"{preset}: {reason}"] += 1
        else:  # a test whose program is missing is "notrun" too: that is a failure
            self.failed.append(name)
            said = (case.findtext("system-out") or "").splitlines()
            self.said[name] = [line[:LINE_LENGTH] for line in said[-LAST_LINES:]]


def skip_reason(case: ElementTree.Element) -> str:
    """What a skipped test lacks; empty if it was not skipped but could not run."""
    output = case.findtext("system-out") or ""
    for pattern in SKIP_REASONS:
        if found := pattern.search(output):
            return " ".join(found["reason"].split()) or "no reason given"
    return "no reason given" if "[  SKIPPED ]" in output else ""


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    tally = Tally()
    for path in sorted(Path(arguments[0]).iterdir()):
        if path.suffix == ".xml":
            tally.add_junit(path)
        elif path.suffix == ".step":
            tally.add_step(path)
            preset = path.stem.removeprefix("build-")
            built = preset != path.stem and path.read_text(encoding="utf-8").startswith("passed")
            if built and not path.with_name(f"{preset}.xml").exists():
                tally.failed.append(f"{preset}: the tests did not run")
    for name, lines in tally.said.items():
        print(f"---- {name} ended with", *lines, sep="\n")
    for reason, count in sorted(tally.skipped.items()):
        print(f"skipped {count:4}  {reason}")
    for name in tally.failed:
        print(f"failed        {name}")
    skipped = sum(tally.skipped.values())
    print(f"{tally.passed} passed, {len(tally.failed)} failed, {skipped} skipped")
    return 0 if tally.passed and not tally.failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
