"""Every mutant still fits the code: those that a commit's rotation leaves out would go stale
unseen."""

from __future__ import annotations

import subprocess
import unittest
from pathlib import Path

PATCHES = Path(__file__).resolve().parent
ROOT = PATCHES.parent.parent


class Patches(unittest.TestCase):
    def test_all_of_them_apply(self) -> None:
        patches = sorted(PATCHES.rglob("*.patch"))
        self.assertGreaterEqual(len(patches), 40)
        for patch in patches:
            with self.subTest(patch.stem):
                words = ["patch", "-p1", "--dry-run", "--force", "--fuzz=0", "--input", str(patch)]
                tried = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
                self.assertEqual(tried.returncode, 0, tried.stdout)


if __name__ == "__main__":
    unittest.main()
