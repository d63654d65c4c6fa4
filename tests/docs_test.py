"""What the documents name is there: numbers, fields, tests, mutants, options."""

from __future__ import annotations

import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "protocol.md").read_text("utf-8")
FRAME = (ROOT / "protocol" / "frame.h").read_text("utf-8")
MESSAGES = (ROOT / "protocol" / "messages.h").read_text("utf-8")
RESULT = (ROOT / "include" / "membrain" / "result.h").read_text("utf-8")


def enumerators(text: str, name: str) -> list[tuple[str, str]]:
    """Name and value, "" where the code writes none."""
    found = re.search(rf"enum class {name} : [\w:]+ \{{(.*?)\n\}};", text, re.DOTALL)
    assert found is not None, name
    inside = re.sub(r"//[^\n]*", "", found[1])
    return re.findall(r"(\w+)(?:\s*=\s*(\d+))?,", inside)


def numbered(text: str, name: str, first: int) -> str:
    names = [enumerator for enumerator, _ in enumerators(text, name)]
    return ", ".join(f"{number} {entry}" for number, entry in enumerate(names, first))


class ProtocolPage(unittest.TestCase):
    def test_lists_every_message_type_with_its_number(self) -> None:
        code = {name: int(value) for name, value in enumerators(FRAME, "Type")}
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)
        self.assertEqual({name: int(number) for number, name in rows}, code)

    def test_lists_bounds_as_they_are(self) -> None:
        code = dict(re.findall(r"constexpr std::size_t (kMax\w+) = (\d+);", MESSAGES))
        rows = dict(re.findall(r"^\| `(kMax\w+)` \| (\d+) \|", PAGE, re.MULTILINE))
        code.pop("kMaxClasses", None)  # no message carries classes
        self.assertEqual(rows, code)

    def test_names_header_magic_and_version(self) -> None:
        self.assertIn("kHeaderBytes = 36;", FRAME)
        self.assertIn("a header of 36 bytes", PAGE)
        self.assertIn("kMagic = 0x314e424d;", FRAME)
        self.assertIn("`4d 42 4e 31`", PAGE)
        self.assertIn("kVersion = 1;", FRAME)

    def test_names_the_kinds_of_first_contact(self) -> None:
        code = (ROOT / "transport" / "ucx" / "handshake.h").read_text("utf-8")
        found = re.search(r"enum class Kind : std::uint16_t \{(.*?)\};", code, re.DOTALL)
        assert found is not None
        names = re.findall(r"(\w+)(?: = 1)?,?", found[1])
        kinds = ", ".join(f"{number} {name}" for number, name in enumerate(names, 1))
        self.assertIn(f"| kind | {kinds} |", PAGE)

    def test_lists_statuses_and_error_codes(self) -> None:
        self.assertIn(f"**status**: {numbered(MESSAGES, 'ItemStatus', 0)}.", PAGE)
        codes = re.sub(r"(\d+) (\w+)", r"\1 `\2`", numbered(RESULT, "Errc", 1))
        self.assertIn(f"Codes: {codes}.", PAGE)


class Readme(unittest.TestCase):
    def test_its_example_compiles(self) -> None:
        code = re.search(r"```cpp\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
        assert code is not None
        include, _, statements = code[1].partition("\n\n")
        given = "const std::vector<membrain::BlockHash>& hashes, "
        given += "const std::vector<membrain::FetchItem>& items, "
        given += "const std::vector<membrain::StoreItem>& blocks"
        program = f"{include}\nvoid example({given}) {{\n{statements}}}\n"
        command = ["g++", "-std=c++20", "-fsyntax-only", "-I", str(ROOT / "include"), "-x", "c++"]
        done = subprocess.run(
            [*command, "-"], input=program, capture_output=True, text=True, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class ArenaPage(unittest.TestCase):
    def test_lists_the_fields_of_a_seal_in_their_order(self) -> None:
        page = (ROOT / "docs" / "arena.md").read_text("utf-8")
        rows = re.findall(r"^\| (\d+) \| (\d+) \|", page.split("## Seals")[1], re.MULTILINE)
        self.assertEqual(seal_layout(), [(int(at), int(size)) for at, size in rows[:-1]])


def seal_layout() -> list[tuple[int, int]]:
    """Offset and size of each field of `struct Seal` up to its self check."""
    sizes = {"std::atomic<std::uint32_t>": 4, "std::atomic<std::uint64_t>": 8, "SlabPlace": 8}
    sizes |= {f"std::uint{bits}_t": bits // 8 for bits in (8, 16, 32, 64)}
    sizes |= {"BlockKey": 16, "Checksum": 16}
    text = (ROOT / "protocol" / "seal.h").read_text("utf-8")
    found = re.search(r"struct alignas\(128\) Seal \{(.*?)\n\};", text, re.DOTALL)
    assert found is not None
    at = 0
    layout = []
    for kind, name in re.findall(r"^  ([\w:<>]+) (\w+);", found[1], re.MULTILINE):
        if name == "reserved":
            break
        layout.append((at, sizes[kind]))
        at += sizes[kind]
    return layout


def section(page: str, heading: str) -> str:
    """From a heading to the next one."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    return text.split(f"\n{heading}\n")[1].split("\n#")[0]


def test_names() -> set[str]:
    """Of all tests, as ctest has them without a fixture's instance: Suite.name."""
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("*.cc"):
        code = path.read_text("utf-8")
        found = re.findall(r"^(?:TYPED_)?TEST(?:_[FP])?\(\s*(\w+),\s*(\w+)\)", code, re.MULTILINE)
        names |= {f"{suite}.{name}" for suite, name in found}
    for path in (ROOT / "tests").rglob("*_test.py"):
        suite = ""
        for line in path.read_text("utf-8").splitlines():
            if found_class := re.match(r"class (\w+)", line):
                suite = found_class[1]
            elif found_test := re.match(r"    def test_(\w+)", line):
                names.add(f"{suite}.{found_test[1]}")
    return names


class Matrix(unittest.TestCase):
    def test_names_tests_that_exist(self) -> None:
        """`Suite.*` is any of a suite, `Suite.begins...` one that begins so."""
        rows = re.findall(r"^\|([^|]*)\|([^|]*)\|", section("testing.md", "## The failure matrix"),
                          re.MULTILINE)
        named = [name for _, tests in rows[2:] for name in re.findall(r"`(\w+\.[\w.*]+)`", tests)]
        self.assertGreater(len(named), 40)
        there = test_names()
        for name in named:
            begin = name.removesuffix("...").removesuffix("*")
            whole = begin == name
            fits = (begin == one if whole else one.startswith(begin) for one in there)
            self.assertTrue(any(fits), f"the matrix names {name}, which is no test")


class MutantsTable(unittest.TestCase):
    def test_has_a_row_for_each_patch_and_no_other(self) -> None:
        text = (ROOT / "docs" / "testing.md").read_text("utf-8")
        table = text.split("\n| mutant |")[1].split("\n\n")[0]
        rows = re.findall(r"^\| `([\w/]+)` \|", table, re.MULTILINE)
        self.assertEqual(len(rows), len(set(rows)), "a row came twice")
        self.assertEqual(set(rows), {p.stem for p in (ROOT / "tests" / "mutants").glob("*.patch")})


BINDS = r"\b(?:text|list|address|servers|size|count|speed|duration|toggle|choice)\(\s*\"([a-z-]+)\""
# Bound by more than one command: how the others say so, and where the options are.
OPTION_GROUPS = (
    (r"\bbind_replay_options\(command\b", "replay"),
    (r"\betcd\.bind(?:_client)?\(command\)", "etcd_options"),
    (r"\bcopies\.bind\(command\)", "replica_options"),
)


def options_of(path: Path) -> set[str]:
    """Those that a source binds; a choice can be said no to."""
    return set(re.findall(BINDS, path.read_text("utf-8")))


def commands() -> dict[str, set[str]]:
    """The options of each command, as its source and what that may bind besides has them."""
    shared = options_of(ROOT / "tools" / "common_options.cc") | {"help", "config", "version"}
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tools").glob("*_command.cc"):
        code = path.read_text("utf-8")
        name = re.search(r"\bCommand command\(\s*\"(\w+)\"", code)
        if name is None:
            continue
        found[name[1]] = shared | options_of(path)
        for calls, group in OPTION_GROUPS:
            if re.search(calls, code):
                found[name[1]] |= options_of(ROOT / "tools" / f"{group}.cc")
    return found


class Options(unittest.TestCase):
    """`membrain COMMAND --option`, wherever it is written."""

    def assert_known(self, known: dict[str, set[str]], path: Path, line: str) -> int:
        said = re.finditer(r"\bmembrain (\w+)((?: [^`|;&#]*)?)", line)
        count = 0
        for command, words in ((one[1], one[2]) for one in said if one[1] in known):
            for option in re.findall(r"(?<![\w-])--([a-z][a-z-]*)", words.split(" membrain ")[0]):
                count += 1
                plain = option.removeprefix("no-")
                self.assertTrue({option, plain} & known[command],
                                f"{path.relative_to(ROOT)}: membrain {command} has no --{option}")
        return count

    def test_that_are_written_about_exist(self) -> None:
        known = commands()
        self.assertLessEqual({"server", "node", "status", "ctl", "torture"}, set(known))
        paths = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        paths += [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
        count = 0
        for path in paths:
            text = path.read_text("utf-8").replace("\\\n", " ")  # lines that go on
            count += sum(self.assert_known(known, path, line) for line in text.splitlines())
        self.assertGreater(count, 50)


if __name__ == "__main__":
    unittest.main()
