"""A disk that fails: a library which, loaded before others, has reads, writes and syncs of files in
one folder end with EIO while another file is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
  const char *folder = getenv("BROKEN_FOLDER"), *when = getenv("BROKEN_WHEN");
  char link[64], path[4096];
  if (folder == NULL || when == NULL || access(when, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (strncmp(path, folder, strlen(folder)) != 0) return 0;
  errno = EIO;
  return 1;
}

#define BREAK(result, name, types, words)                                    \
  result name types {                                                        \
    result (*sound) types = (result(*) types)dlsym(RTLD_NEXT, #name);        \
    int before = errno;                                                      \
    if (fails(fd)) return -1;                                                \
    errno = before;                                                          \
    return sound words;                                                      \
  }
BREAK(ssize_t, read, (int fd, void *to, size_t size), (fd, to, size))
BREAK(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
BREAK(ssize_t, pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
BREAK(int, fsync, (int fd), (fd))
BREAK(int, fdatasync, (int fd), (fd))
"""


class BrokenDisk:
    """`before` are the words before a command's. `breaks` and `mends` it while it runs."""

    def __init__(self, folder: str, broken: str) -> None:
        library, self._when = Path(folder) / "broken.so", Path(folder) / "broken"
        words = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library), "-ldl"]
        subprocess.run(words, input=SOURCE, text=True, check=True)
        told = [f"BROKEN_FOLDER={broken}", f"BROKEN_WHEN={self._when}"]
        self.before = ["env", f"LD_PRELOAD={library}", *told]

    @staticmethod
    def lacking() -> str:
        return "" if shutil.which("cc") else "a disk that fails needs a C compiler: cc"

    def breaks(self) -> None:
        self._when.touch()

    def mends(self) -> None:
        self._when.unlink(missing_ok=True)
