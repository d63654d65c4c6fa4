"""The script that builds UCX with CUDA: what it says, and what it makes of a source that is there,
with a make that builds nothing."""

from __future__ import annotations

import os
import shutil
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


# As in 1.13.1.
REGISTRATION = """\
UCS_PROFILE_FUNC(ucs_status_t, uct_cuda_copy_mem_reg,
                 (md, address, length, flags, memh_p),
                 uct_md_h md, void *address, size_t length,
                 unsigned flags, uct_mem_h *memh_p)
{
    CUresult result;

    if (address == NULL) {
        *memh_p = address;
        return UCS_OK;
    }

    result = cuPointerGetAttribute(&memType, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                   (CUdeviceptr)(address));
    return UCT_CUDA_FUNC(cudaHostRegister(address, length, 0), log_level);
}

UCS_PROFILE_FUNC(ucs_status_t, uct_cuda_copy_mem_dereg,
                 (md, params),
                 uct_md_h md, const uct_md_mem_dereg_params_t *params)
{
    address = (void *)params->memh;
    if (address == (void*)0xdeadbeef) {
        return UCS_OK;
    }
}

static ucs_status_t uct_cuda_copy_mem_alloc(uct_md_h md)
{
    if (!uct_cuda_base_is_context_active()) {
        return UCS_ERR_NO_DEVICE;
    }
}
"""
GUARD = """\
    if (!uct_cuda_base_is_context_active()) {
        *memh_p = (void *)0xdeadbeef;
        return UCS_OK;
    }

    result = cuPointerGetAttribute("""


class Building(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.prefix = self.folder / "ucx"
        self.source = self.folder / "ucx.work" / "ucx-1.13.1"
        self.registration = self.source / "src/uct/cuda/cuda_copy/cuda_copy_md.c"
        self.write(self.registration, REGISTRATION)
        for name in ("configure", "contrib/configure-release"):
            self.program(self.source / name, "exit 0")
        self.toolkit = self.folder / "cuda"
        for name in ("include/cuda_runtime.h", "include/nvml.h", "lib64/libcudart.so.11.0"):
            self.write(self.toolkit / name, "")
        self.program(self.folder / "bin/dpkg-query", "echo installed")
        self.program(self.folder / "bin/apt-get", "exit 1")  # nothing is fetched
        self.make()

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def program(self, path: Path, text: str) -> None:
        self.write(path, f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def make(self, fails_for: str = "nothing", omits: str = "nothing") -> None:
        made = " ".join(
            f"{self.prefix}/lib/{name}"
            for name in ("libucp.so", "pkgconfig/ucx.pc", "ucx/libuct_cuda.so")
            if name != omits
        )
        self.program(
            self.folder / "bin/make",
            f"""case "$*" in *{fails_for}*) exit 2 ;; esac
            mkdir -p {self.prefix}/lib/pkgconfig {self.prefix}/lib/ucx
            touch {made}""",
        )

    def build(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ, PATH=f"{self.folder}/bin:{os.environ['PATH']}")
        return subprocess.run(
            [str(SCRIPT), "--prefix", str(self.prefix), *words],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip

    def build_cuda(self) -> subprocess.CompletedProcess[str]:
        return self.build("--cuda", str(self.toolkit), "--keep")

    def test_what_was_built_is_marked_and_the_rest_goes(self) -> None:
        built = self.build("--no-cuda")
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertTrue((self.prefix / "built-plain").exists())
        self.assertFalse(self.source.exists())

    def test_a_make_that_fails_on_the_way_is_no_success(self) -> None:
        for folder in ("src/uct", "src/ucp", "install-pkgconfigDATA"):
            self.make(fails_for=folder)
            built = self.build("--no-cuda")
            self.assertEqual(built.returncode, 1, folder)
            self.assertIn("that failed", built.stderr)
            self.assertFalse((self.prefix / "built-plain").exists())
            self.assertTrue((self.folder / "ucx.work/log").exists(), "where it says why")

    def test_a_configure_that_fails_is_no_success(self) -> None:
        (self.source / "configure").unlink()
        self.program(self.source / "autogen.sh", "exit 3")
        self.assertEqual(self.build("--no-cuda").returncode, 1)
        self.assertFalse((self.prefix / "built-plain").exists())

    def test_a_library_that_is_not_there_is_no_success(self) -> None:
        self.make(omits="libucp.so")
        built = self.build("--no-cuda")
        self.assertEqual(built.returncode, 1)
        self.assertIn("lib/libucp.so", built.stderr)
        self.assertFalse((self.prefix / "built-plain").exists())

    def test_packages_are_installed_as_root_and_only_those_that_this_source_needs(self) -> None:
        self.program(self.folder / "bin/dpkg-query", "exit 1")
        self.program(self.folder / "bin/id", "echo 1000")
        said = f'echo "$@" >>{self.folder}/asked'
        self.program(self.folder / "bin/sudo", said)
        built = self.build("--no-cuda")
        self.assertEqual(built.returncode, 0, built.stderr)
        asked = (self.folder / "asked").read_text()
        self.assertIn("apt-get install", asked)
        self.assertIn("libibverbs-dev", asked)
        self.assertNotIn("autoconf", asked, "its configure is there")

    def test_a_source_of_ones_own_is_copied(self) -> None:
        own = self.folder / "own"
        self.source.rename(own)
        (own / "src/ucp").mkdir()
        built = self.build("--no-cuda", "--source", str(own), "--keep")
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertTrue((self.folder / "ucx.work/ucx-given/configure").exists())
        self.assertTrue((own / "configure").exists())
        refused = self.build("--source", str(self.folder / "none"), "--cuda", str(self.toolkit))
        self.assertEqual(refused.returncode, 1)
        self.assertIn("no source of UCX in", refused.stderr)

    def test_half_a_source_is_not_taken_for_one(self) -> None:
        shutil.rmtree(self.source)
        self.program(self.folder / "bin/apt-get",
                     'case "$*" in *" source ucx") mkdir ucx-1.13.1; exit 1 ;; esac')
        for _ in range(2):
            built = self.build("--no-cuda")
            self.assertEqual(built.returncode, 1)
            self.assertIn("fetching Debian's source of UCX", built.stdout)
            self.assertEqual(list((self.folder / "ucx.work").glob("ucx-*")), [])

    def test_cuda_11s_runtime_goes_with_it(self) -> None:
        built = self.build_cuda()
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertTrue((self.prefix / "lib/libcudart.so.11.0").exists())

    def test_host_memory_is_left_alone_where_no_gpu_is_used(self) -> None:
        """Else a node would have its arena page-locked, in a context made for that."""
        built = self.build_cuda()
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertEqual(
            self.registration.read_text(),
            REGISTRATION.replace("    result = cuPointerGetAttribute(", GUARD),
        )
        (self.prefix / "built-cuda").unlink()
        before = self.registration.read_text()
        self.assertEqual(self.build_cuda().returncode, 0)
        self.assertEqual(self.registration.read_text(), before, "once is enough")

    def test_a_later_ucx_guards_itself(self) -> None:
        for guard in ("uct_cuda_base_is_context_active", "uct_cuda_ctx_is_active"):
            later = REGISTRATION.replace("address == NULL", f"!{guard}()")
            self.registration.write_text(later)
            (self.prefix / "built-cuda").unlink(missing_ok=True)
            self.assertEqual(self.build_cuda().returncode, 0)
            self.assertEqual(self.registration.read_text(), later)

    def test_a_source_that_cannot_be_guarded_is_not_built(self) -> None:
        for text in ("result = cuPointerGetAttribute(", "0xdeadbeef"):
            self.registration.write_text(REGISTRATION.replace(text, "another"))
            built = self.build_cuda()
            self.assertEqual(built.returncode, 1, text)
            for word in ("cuda_copy_md.c", "page-lock", "no CUDA context"):
                self.assertIn(word, built.stderr)
            self.assertFalse((self.prefix / "built-cuda").exists())


if __name__ == "__main__":
    unittest.main()
