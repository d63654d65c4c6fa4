"""What tools/test.sh says at its end is true."""

from __future__ import annotations

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import summarize

PASSED = '<testcase name="A.B" status="run"><system-out>fine</system-out></testcase>'
FAILED = '<testcase name="A.C" status="fail"><failure message=""/></testcase>'
SKIPPED = """<testcase name="A.D" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION"/>
<system-out>[ RUN      ] A.D
tests/a_test.cc:12: Skipped
no GPU here

[  SKIPPED ] A.D (0 ms)
</system-out></testcase>"""
UNITTEST_SKIPPED = """<testcase name="A.E" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/>
<system-out>test_e (__main__.A.test_e) ... skipped 'no GPU here'

OK (skipped=1)
</system-out></testcase>"""
PYTEST_SKIPPED = """<testcase name="A.F" status="notrun"><skipped message="SKIP_RETURN_CODE=5"/>
<system-out>=========================== short test summary info ============================
SKIPPED [1] ../tests/test_f.py:10: no such library
1 skipped in 0.01s
</system-out></testcase>"""
MISSING = """<testcase name="a_NOT_BUILT" status="notrun"><skipped message="Unable to find it"/>
<system-out></system-out></testcase>"""


class Summarize(unittest.TestCase):
    def test_a_file_that_pytest_skips_says_what_it_lacks(self) -> None:
        status, lines = self.summary({"dev.xml": PASSED + PYTEST_SKIPPED})
        self.assertEqual(status, 0)
        self.assertEqual(lines[-2:], ["skipped    1  dev: no such library"] + lines[-1:])
        self.assertEqual(lines[-1], "1 passed, 0 failed, 1 skipped")

    def summary(self, files: dict[str, str]) -> tuple[int, list[str]]:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                wrapped = f"<testsuite>{text}</testsuite>" if name.endswith(".xml") else text
                Path(folder, name).write_text(wrapped, "utf-8")
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                status = summarize.main([folder])
        return status, out.getvalue().strip().split("\n")

    def test_sums_over_builds_and_steps(self) -> None:
        files = {"dev.xml": PASSED * 2, "asan.xml": PASSED, "tidy.step": "passed\n"}
        status, lines = self.summary(files)
        self.assertEqual((status, lines), (0, ["4 passed, 0 failed, 0 skipped"]))

    def test_a_failure_is_named(self) -> None:
        status, lines = self.summary({"dev.xml": PASSED + FAILED, "tidy.step": "failed\n"})
        self.assertEqual(status, 1)
        self.assertEqual(lines[-1], "1 passed, 2 failed, 0 skipped")
        self.assertIn("failed        dev: A.C", lines)
        self.assertIn("failed        tidy", lines)

    def test_a_failure_says_how_it_ended(self) -> None:
        output = "begin\n" * 99 + "1 is not 2"
        said = FAILED.replace("</t", f"<system-out>{output}</system-out></t")
        _, lines = self.summary({"dev.xml": PASSED + said})
        self.assertEqual(lines[0], "---- dev: A.C ended with")
        self.assertIn("1 is not 2", lines)
        self.assertEqual(lines.count("begin"), summarize.LAST_LINES - 1)

    def test_a_skip_says_what_is_missing(self) -> None:
        for skipped in (SKIPPED, UNITTEST_SKIPPED):
            status, lines = self.summary({"dev.xml": PASSED + skipped})
            self.assertEqual(status, 0)
            self.assertEqual(lines[0], "skipped    1  dev: no GPU here")
            self.assertEqual(lines[1], "1 passed, 0 failed, 1 skipped")

    def test_a_test_that_was_not_built_has_failed(self) -> None:
        status, lines = self.summary({"dev.xml": PASSED + MISSING})
        self.assertEqual((status, lines[-1]), (1, "1 passed, 1 failed, 0 skipped"))

    def test_nothing_is_not_success(self) -> None:
        self.assertEqual(self.summary({})[0], 1)
        self.assertEqual(self.summary({"dev.xml": ""})[0], 1)
        files = {"build-dev.step": "passed\n", "tidy.step": "passed\n"}
        self.assertEqual(self.summary(files)[0], 1)


if __name__ == "__main__":
    unittest.main()
