"""Another UCX is another UCX, in a build folder that knows one already, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

MODULES = Path(__file__).resolve().parent.parent / "cmake"
PROJECT = f"""\
cmake_minimum_required(VERSION 3.25)
project(tiny LANGUAGES NONE)
set(CMAKE_FIND_LIBRARY_PREFIXES lib)
set(CMAKE_FIND_LIBRARY_SUFFIXES .so)
find_package(PkgConfig REQUIRED)
include({MODULES}/ucx.cmake)
get_target_property(libraries PkgConfig::ucx INTERFACE_LINK_LIBRARIES)
get_target_property(includes PkgConfig::ucx INTERFACE_INCLUDE_DIRECTORIES)
file(WRITE ${{CMAKE_BINARY_DIR}}/found "${{libraries}} ${{includes}}")
"""


class UcxPrefix(unittest.TestCase):
    def setUp(self) -> None:
        if shutil.which("pkg-config") is None:
            self.skipTest("no pkg-config here")
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        (self.folder / "CMakeLists.txt").write_text(PROJECT)
        for name in ("package", "own"):
            self.install(self.folder / name)

    def install(self, prefix: Path) -> None:
        (prefix / "lib/pkgconfig").mkdir(parents=True)
        (prefix / "include").mkdir()
        (prefix / "lib/libucp.so").touch()
        (prefix / "lib/pkgconfig/ucx.pc").write_text(
            f"Name: ucx\nDescription: none\nVersion: 1.13\nLibs: -L{prefix}/lib -lucp\n"
            f"Cflags: -I{prefix}/include\n")

    def found_with(self, *options: str) -> str:
        package = str(self.folder / "package/lib/pkgconfig")
        environment = dict(os.environ, PKG_CONFIG_PATH=package)
        build = self.folder / "build"
        subprocess.run(["cmake", "-S", str(self.folder), "-B", str(build), *options],
                       env=environment, check=True, capture_output=True, text=True, timeout=60)
        return (build / "found").read_text()

    def test_is_taken_there_and_back_in_one_build_folder(self) -> None:
        own = f"-DMEMBRAIN_UCX_PREFIX={self.folder}/own"
        steps: list[tuple[str, list[str]]] = [
            ("package", []), ("own", [own]), ("own", []), ("package", ["-DMEMBRAIN_UCX_PREFIX="])]
        for prefix, options in steps:
            found = self.found_with(*options)
            self.assertIn(f"{self.folder}/{prefix}/lib/libucp.so", found, options)
            self.assertIn(f"{self.folder}/{prefix}/include", found, options)


if __name__ == "__main__":
    unittest.main()
