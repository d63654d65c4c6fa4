"""The installed package is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import BINARY

MODULES = "membrain, membrain.vllm, membrain.sglang, membrain.lmcache, membrain.demo"


def test_what_is_installed_can_be_imported(tmp_path: Path) -> None:
    build = Path(BINARY).resolve().parents[1]
    words = ["cmake", "--install", str(build), "--component", "python", "--prefix", str(tmp_path)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    (package,) = tmp_path.glob("lib/python3*/dist-packages")
    assert not list(package.rglob("__pycache__"))
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", f"import {MODULES}; print(membrain.__file__)"],
        env={**kept, "PYTHONPATH": str(package)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.strip()).parent == package / "membrain"
    assert (package / "membrain" / "py.typed").exists()
