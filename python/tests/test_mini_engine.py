"""The small engine of python/examples: its own claims, on short prompts."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from conftest import Server

ENGINE = Path(__file__).resolve().parents[1] / "examples" / "mini_engine"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ENGINE), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_logits_are_the_same_bits_with_membrain(server: Server, tmp_path: Path) -> None:
    plot = tmp_path / "ttft.svg"
    words = ["--server", server.address, "--longest", "256", "--repeats", "1"]
    ran = run(*words, "--json", "--plot", str(plot))
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(ran.stdout)
    assert [row["tokens"] for row in rows] == [32, 64, 128, 192, 256]
    assert all(row["computed_ms"] > 0 and row["loaded_ms"] > 0 for row in rows)
    drawn = ElementTree.parse(plot).getroot()
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 2


def test_without_a_server_it_says_how_to_start_one() -> None:
    ran = run("--server", "127.0.0.1:1", "--longest", "128")
    assert ran.returncode == 1 and "membrain server --with-node" in ran.stderr
