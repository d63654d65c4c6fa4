"""The script that builds UCX with CUDA: what it says before it does anything."""

from __future__ import annotations

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "build_ucx_cuda.sh"


class BuildUcxCuda(unittest.TestCase):
    def run_script(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), *words], capture_output=True, text=True, env=os.environ, check=False
        )

    def test_help_tells_how_membrain_is_pointed_at_it(self) -> None:
        asked = self.run_script("--help")
        self.assertEqual(asked.returncode, 0)
        self.assertIn("-DMEMBRAIN_UCX_PREFIX=", asked.stdout)

    def test_a_wrong_flag_is_refused_with_the_usage(self) -> None:
        asked = self.run_script("--prefics", "x")
        self.assertEqual(asked.returncode, 2)
        self.assertIn("usage:", asked.stderr)

    def test_a_toolkit_that_is_not_there_is_named_with_the_cure(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            asked = self.run_script("--prefix", folder + "/ucx", "--cuda", folder + "/none")
            self.assertEqual(asked.returncode, 1)
            self.assertIn(folder + "/none", asked.stderr)
            self.assertIn("--cuda", asked.stderr)
            self.assertFalse(Path(folder, "ucx").exists(), "nothing was begun")

    def test_what_is_there_is_left_alone(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "built-plain").touch()
            asked = self.run_script("--prefix", folder, "--no-cuda")
            self.assertEqual(asked.returncode, 0)
            self.assertIn("already", asked.stdout)


if __name__ == "__main__":
    unittest.main()
