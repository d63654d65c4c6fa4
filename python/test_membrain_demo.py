"""Two engines that share their KV cache blocks through Membrain: `python test_membrain_demo.py`.

Finds the package, built or installed, and runs membrain.demo, whose options it takes.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def find_package() -> None:
    """In the builds beside this folder, which holds the sources alone, or where Python looks."""
    sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != HERE]
    for preset in ("release", "dev"):
        folder = HERE.parent / "build" / preset / "python"
        if list((folder / "membrain").glob("_native*.so")):
            sys.path.append(str(folder))
            inherited = os.environ.get("PYTHONPATH")
            os.environ["PYTHONPATH"] = f"{inherited}:{folder}" if inherited else str(folder)
            break
    try:
        import membrain  # noqa: F401
        import numpy  # noqa: F401
    except ImportError as error:
        raise SystemExit(
            f"{error}: this Python has not all that the demo needs. Run tools/demo.sh once, and"
            " then this with Debian's /usr/bin/python3"
        ) from None


if __name__ == "__main__":
    find_package()
    runpy.run_module("membrain.demo", run_name="__main__")
