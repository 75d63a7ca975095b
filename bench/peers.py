"""Ringfence and what it is measured beside: who is here, in which version, and how each runs a guest.

A peer that is missing is no error: `find_peers` gives the reason, which is printed, and its rows are left out.
The emulators run the very image that Ringfence runs; native code and Unicorn run the same object code in another host.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.boot_rom import make_rom
from bench.transcript import RunFailed, Transcript, check_guest, record
from guests.builder import build, build_native
from ringfence.errors import RingfenceError

ROOT = Path(__file__).resolve().parent.parent
MEMORY_MIB = 64
TIMEOUT_S = 300.0
VERSION_TIMEOUT_S = 20

QEMU = "qemu-system-i386"
BOCHS = "bochs-bin"  # what Debian's wrapper script `bochs` starts
BOCHS_IPS = 50_000_000  # the instructions that make a second of its guest's time
BOCHS_OPTIONS = """\
megs: {memory}
romimage: file={rom}, address={address:#x}
vgaromimage: file={vga}
display_library: rfb, options="timeout=0"
cpu: count=1, ips={ips}
clock: sync=none
com1: enabled=1, mode=file, dev=/proc/self/fd/{serial}
sound: driver=dummy, waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
plugin_ctrl: speaker=0
log: {log}
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
pci: enabled=1, chipset=i440fx
"""
VGA_ROM_BYTES = 512
TOP = 1 << 32


@dataclass(frozen=True, slots=True)
class Attached:
    """What a guest gets that measures devices: a disc in the CD-ROM drive, and a file that COM2 sends to."""

    disc: Path
    serial2: Path


class GuestPeer(Protocol):
    """A PC that runs a guest. `clock` says what drives the clock that its guest sees."""

    name: str
    clock: str
    clock_can_follow: bool  # the host's clock

    def version(self) -> str: ...

    def run(self, guest: str, command_line: str, attached: Attached | None = None) -> Transcript:
        """Raises RunFailed."""


class Ringfence:
    """Us: the `ringfence` command with one engine."""

    clock = "TSC, calibrated with PIT counter 2; both follow the host's clock"
    clock_can_follow = True

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.name = f"Ringfence {engine}"

    def version(self) -> str:
        try:
            return importlib.metadata.version("ringfence")
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tools.ringfence", "run", "--engine", self.engine]

    def run(self, guest: str, command_line: str, attached: Attached | None = None) -> Transcript:
        command = [*self.command(), str(build(guest)), "--mem", str(MEMORY_MIB), "--append", command_line]
        if attached:
            command += ["--cdrom", str(attached.disc), "--serial2", f"file:{attached.serial2}"]
        return check_guest(record(command, TIMEOUT_S, folder=ROOT))


class Tcg:
    """QEMU's translator; the guest by -kernel."""

    name = "QEMU TCG"
    clock = "TSC, calibrated with PIT counter 2; both follow the host's clock"
    clock_can_follow = True

    def version(self) -> str:
        return first_line([QEMU, "--version"])

    def run(self, guest: str, command_line: str, attached: Attached | None = None) -> Transcript:
        command = [QEMU, "-accel", "tcg", "-m", str(MEMORY_MIB), "-kernel", str(build(guest)), "-append", command_line]
        command += ["-serial", "stdio", "-display", "none", "-monitor", "none", "-no-reboot", "-nodefaults"]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        if attached:
            command += ["-vga", "std", "-serial", f"file:{attached.serial2}"]
            command += ["-drive", f"file={attached.disc},format=raw,if=ide,index=2,media=cdrom"]
        return check_guest(record(command, TIMEOUT_S))


class Bochs:
    """Debian's Bochs, which is built with its debugger; the guest as the firmware, by boot_rom.

    Of its displays only the VNC server (rfb) needs no screen of ours; nobody connects to it.
    """

    name = "Bochs"
    clock = f"TSC and PIT count instructions, {BOCHS_IPS // 1_000_000} million to the second"
    clock_can_follow = False

    def version(self) -> str:
        lines = [line.strip() for line in output([BOCHS, "--help", "features"]).splitlines()]
        return next((line for line in lines if line.startswith("Bochs x86 Emulator")), "unknown")

    def run(self, guest: str, command_line: str, attached: Attached | None = None) -> Transcript:
        assert attached is None, "no measure of devices takes Bochs"
        with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as name:
            folder = Path(name)
            rom, vga, log = folder / "boot.rom", folder / "vga.rom", folder / "log"
            image = make_rom(build(guest), command_line, MEMORY_MIB, folder)
            rom.write_bytes(image)
            vga.write_bytes(bytes(VGA_ROM_BYTES))  # Bochs insists on one; nothing calls it
            reads, writes = os.pipe()
            (folder / "debugger").write_text("continue\n", encoding="ascii")
            options = BOCHS_OPTIONS.format(
                memory=MEMORY_MIB, rom=rom, address=TOP - len(image), vga=vga, ips=BOCHS_IPS, serial=writes, log=log
            )
            (folder / "bochsrc").write_text(options, encoding="utf-8")
            command = [BOCHS, "-q", "-f", str(folder / "bochsrc"), "-rc", str(folder / "debugger")]
            return check_guest(record(command, TIMEOUT_S, serial_pipe=(reads, writes), folder=folder))


class Native:
    """The host's processor in 32-bit mode; `compute` only, as a program of its own."""

    name = "native"
    clock = "CLOCK_MONOTONIC"
    clock_can_follow = True

    def version(self) -> str:
        return platform.machine()

    def run(self, guest: str, command_line: str, attached: Attached | None = None) -> Transcript:
        return record([str(build_native(guest)), *command_line.split()], TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Missing:
    """A peer that is not here, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Peers:
    """Who takes part. `unicorn` is a library, run in bench.flat."""

    native: Native | None
    tcg: Tcg | None
    bochs: Bochs | None
    unicorn: bool
    missing: tuple[Missing, ...]

    def emulators(self) -> list[GuestPeer]:
        return [peer for peer in (self.tcg, self.bochs) if peer is not None]

    def versions(self) -> dict[str, str]:
        found: dict[str, str] = {
            peer.name: peer.version() for peer in (self.native, self.tcg, self.bochs) if peer is not None
        }
        if self.unicorn:
            found["Unicorn"] = importlib.metadata.version("unicorn")
        return found


def find_peers(
    which: Callable[[str], str | None] = shutil.which, has_module: Callable[[str], bool] | None = None,
    runs_native: Callable[[], str] | None = None,
) -> Peers:  # fmt: skip
    """Look for each peer. `which` finds a command, `has_module` a Python package, `runs_native` says what is wrong."""
    missing = []
    why_not = (runs_native or native_refusal)()
    if why_not:
        missing.append(Missing(Native.name, why_not))
    if not which(QEMU):
        missing.append(Missing(Tcg.name, f"{QEMU} is not installed"))
    if not which(BOCHS):
        missing.append(Missing(Bochs.name, f"{BOCHS} is not installed (Debian's packages bochs and bochsbios)"))
    unicorn = (has_module or module_exists)("unicorn")
    if not unicorn:
        missing.append(Missing("Unicorn", "the Python package unicorn is not installed"))
    gone = {peer.name for peer in missing}
    return Peers(
        native=None if Native.name in gone else Native(),
        tcg=None if Tcg.name in gone else Tcg(),
        bochs=None if Bochs.name in gone else Bochs(),
        unicorn=unicorn,
        missing=tuple(missing),
    )


def native_refusal() -> str:
    """Why this host does not run 32-bit x86 programs; empty when it does."""
    if platform.machine() not in ("x86_64", "i686", "i386", "AMD64"):
        return f"{platform.machine()} does not run i686 code"
    try:
        Native().run("compute", "scale=1 only=sieve")
    except (RunFailed, RingfenceError) as error:
        return f"the host does not run 32-bit programs: {error}"
    return ""


def module_exists(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def first_line(command: list[str]) -> str:
    return (output(command).splitlines() or ["unknown"])[0]


def output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
