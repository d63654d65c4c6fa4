"""`pip install .`, as far as it can be shown without scikit-build-core: what pyproject.toml names
exists, and what its builder would build and install is the package."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from conftest import BINARY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_it_describes_the_package_that_cmake_builds(project: dict[str, Any]) -> None:
    about = project["project"]
    top = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    version = re.search(r"project\(\s*membrain\s+VERSION\s+([\d.]+)", top, re.IGNORECASE)
    assert version is not None and about["version"] == version[1]
    assert about["name"] == "membrain" and (ROOT / about["readme"]).exists()
    recipe = (ROOT / "python" / "CMakeLists.txt").read_text(encoding="utf-8")
    lowest = re.search(r"find_package\(Python ([\d.]+)", recipe)
    assert lowest is not None and about["requires-python"] == f">={lowest[1]}"
    assert project["build-system"]["build-backend"] == "scikit_build_core.build"
    wanted = {re.split(r"[>=<]", one)[0] for one in project["build-system"]["requires"]}
    assert wanted == {"scikit-build-core", "pybind11"}


def test_what_its_builder_builds_and_installs_is_there(project: dict[str, Any]) -> None:
    tool = project["tool"]["scikit-build"]
    build = Path(BINARY).resolve().parents[1]
    known = subprocess.run(
        ["ninja", "-C", str(build), "-t", "query", *tool["build"]["targets"]],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert known.returncode == 0, known.stdout + known.stderr
    (component,) = tool["install"]["components"]
    installs = (build / "python" / "cmake_install.cmake").read_text(encoding="utf-8")
    parts = installs.split("CMAKE_INSTALL_COMPONENT STREQUAL ")
    placed = [
        re.findall(r'DESTINATION "\$\{CMAKE_INSTALL_PREFIX\}/([^"]*)"', part)
        for part in parts
        if part.startswith(f'"{component}"')
    ]
    assert {Path(one).name for one in sum(placed, [])} == {"membrain", "dist-packages"}
    assert tool["wheel"]["packages"] == [], "CMake installs all of it, once"
    assert set(tool["cmake"]) <= {"build-type", "args", "define"}
    recipes = (ROOT / "CMakeLists.txt", ROOT / "python" / "CMakeLists.txt")
    options = "".join(recipe.read_text(encoding="utf-8") for recipe in recipes)
    for name in tool["cmake"]["define"]:
        assert f"if({name}" in options or f"option({name}" in options, f"{name}: no such option"


def test_in_a_wheel_the_package_is_at_the_top() -> None:
    recipe = (ROOT / "python" / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"if\(SKBUILD\)\s+set\(destination \.\)", recipe)
