"""Style that is checked: floors between folders, sizes, names, words, public headers.

usage: tidy.py [--root FOLDER] [--no-compile] [--no-format] [FILE...]

Prints one line per finding, "file:line: rule: what to do", and ends with a status of 1 if there is
any. Without FILE every file of the repository that git does not ignore is read. What may stay as it
is, and why, stands in tests/tidy_allow.txt; an entry there that nothing needs is itself a finding.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 70
CPP_SUFFIXES = {".h", ".cc", ".cu"}
TEXT_SUFFIXES = CPP_SUFFIXES | {".py", ".sh", ".cmake", ".txt", ".md", ".toml", ".yml", ".supp"}
WIDE_SUFFIXES = {".md", ".txt"}  # prose and tables may be wide; CMakeLists.txt may not
UNREAD = {"LICENSE"}

# Which rooms a room may include, itself aside. "include" is the public contract.
VALUES = {"base", "include"}
FLOORS: dict[str, set[str]] = {
    "include": set(),
    "base": {"include"},
    "transport": VALUES,
    "transport/ucx": VALUES | {"transport"},
    "transport/cuda": VALUES | {"transport"},
    "transport/nccl": VALUES | {"transport", "transport/cuda"},
    "transport/verbs": VALUES | {"transport"},
    "protocol": VALUES | {"transport"},
    "server": VALUES | {"transport", "protocol"},
    "server/cluster": VALUES | {"transport", "protocol", "server"},
    "cache/engine": VALUES,
    "cache/memory": VALUES | {"transport", "transport/cuda"},
    "cache/node": VALUES | {"transport", "protocol"},
    "cache/share": VALUES
    | {"transport", "transport/cuda", "protocol", "cache/memory", "cache/node"},
    "cache/group": VALUES | {"transport", "transport/cuda", "protocol", "cache/memory"},
    "cache/client": VALUES
    | {"transport", "protocol", "transport/ucx", "transport/cuda", "transport/nccl"}
    | {"transport/verbs"}
    | {"cache/memory", "cache/share", "cache/group"},
}
TOP_ROOMS = {"tools", "bench", "tests", "python"}  # may include everything below them

# Libraries that only some rooms may include: pattern of the header -> rooms.
LIBRARIES: list[tuple[str, tuple[str, ...]]] = [
    (r"uc[pts]/", ("transport/ucx", "bench", "tests/ucx")),
    (r"(cuda|nvml|cublas|device_launch)", ("transport/cuda", "bench", "tests")),
    (r"nccl", ("transport/nccl", "bench", "tests")),
    (r"(infiniband|rdma)/", ("transport/verbs", "bench", "tests")),
    (r"spdlog/", ("base",)),
    (r"xxh", ("base",)),
    (r"openssl/", ("base", "transport/tls")),
    (r"(CLI/|toml\+\+/)", ("tools",)),
    (r"microhttpd", ("tools",)),
    (r"(nlohmann|simdjson)", ("tools", "server", "tests")),
    (r"pybind11/", ("python",)),
    (r"gtest/", ("tests",)),
    (r"gmock/", ()),
    (r"benchmark/", ("bench",)),
]


@dataclass(frozen=True)
class Word:
    """A pattern in code that only some rooms may use."""

    rule: str
    pattern: re.Pattern[str]
    rooms: tuple[str, ...]
    instead: str


def word(rule: str, pattern: str, rooms: tuple[str, ...], instead: str) -> Word:
    return Word(rule, re.compile(pattern), rooms, instead)


CODE_WORDS = [
    word(
        "environment",
        r"\b(secure_getenv|getenv|setenv|putenv)\b",
        ("tools", "tests", "bench", "transport/ucx"),
        "take it from the configuration struct; tools/ reads the environment",
    ),
    word(
        "thread",
        r"\bstd::(thread|jthread|async)\b(?!::)|\bpthread_create\b|\bThreadPool\b",
        ("tools", "tests", "bench", "cache/client"),
        "components start no threads: post to a loop's inbox",
    ),
    word(
        "sleep",
        r"\bthis_thread::sleep_\w+|\b(usleep|nanosleep)\s*\(|(?<![\w.>])sleep\s*\(\s*\d",
        ("tools", "bench"),
        "turn loops with a bound, move a ManualClock, or wait on a descriptor",
    ),
    word(
        "clock",
        r"_clock::now\s*\(|\bclock_gettime\b|\bgettimeofday\b|\btime\s*\(\s*(nullptr|NULL|0)\s*\)",
        ("tools", "tests", "bench", "base/clock.h"),
        "take the time as a parameter or from a Clock",
    ),
    word(
        "wall-time",
        r"\bsystem_clock\b",
        ("tools", "bench"),
        "use the monotonic clock: wall time jumps",
    ),
    word("assert", r"(?<!_)\bassert\s*\(", (), "use check(): it is on in every build"),
    word(
        "print",
        r"\bstd::(cout|cerr|clog|printf)\b|(?<![\w:])(f?printf|puts)\s*\(",
        ("tools", "bench", "tests"),
        "use log(): only tools/ writes to the terminal",
    ),
    word("exception", r"\bthrow\b", ("tools", "tests", "bench", "python"), "return a Result"),
    word(
        "exit",
        r"(?<![\w.:>])(std::)?(exit|_exit|quick_exit)\s*\(",
        ("tools", "tests", "bench"),
        "return a Result; only tools/ ends the process",
    ),
    word(
        "coroutine",
        r"\bco_await\b[^;]*(\{|\[[^\]]*\]\s*(\(|mutable\b))",
        (),
        "g++ 12.2 frees such an operand twice: make it a named local first",
    ),
    word(
        "disabled-test",
        r"\bTEST(_[FP])?\s*\([^)]*\bDISABLED_|\bGTEST_SKIP\(\)\s*;",
        (),
        "mend the test, or skip with the missing thing as the reason",
    ),
]

# Written in two halves so that this file does not find itself.
BANNED = re.compile(
    r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|WI" r"P)\b"
    r"|\b[Ff]or n" r"ow\b|\b[Pp]laceh" r"older|\b[Nn]ot (yet )?implem" r"ented\b"
)
MACHINE_PATH = re.compile(r"(?<![\w.])/(wo" r"rk|ho" r"me|ro" r"ot|Us" r"ers|sr" r"v)/")
TYPE_PARTS = {"Manager", "Helper", "Helpers", "Util", "Utils", "Impl", "Data", "Base", "Info"}
FILE_PARTS = {"manager", "helper", "helpers", "util", "utils", "impl", "misc"}
FOLDERS = FILE_PARTS | {"common"}
# Names that are the field's own: Data is the answer to Fetch on the wire; the data loop is the one
# that is not the control loop.
TYPE_EXCEPTIONS = {
    ("protocol/messages.h", "Data"),
    ("protocol/messages.h", "DataItem"),
    ("cache/node/store_service.h", "DataLoop"),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?P<open>[<"])(?P<path>[^>"]+)[>"]')
TYPE_NAME = re.compile(
    r"\b(?:class|struct|union|enum(?:\s+class|\s+struct)?)\s+(?:\[\[[^\]]*\]\]\s*)?"
    r"(?:alignas\([^)]*\)\s*)?(?P<name>[A-Za-z_]\w*)\s*(?:final\b\s*)?(?=[:{]|$)"
    r"|\busing\s+(?P<alias>[A-Za-z_]\w*)\s*=|\bconcept\s+(?P<concept>[A-Za-z_]\w*)"
)
MARKDOWN_LINK = re.compile(r"\[[^\]]*\]\((?P<to>[^)\s]+)\)")


@dataclass(frozen=True, order=True)
class Finding:
    path: str
    line: int
    rule: str
    message: str
    subject: str = ""  # what an entry of the allow list names; the message's subject

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


@dataclass
class Source:
    """One file: its lines, and for C++ the same lines without comments and literals."""

    path: str
    text: str
    lines: list[str] = field(init=False)
    code: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = self.text.split("\n")
        self.code = blank_literals(self.text).split("\n") if self.is_cpp else self.lines

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    @property
    def is_cpp(self) -> bool:
        return self.suffix in CPP_SUFFIXES

    @property
    def is_header(self) -> bool:
        return self.suffix == ".h"


LITERAL = re.compile(
    r'R"(?P<mark>[^\s()\\"]{0,16})\(.*?\)(?P=mark)"'
    r"|//[^\n]*|/\*.*?\*/"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9A-Fa-f'])'(?:\\.|[^'\\\n])+'",
    re.DOTALL,
)
INCLUDE_LINE = re.compile(r"^[ \t]*#[ \t]*include[^\n]*", re.MULTILINE)


def blank_literals(text: str) -> str:
    """Comments, strings and characters become blanks; lines stay where they are."""

    def blank(match: re.Match[str]) -> str:
        inner = re.sub(r"[^\n]", " ", match[0])
        if match[0].startswith("/"):
            return inner
        return f'"{inner[1:-1]}"'

    return LITERAL.sub(blank, INCLUDE_LINE.sub(lambda m: " " * len(m[0]), text))


def room_of(path: str) -> str:
    """The deepest room that a path lies in; its first folder if none is listed."""
    parts = PurePosixPath(path).parts[:-1]
    for count in range(len(parts), 0, -1):
        name = "/".join(parts[:count])
        if name in FLOORS:
            return name
    return parts[0] if parts else ""


def lies_in(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)


def room_of_include(path: str) -> str:
    return "include" if path.startswith("membrain/") else room_of(path)


# ---- rules: each takes a source and yields findings ----


def check_floors(source: Source) -> Iterator[Finding]:
    room = room_of(source.path)
    if not source.is_cpp:
        return
    for number, line in enumerate(source.lines, 1):
        match = INCLUDE.match(line)
        if match is None:
            continue
        path = match["path"]
        if match["open"] == "<":
            for pattern, rooms in LIBRARIES:
                if re.match(pattern, path) and not lies_in(source.path, rooms):
                    where = ", ".join(rooms) or "nowhere"
                    message = f"<{path}> is included only in: {where}"
                    yield Finding(source.path, number, "floor", message, path)
            continue
        if any(re.match(pattern, path) for pattern, _ in LIBRARIES):
            yield Finding(source.path, number, "floor", f"write <{path}>, with angles", path)
            continue
        if room in TOP_ROOMS:
            if room == "tools" and lies_in(path, ("tests", "bench")):
                message = "tools does not include tests or bench"
                yield Finding(source.path, number, "floor", message, path)
            continue
        target = room_of_include(path)
        if "/" not in path or (target not in FLOORS and target not in TOP_ROOMS):
            message = f'write "{path}" from the root of the repository'
            yield Finding(source.path, number, "floor", message, path)
        elif room in FLOORS and target != room and target not in FLOORS[room]:
            allowed = ", ".join(sorted(FLOORS[room])) or "itself"
            message = f"{room} does not include {target}; it may include: {allowed}"
            yield Finding(source.path, number, "floor", message, path)


def check_columns(source: Source) -> Iterator[Finding]:
    if source.suffix in WIDE_SUFFIXES and not source.path.endswith("CMakeLists.txt"):
        return
    for number, line in enumerate(source.lines, 1):
        if len(line) > MAX_COLUMNS:
            message = f"{len(line)} columns: break the line at {MAX_COLUMNS}"
            yield Finding(source.path, number, "columns", message)


def check_whitespace(source: Source) -> Iterator[Finding]:
    for number, line in enumerate(source.lines, 1):
        if line != line.rstrip() and source.suffix != ".md":
            yield Finding(source.path, number, "whitespace", "remove what trails the line")
        if "\t" in line:
            yield Finding(source.path, number, "whitespace", "use spaces, not tabs")
    if source.text and not source.text.endswith("\n"):
        yield Finding(source.path, len(source.lines), "whitespace", "end the file with a newline")


def check_words(source: Source) -> Iterator[Finding]:
    for number, line in enumerate(source.lines, 1):
        if match := BANNED.search(line):
            message = f'"{match[0]}": do it, or write an issue'
            yield Finding(source.path, number, "word", message, match[0])
        if match := MACHINE_PATH.search(line):
            message = f'"{match[0]}": no path of a machine in the repository'
            yield Finding(source.path, number, "machine", message, match[0])


def check_code_words(source: Source) -> Iterator[Finding]:
    if not source.is_cpp:
        return
    for number, line in enumerate(source.code, 1):
        for entry in CODE_WORDS:
            match = entry.pattern.search(line)
            if match and not lies_in(source.path, entry.rooms):
                name = " ".join(match[0].split()).rstrip("( ")
                yield Finding(source.path, number, entry.rule, f"{name}: {entry.instead}", name)


def parts_of(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", name)


def check_names(source: Source) -> Iterator[Finding]:
    stem = PurePosixPath(source.path).stem
    if source.is_cpp and not re.fullmatch(r"[a-z][a-z0-9_]*", stem):
        yield Finding(source.path, 1, "name", "file names are snake_case", stem)
    folders = FOLDERS & {*PurePosixPath(source.path).parts[:-1], stem}
    if source.is_cpp and (bad := folders | FILE_PARTS & set(stem.split("_"))):
        message = f'"{bad.pop()}" says nothing: name it after what is in it'
        yield Finding(source.path, 1, "name", message, stem)
    if not source.is_cpp:
        return
    for number, line in enumerate(source.code, 1):
        for match in TYPE_NAME.finditer(line):
            name = match["name"] or match["alias"] or match["concept"]
            bad_parts = TYPE_PARTS & set(parts_of(name))
            if bad_parts and (source.path, name) not in TYPE_EXCEPTIONS:
                message = f'{name}: "{bad_parts.pop()}" says nothing: name what it is'
                yield Finding(source.path, number, "name", message, name)


def check_header(source: Source) -> Iterator[Finding]:
    if not source.is_header:
        return
    first = next((n for n, line in enumerate(source.code) if line.strip()), None)
    if first is None or source.code[first].strip() != "#pragma once":
        message = "begin the header with a sentence of prose, then #pragma once"
        yield Finding(source.path, 1, "header", message)
    elif not source.lines[0].startswith("//"):
        message = "say in a first comment what the header is for"
        yield Finding(source.path, 1, "header", message)
    for number, line in enumerate(source.code, 1):
        if re.search(r"\busing\s+namespace\b", line):
            yield Finding(source.path, number, "header", "no `using namespace` in a header")


def check_built(source: Source, root: Path) -> Iterator[Finding]:
    """A source that no CMakeLists names is never compiled."""
    path = PurePosixPath(source.path)
    if path.suffix != ".cc" or path.parts[:2] == ("tests", "package"):
        return
    for folder in list(path.parents)[:-1]:
        listing = root / folder / "CMakeLists.txt"
        if listing.exists():
            inner = str(path.relative_to(folder))
            if not re.search(rf"(?<![\w/]){re.escape(inner)}\b", listing.read_text("utf-8")):
                message = f"name it in {folder}/CMakeLists.txt: nothing builds it"
                yield Finding(source.path, 1, "built", message)
            return


def check_links(source: Source, root: Path) -> Iterator[Finding]:
    if source.suffix != ".md":
        return
    for number, line in enumerate(source.lines, 1):
        for match in MARKDOWN_LINK.finditer(line):
            target = match["to"].split("#")[0]
            if not target or re.match(r"[a-z]+:", target):
                continue
            if not (root / source.path).parent.joinpath(target).exists():
                message = f"{target} does not exist"
                yield Finding(source.path, number, "link", message, target)


# ---- function lengths ----

NOT_A_FUNCTION = re.compile(
    r"^(?:template\s*<.*>\s*)?(?:inline\s+)?(?:typedef\s+)?"
    r"(?:namespace|class|struct|union|enum|extern|export)\b"
)
ACCESS = re.compile(r"^\s*(?:public|private|protected)\s*:(?!:)")
BLOCK_NAME = re.compile(r"(?P<name>(?:~?\w+(?:<[^()]*>)?::)*(?:operator\s*[^\s\w(]+|~?\w+))\s*\(")


@dataclass
class Block:
    is_function: bool
    name: str
    begins: int


def outside_parentheses(text: str) -> str:
    """`text` without template parameters and without what stands in parentheses."""
    text = re.sub(r"^template\s*<[^()]*?>\s*(?=[\w\[:])", "", text)
    while (shorter := re.sub(r"\([^()]*\)", " ", text)) != text:
        text = shorter
    return text


def classify(head: str) -> Block | None:
    """What the brace after `head` opens at namespace or class scope; None for an initialiser."""
    text = " ".join(ACCESS.sub("", head).split())
    if text.endswith("=") or (text.endswith(",") and "(" not in text):
        return None
    if NOT_A_FUNCTION.match(re.sub(r"\[\[.*?\]\]\s*", "", text)):
        return Block(False, text, 0)
    constructor = re.search(r"\)\s*(?:noexcept\s*(?:\([^)]*\)\s*)?)?:(?!:)", text)
    if constructor and re.search(r"[\w>]$", text):
        return None  # a member initialised with braces
    name = BLOCK_NAME.search(text)
    if name is None or ("operator" not in text and "=" in outside_parentheses(text)):
        return None
    if name["name"] in {"TEST", "TEST_F", "TEST_P", "TYPED_TEST", "BENCHMARK_F"}:
        inner = text[name.end() :].rstrip(") ")
        return Block(True, f"{name['name']}({inner})", 0)
    return Block(True, name["name"], 0)


@dataclass(frozen=True)
class Part:
    """A function or a type of a C++ source, from its first to its last line."""

    is_function: bool
    name: str  # of a type: with its namespaces
    begins: int
    count: int


TEMPLATE = re.compile(r"^template\s*<[^{}()]*?>\s*(?:requires\b.*?)?(?=class\b|struct\b|union\b)")
TYPE_BLOCK = re.compile(
    r"^(?:class|struct|union)\s+(?:\[\[.*?\]\]\s*)?(?:alignas\([^)]*\)\s*)?"
    r"(?P<name>\w+(?:::\w+)*)\s*(?:final\b\s*)?(?::(?!:).*)?$"
)


def namespace_of(blocks: list[Block | None]) -> str | None:
    """"a::b" if all of `blocks` are namespaces with names; None inside anything else."""
    names = []
    for block in blocks:
        match = re.fullmatch(r"(?:inline )?namespace ([\w:]+)", block.name) if block else None
        if match is None:
            return None
        names.append(match[1])
    return "::".join(names)


def parts_of_source(source: Source) -> Iterator[Part]:
    text = "\n".join(
        "" if line.lstrip().startswith("#") or earlier.endswith("\\") else line
        for line, earlier in zip(source.code, ["", *source.code], strict=False)
    )
    stack: list[Block | None] = []
    head_begins = 0
    line = 1
    for index, char in enumerate(text):
        if char == "\n":
            line += 1
        inside = any(block is None or block.is_function for block in stack)
        if char == "{":
            block = None
            if not inside:
                block = classify(text[head_begins:index])
            if block is not None:
                head = ACCESS.sub("", text[head_begins:index])
                block.begins = line - head.lstrip().count("\n")
                head_begins = index + 1
            stack.append(block)
        elif char == "}" and stack:
            block = stack.pop()
            if block is not None:
                head_begins = index + 1
                count = line - block.begins + 1
                kind = TYPE_BLOCK.match(TEMPLATE.sub("", block.name))
                space = namespace_of(stack) if kind else None
                if block.is_function:
                    yield Part(True, block.name, block.begins, count)
                elif kind and space is not None:
                    yield Part(False, f"{space}::{kind['name']}", block.begins, count)
        elif char == ";" and not inside:
            head_begins = index + 1


def check_functions(source: Source) -> Iterator[Finding]:
    if source.is_cpp:
        parts = [part for part in parts_of_source(source) if part.is_function]
        found = [(part.name, part.begins, part.count) for part in parts]
    elif source.suffix == ".py":
        found = [
            (node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
            for node in ast.walk(ast.parse(source.text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
    else:
        return
    for name, begins, count in found:
        if count > MAX_FUNCTION_LINES:
            message = f"{name} has {count} lines: split it ({MAX_FUNCTION_LINES} at most)"
            yield Finding(source.path, begins, "length", message, name)


def check_types(sources: list[Source]) -> Iterator[Finding]:
    """Two types of one name in one program break it silently: the linker keeps one of each."""
    first: dict[str, str] = {}
    for source in sources:
        if not source.is_cpp:
            continue
        for part in parts_of_source(source):
            if part.is_function:
                continue
            other = first.setdefault(part.name, source.path)
            if other != source.path:
                message = f"{part.name} is also a type in {other}: rename one"
                yield Finding(source.path, part.begins, "twice", message, part.name)


# ---- checks that run a tool ----


def check_public_headers(root: Path) -> Iterator[Finding]:
    """Every public header compiles alone."""
    compiler = os.environ.get("CXX") or "g++"
    for header in sorted((root / "include" / "membrain").glob("*.h")):
        path = str(header.relative_to(root))
        command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
        command += ["-I", str(root / "include"), "-x", "c++", "-"]
        text = f'#include "membrain/{header.name}"\n'
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            error = next((line for line in done.stderr.split("\n") if "error" in line), "error")
            message = f"does not compile alone: {error.split('error: ')[-1]}"
            yield Finding(path, 1, "self-contained", message)


def check_format(root: Path, sources: list[Source]) -> Iterator[Finding]:
    """clang-format has nothing to change."""
    tool = shutil.which("clang-format-16")
    if tool is None:
        print("tidy: clang-format-16 is missing: formatting was not checked", file=sys.stderr)
        return
    paths = [source.path for source in sources if source.is_cpp]
    if not paths:
        return
    command = [tool, "--dry-run", *paths]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    first: dict[str, int] = {}
    for match in re.finditer(r"^(?P<path>[^:\n]+):(?P<line>\d+):\d+: warning", done.stderr, re.M):
        first.setdefault(match["path"], int(match["line"]))
    for path, line in first.items():
        yield Finding(path, line, "format", f"run clang-format-16 -i {path}")


# ---- the allow list, and main ----


@dataclass(frozen=True)
class Allowed:
    rule: str
    path: str
    subject: str
    line: int

    def covers(self, finding: Finding) -> bool:
        return (self.rule, self.path) == (finding.rule, finding.path) and (
            self.subject in ("*", finding.subject)
        )


def read_allowed(path: Path) -> tuple[list[Allowed], list[Finding]]:
    """Lines "rule | file | subject | why"; a line without a reason is a finding."""
    allowed: list[Allowed] = []
    findings: list[Finding] = []
    if not path.exists():
        return allowed, findings
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [part.strip() for part in line.split("|")]
        if len(fields) != 4 or not all(fields):
            message = 'write "rule | file | subject | why"'
            findings.append(Finding("tests/tidy_allow.txt", number, "allow", message))
            continue
        allowed.append(Allowed(fields[0], fields[1], fields[2], number))
    return allowed, findings


def apply_allowed(
    findings: list[Finding], allowed: list[Allowed], complete: bool
) -> list[Finding]:
    left = [f for f in findings if not any(entry.covers(f) for entry in allowed)]
    for entry in allowed if complete else []:
        if not any(entry.covers(finding) for finding in findings):
            message = f"nothing in {entry.path} needs it: remove the line"
            left.append(Finding("tests/tidy_allow.txt", entry.line, "allow", message))
    return left


def list_files(root: Path) -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return sorted(path for path in done.stdout.split("\0") if path)
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] not in {"build", ".git"}
    )


def read_sources(root: Path, paths: list[str]) -> list[Source]:
    sources = []
    for path in paths:
        if PurePosixPath(path).suffix not in TEXT_SUFFIXES or path in UNREAD:
            continue
        if (root / path).is_file():  # listed by git, and not just removed
            sources.append(Source(path, (root / path).read_text("utf-8")))
    return sources


RULES: list[Callable[[Source], Iterator[Finding]]] = [
    check_floors,
    check_columns,
    check_whitespace,
    check_words,
    check_code_words,
    check_names,
    check_header,
    check_functions,
]
ROOT_RULES: list[Callable[[Source, Path], Iterator[Finding]]] = [check_built, check_links]


def tidy(root: Path, paths: list[str] | None, compile_headers: bool, fmt: bool) -> list[Finding]:
    sources = read_sources(root, list_files(root) if paths is None else paths)
    findings: list[Finding] = []
    for source in sources:
        for rule in RULES:
            findings.extend(rule(source))
        for root_rule in ROOT_RULES:
            findings.extend(root_rule(source, root))
    findings.extend(check_types(sources))
    if compile_headers:
        findings.extend(check_public_headers(root))
    if fmt:
        findings.extend(check_format(root, sources))
    allowed, mistakes = read_allowed(root / "tests" / "tidy_allow.txt")
    complete = paths is None and compile_headers and fmt
    return sorted(mistakes + apply_allowed(findings, allowed, complete))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--root", type=Path, default=here, help="the repository")
    parser.add_argument("--no-compile", action="store_true", help="no public headers alone")
    parser.add_argument("--no-format", action="store_true", help="no clang-format")
    parser.add_argument("files", nargs="*", metavar="FILE", help="relative to the root")
    options = parser.parse_args(arguments)
    paths = options.files or None
    findings = tidy(options.root, paths, not options.no_compile, not options.no_format)
    for finding in findings:
        print(finding)
    print(f"tidy: {len(findings)} finding{'' if len(findings) == 1 else 's'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
