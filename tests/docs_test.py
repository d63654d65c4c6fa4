"""The numbers in docs/protocol.md are those of the code."""

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


if __name__ == "__main__":
    unittest.main()
