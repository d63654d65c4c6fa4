#!/usr/bin/env python3
"""Runs a command in throw-away virtual machines that have Soft-RoCE devices.

The guest's / is the host's own, read-only, under a layer of memory: every program and library is at
its own path. Only the output folder is shared for writing. One machine has two devices on the ends
of a cable inside it; two machines have one device each, and a wire between them.

The status is the command's, of the first machine whose command failed; 124 when the time is up, 125
when a machine ended without a status, 77 when this host cannot run virtual machines.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATUS_TIMED_OUT = 124
STATUS_DIED = 125
STATUS_NO_MACHINE = 77
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "cpio": "cpio",
            "ip": "iproute2", "rdma": "iproute2", "tc": "iproute2", "chrt": "util-linux"}
DRIVER = Path("/usr/lib/x86_64-linux-gnu/libibverbs/librxe-rdmav34.so")


def cache_folder() -> Path:
    """Where tests/rdma/fetch_kernel.sh leaves the kernel."""
    if named := os.environ.get("MEMBRAIN_VM_CACHE"):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME", "/var/tmp") + "/.cache"
    return Path(cache) / "membrain" / "vm"


def find(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def what_is_missing() -> str:
    """Why this host cannot run the machines, with the cure; empty if it can."""
    lacking = sorted({package for program, package in PROGRAMS.items() if not find(program)})
    if not list(DRIVER.parent.glob("librxe-*")):
        lacking.append("ibverbs-providers")
    if lacking:
        return f"no virtual machine: {', '.join(lacking)} not installed; run tools/setup.sh"
    if not (cache_folder() / "version").is_file():
        return "no virtual machine: no kernel for it; run tests/rdma/fetch_kernel.sh"
    return ""


@dataclass
class Outcome:
    """What one machine's command left behind."""

    status: int
    log: str


@dataclass
class Machines:
    """One or two machines that run a command: `run` boots them and waits for all of them."""

    nodes: int = 1
    seconds: int = 300
    memory_mb: int = 2048
    cpus: int = 2
    accelerator: str = "tcg"

    def run(self, command: str, out: Path) -> list[Outcome]:
        """One outcome per machine. `out` is emptied, and shared with the machines."""
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        out = out.resolve()
        (out / "command").write_text(command + "\n", encoding="utf-8")
        image = self._make_initramfs(out)
        until = time.monotonic() + self.seconds
        # The paths of Unix sockets are short: they get a folder of their own.
        with tempfile.TemporaryDirectory(prefix="membrain_vm_") as folder:
            wires = Path(folder)
            processes = [self._boot(node, image, out, wires) for node in range(self.nodes)]
            try:
                while any(process.poll() is None for process in processes):
                    if time.monotonic() > until:
                        break
                    for node in range(self.nodes):
                        pull_plug_if_asked(out / f"cable.{node}", wires / f"monitor{node}")
                    time.sleep(0.05)
                timed_out = [process.poll() is None for process in processes]
                return [self._outcome(node, out, timed_out[node]) for node in range(self.nodes)]
            finally:
                for process in processes:
                    process.kill()
                    process.wait()

    def _boot(self, node: int, image: Path, out: Path, wires: Path) -> subprocess.Popen[bytes]:
        kernel = cache_folder() / "vmlinuz"
        words = {"OUT": out, "NODE": node, "NODES": self.nodes, "FOLDER": Path.cwd(),
                 "GUEST": HERE / "guest.sh"}
        append = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable nowatchdog "
        append += " ".join(f"{name}={value}" for name, value in words.items())
        command = ["qemu-system-x86_64", "-accel", self._accelerator_options(), "-cpu", "max",
                   "-smp", str(self.cpus), "-m", str(self.memory_mb), "-nodefaults", "-display",
                   "none", "-no-reboot", "-serial", f"file:{out}/console.{node}",
                   "-device", "virtio-rng-pci", "-virtfs",
                   "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
                   "-virtfs", f"local,path={out},mount_tag=out,security_model=none,multidevs=remap",
                   "-qmp", f"unix:{wires}/monitor{node},server=on,wait=off",
                   "-kernel", str(kernel), "-initrd", str(image), "-append", append]
        if self.nodes == 2:
            ends = [f"{wires}/{end}" for end in (node, 1 - node)]
            command += ["-netdev", f"dgram,id=wire,local.type=unix,local.path={ends[0]},"
                        f"remote.type=unix,remote.path={ends[1]}",
                        "-device", "virtio-net-pci,netdev=wire,romfile=,host_mtu=4200,"
                        f"mac=52:54:00:12:34:0{node}"]
        with (out / f"qemu.{node}").open("wb") as errors:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)

    def _accelerator_options(self) -> str:
        return "tcg,thread=multi" if self.accelerator == "tcg" else self.accelerator

    @staticmethod
    def _outcome(node: int, out: Path, timed_out: bool) -> Outcome:
        log = read(out / f"log.{node}")
        if (written := read(out / f"status.{node}").strip()).isdigit():
            return Outcome(int(written), log)
        words = "the time is up" if timed_out else "the machine ended without a status"
        last = read(out / f"console.{node}")[-2000:] + read(out / f"qemu.{node}")[-2000:]
        log += f"\nvm {node}: {words}; its console's last words:\n{last}\n"
        return Outcome(STATUS_TIMED_OUT if timed_out else STATUS_DIED, log)

    @staticmethod
    def _make_initramfs(out: Path) -> Path:
        root = out / "initramfs"
        for name in ("bin", "dev", "host", "memory", "system"):
            (root / name).mkdir(parents=True)
        shutil.copy(find("busybox") or "busybox", root / "bin" / "busybox")
        shutil.copytree(cache_folder() / "modules", root / "modules")
        shutil.copy(HERE / "guest_init.sh", root / "init")
        (root / "init").chmod(0o755)
        image = out / "initramfs.img"
        packing = "find . | cpio -o -H newc --quiet > ../initramfs.img"
        subprocess.run(["sh", "-c", packing], cwd=root, check=True)
        shutil.rmtree(root)
        return image


def pull_plug_if_asked(request: Path, monitor: Path) -> None:
    """A guest that writes "off" or "on" there has its cable unplugged, or plugged in again."""
    wish = read(request).strip()
    if wish not in ("off", "on"):
        return
    request.unlink()
    words = [{"execute": "qmp_capabilities"},
             {"execute": "set_link", "arguments": {"name": "wire", "up": wish == "on"}}]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(monitor))
        lines = connection.makefile("rw", encoding="utf-8")
        lines.readline()  # its greeting
        for word in words:
            lines.write(json.dumps(word) + "\n")
            lines.flush()
            lines.readline()


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, choices=(1, 2), default=1, help="machines (1)")
    parser.add_argument("--seconds", type=int, default=300, help="limit, boot included (300)")
    parser.add_argument("--memory", type=int, default=2048, help="MiB of each machine (2048)")
    parser.add_argument("--cpus", type=int, default=2, help="of each machine (2)")
    parser.add_argument("--accelerator", choices=("tcg", "kvm"),
                        default=os.environ.get("MEMBRAIN_VM_ACCELERATOR", "tcg"),
                        help="how qemu runs the guest (tcg, or MEMBRAIN_VM_ACCELERATOR)")
    parser.add_argument("--out", type=Path, default=Path("build/vm"),
                        help="emptied; gets log.N, console.N, dmesg.N, status.N (build/vm)")
    parser.add_argument("command", nargs="+",
                        help="for bash; one word may be a whole script. What it finds: guest.sh")
    wanted = parser.parse_args(arguments)
    if missing := what_is_missing():
        print(missing, file=sys.stderr)
        return STATUS_NO_MACHINE
    words: list[str] = wanted.command
    command = words[0] if len(words) == 1 else shlex.join(words)
    machines = Machines(wanted.nodes, wanted.seconds, wanted.memory, wanted.cpus,
                        wanted.accelerator)
    outcomes = machines.run(command, wanted.out)
    for node, outcome in enumerate(outcomes):
        prefix = f"== machine {node}\n" if len(outcomes) > 1 else ""
        print(prefix + outcome.log, end="")
    return next((outcome.status for outcome in outcomes if outcome.status != 0), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
