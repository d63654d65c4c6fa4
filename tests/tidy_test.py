"""Every rule of tidy.py finds its bad sample, and leaves the good one alone."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import tidy

HEADER = "// A header.\n#pragma once\n"


def body(lines: int) -> str:
    return "  f();\n" * lines


class Samples(unittest.TestCase):
    def findings(self, files: dict[str, str], compile_headers: bool = False) -> list[str]:
        """Rules that fire, as "rule path:line", in a repository made of `files`."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for path, text in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, "utf-8")
            found = tidy.tidy(root, sorted(files), compile_headers, fmt=False)
        return [f"{finding.rule} {finding.path}:{finding.line}" for finding in found]

    def assert_found(self, path: str, text: str, *expected: str) -> None:
        self.assertEqual(self.findings({path: text}), list(expected))

    def assert_clean(self, path: str, text: str) -> None:
        self.assertEqual(self.findings({path: text}), [])


class Floors(Samples):
    def test_a_lower_floor_does_not_include_a_higher_one(self) -> None:
        text = HEADER + '#include "server/catalog.h"\n'
        self.assert_found("base/x.h", text, "floor base/x.h:3")
        self.assert_found("protocol/x.h", text, "floor protocol/x.h:3")
        self.assert_found("cache/client/x.h", text, "floor cache/client/x.h:3")
        self.assert_clean("server/x.h", text)
        self.assert_clean("tools/x.h", text)

    def test_the_server_does_not_include_the_cache_nor_the_node_the_client(self) -> None:
        node = HEADER + '#include "cache/node/arena.h"\n'
        self.assert_found("server/x.h", node, "floor server/x.h:3")
        self.assert_found("cache/client/x.h", node, "floor cache/client/x.h:3")

    def test_an_include_starts_at_the_root(self) -> None:
        self.assert_found("base/x.h", HEADER + '#include "ids.h"\n', "floor base/x.h:3")
        self.assert_found("base/x.h", HEADER + '#include "../base/a.h"\n', "floor base/x.h:3")

    def test_the_contract_stands_alone(self) -> None:
        self.assert_clean("include/membrain/x.h", HEADER + '#include "membrain/block.h"\n')
        text = HEADER + '#include "base/ids.h"\n'
        self.assert_found("include/membrain/x.h", text, "floor include/membrain/x.h:3")

    def test_ucx_and_cuda_stay_in_their_rooms(self) -> None:
        ucx = HEADER + "#include <ucp/api/ucp.h>\n"
        self.assert_found("transport/x.h", ucx, "floor transport/x.h:3")
        self.assert_clean("transport/ucx/x.h", ucx)
        self.assert_clean("bench/x.h", ucx)
        cuda = HEADER + "#include <cuda_runtime.h>\n"
        self.assert_found("transport/ucx/x.h", cuda, "floor transport/ucx/x.h:3")
        self.assert_clean("transport/cuda/x.h", cuda)

    def test_an_include_in_a_comment_is_prose(self) -> None:
        self.assert_clean("base/x.h", HEADER + '// #include "server/catalog.h"\n')


class Text(Samples):
    def test_lines_end_at_100_columns(self) -> None:
        self.assert_found("tools/x.sh", "#" * 101 + "\n", "columns tools/x.sh:1")
        self.assert_clean("tools/x.sh", "#" * 100 + "\n")
        self.assert_clean("tools/x.sh", "é" * 100 + "\n")
        self.assert_clean("docs/x.md", "x" * 300 + "\n")

    def test_nothing_trails_a_line(self) -> None:
        self.assert_found("tools/x.sh", "ls \n", "whitespace tools/x.sh:1")
        self.assert_found("tools/x.sh", "\tls\n", "whitespace tools/x.sh:1")
        self.assert_found("tools/x.sh", "ls", "whitespace tools/x.sh:1")

    def test_promises_of_later_work_are_found(self) -> None:
        for text in ("TO" "DO", "FIX" "ME", "XX" "X", "for n" "ow", "a placeh" "older"):
            self.assert_found("docs/x.md", f"{text}\n", "word docs/x.md:1")
        self.assert_clean("docs/x.md", "not for nowhere\n")

    def test_a_path_of_a_machine_is_found(self) -> None:
        for folder in ("wo" "rk", "ho" "me", "ro" "ot"):
            text = f"cd /{folder}/someone\n"
            self.assert_found("tools/x.sh", text, "machine tools/x.sh:1")
        self.assert_clean("tools/x.sh", "cd ./network/home/x\n")

    def test_a_link_leads_somewhere(self) -> None:
        self.assert_found("docs/x.md", "[a](b.md)\n", "link docs/x.md:1")
        good = "[a](b.md#c) [d](https://example.org)\n"
        self.assertEqual(self.findings({"docs/x.md": good, "docs/b.md": "\n"}), [])


class Code(Samples):
    def assert_only_in(self, line: str, rule: str, good: str, bad: str = "server/x.h") -> None:
        self.assert_found(bad, f"{HEADER}{line}\n", f"{rule} {bad}:3")
        self.assert_clean(good, f"{HEADER}{line}\n")
        self.assert_clean(bad, f"{HEADER}// {line}\n")

    def test_only_tools_reads_the_environment(self) -> None:
        self.assert_only_in('auto x = std::getenv("A");', "environment", "tools/x.h")

    def test_only_tools_and_the_client_start_threads(self) -> None:
        self.assert_only_in("std::thread t(run);", "thread", "cache/client/x.h")
        self.assert_clean("server/x.h", HEADER + "std::thread::id owner;\n")

    def test_nobody_sleeps(self) -> None:
        line = "std::this_thread::sleep_for(1ms);"
        self.assert_only_in(line, "sleep", "tools/x.h", "tests/x.h")
        self.assert_clean("transport/x.h", HEADER + "void sleep_until(TimePoint when);\n")

    def test_clocks_are_read_in_one_place(self) -> None:
        self.assert_only_in("auto t = std::chrono::steady_clock::now();", "clock", "base/clock.h")
        self.assert_only_in("std::chrono::system_clock::time_point t;", "wall-time", "tools/x.h")

    def test_only_tools_prints_throws_and_exits(self) -> None:
        self.assert_only_in("std::cout << 1;", "print", "tools/x.h")
        self.assert_only_in("throw 1;", "exception", "tools/x.h")
        self.assert_only_in("std::exit(1);", "exit", "tools/x.h")
        self.assert_found("tools/x.h", HEADER + "assert(true);\n", "assert tools/x.h:3")
        self.assert_clean("tools/x.h", HEADER + "static_assert(true);\n")

    def test_the_operand_of_co_await_is_a_name(self) -> None:
        for operand in ("f(Options{1})", "f([&] { return 1; })", "[x]() { return x; }()"):
            text = f"{HEADER}auto x = co_await {operand};\n"
            self.assert_found("base/x.h", text, "coroutine base/x.h:3")
        self.assert_clean("base/x.h", HEADER + "auto x = co_await f(a, b[1]);\n")

    def test_no_test_is_switched_off(self) -> None:
        self.assert_found("tests/x.h", HEADER + "GTEST_SKIP();\n", "disabled-test tests/x.h:3")
        off = HEADER + "TEST(A, DISABLED_B) {}\n"
        self.assert_found("tests/x.h", off, "disabled-test tests/x.h:3")
        self.assert_clean("tests/x.h", HEADER + 'GTEST_SKIP() << "no GPU";\n')

    def test_a_string_is_not_code(self) -> None:
        self.assert_clean("server/x.h", HEADER + 'auto x = "throw assert(1)";\n')
        self.assert_clean("server/x.h", HEADER + 'auto x = R"(throw\n assert(1))";\n')
        self.assert_clean("server/x.h", HEADER + "auto x = '\"'; // throw \"\n")


class Names(Samples):
    def test_a_type_says_what_it_is(self) -> None:
        for name in ("BlockManager", "FetchHelper", "StringUtil", "ArenaImpl", "BaseNode"):
            text = f"{HEADER}class {name} final : public Thing {{}};\n"
            self.assert_found("base/x.h", text, "name base/x.h:3")
        self.assert_clean("base/x.h", HEADER + "class Database {};\n")
        self.assert_found("base/x.h", HEADER + "using MyData = int;\n", "name base/x.h:3")

    def test_data_is_a_message_of_the_wire(self) -> None:
        self.assert_clean("protocol/messages.h", HEADER + "struct Data {\n};\n")

    def test_no_two_types_have_one_name(self) -> None:
        one = HEADER + "namespace a {\nstruct B : C {\n  int x;\n};\n}\n"
        other = HEADER + "namespace a {\nclass B final {\n  long y;\n};\n}\n"
        files = {"base/x.h": one, "server/x.h": other}
        self.assertEqual(self.findings(files), ["twice server/x.h:4"])
        files["server/x.h"] = other.replace("class B", "template <class T, int N>\nclass B")
        self.assertEqual(self.findings(files), ["twice server/x.h:4"])
        files["server/x.h"] = other.replace("namespace a", "namespace b")
        self.assertEqual(self.findings(files), [])
        files["server/x.h"] = other.replace("namespace a {", "namespace a { namespace {") + "}\n"
        self.assertEqual(self.findings(files), [])
        files["server/x.h"] = HEADER + "namespace a {\nstruct B;\nstruct B::In {\n};\n}\n"
        self.assertEqual(self.findings(files), [])

    def test_a_file_says_what_is_in_it(self) -> None:
        self.assert_found("base/common.h", HEADER, "name base/common.h:1")
        self.assert_found("base/string_utils.h", HEADER, "name base/string_utils.h:1")
        self.assert_found("base/Thing.h", HEADER, "name base/Thing.h:1")


class Headers(Samples):
    def test_a_header_begins_with_prose_and_pragma_once(self) -> None:
        self.assert_found("base/x.h", "#pragma once\n", "header base/x.h:1")
        self.assert_found("base/x.h", "// Text.\nint x;\n", "header base/x.h:1")

    def test_no_using_namespace_in_a_header(self) -> None:
        self.assert_found("base/x.h", HEADER + "using namespace std;\n", "header base/x.h:3")
        files = {"base/x.cc": "using namespace std;\n", "base/CMakeLists.txt": "x.cc\n"}
        self.assertEqual(self.findings(files), [])

    def test_a_public_header_compiles_alone(self) -> None:
        path = "include/membrain/x.h"
        bad = {path: HEADER + "inline std::string x;\n"}
        good = {path: HEADER + "#include <string>\ninline std::string x;\n"}
        self.assertEqual(self.findings(bad, compile_headers=True), [f"self-contained {path}:1"])
        self.assertEqual(self.findings(good, compile_headers=True), [])

    def test_a_source_is_built(self) -> None:
        files = {"base/x.cc": "int x;\n", "base/CMakeLists.txt": "add(xx.cc)\n"}
        self.assertEqual(self.findings(files), ["built base/x.cc:1"])
        files["base/CMakeLists.txt"] = "add(x.cc)\n"
        self.assertEqual(self.findings(files), [])


class Functions(Samples):
    def test_a_function_has_at_most_70_lines(self) -> None:
        for head in (
            "void f()",
            "template <class T = int>\nauto f(T a = {}) -> int",
            "Thing::Thing(int a) : a_(a), b_{1}, c_{2}",
            "bool operator==(const A& a)",
            "TEST(Suite, Sentence)",
            "Task<Result<int>> Thing::f(std::vector<int> v = {1, 2}) noexcept",
        ):
            lines = 68 - head.count("\n")
            self.assert_clean("base/x.h", f"{HEADER}{head} {{\n{body(lines)}}}\n")
            text = f"{HEADER}{head} {{\n{body(lines + 1)}}}\n"
            self.assert_found("base/x.h", text, "length base/x.h:3")

    def test_a_function_inside_a_class_inside_a_namespace_is_a_function(self) -> None:
        text = f"{HEADER}namespace a {{\nclass B {{\n public:\n  void f() const {{\n{body(69)}"
        self.assert_found("base/x.h", text + "  }\n};\n}\n", "length base/x.h:6")

    def test_a_long_class_or_table_is_no_function(self) -> None:
        members = "".join(f"  int f{n}() {{ return 1; }}\n" for n in range(90))
        self.assert_clean("base/x.h", f"{HEADER}class A {{\n{members}}};\n")
        rows = "".join(f"  g({n}),\n" for n in range(90))
        self.assert_clean("base/x.h", f"{HEADER}constexpr int kTable[] = {{\n{rows}}};\n")

    def test_python_has_functions_too(self) -> None:
        long = "def f() -> None:\n" + "    pass\n" * 70
        self.assert_found("tests/x.py", long, "length tests/x.py:1")


class AllowList(Samples):
    LONG = f"{HEADER}void f() {{\n{body(80)}}}\n"

    def test_an_entry_with_a_reason_allows(self) -> None:
        allow = "length | base/x.h | f | a table in disguise\n"
        files = {"base/x.h": self.LONG, "tests/tidy_allow.txt": allow}
        self.assertEqual(self.findings(files), [])

    def test_an_entry_without_a_reason_is_a_finding(self) -> None:
        files = {"base/x.h": self.LONG, "tests/tidy_allow.txt": "length | base/x.h | f |\n"}
        found = ["length base/x.h:3", "allow tests/tidy_allow.txt:1"]
        self.assertEqual(self.findings(files), found)

    def test_an_entry_that_nothing_needs_is_a_finding(self) -> None:
        entry = tidy.Allowed("length", "base/x.h", "f", 1)
        found = tidy.apply_allowed([], [entry], complete=True)
        self.assertEqual([finding.rule for finding in found], ["allow"])


if __name__ == "__main__":
    unittest.main()
