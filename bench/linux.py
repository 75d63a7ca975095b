"""From a Linux kernel's first line to its user land: Debian's i386 kernel and an initramfs, beside the emulators.

Ours and TCG load the kernel directly. Bochs cannot; it boots a CD of the same kernel by ISOLINUX. The time is that of
the host between two lines on the serial port, so no firmware, loader or start of a process is in it:

    [    0.000000] Linux version ...     printed as soon as the kernel has read its command line (earlyprintk)
    T: [4.89] ALL DONE                   from the script that is its first process, where a shell would prompt

Beside TCG there is a second row, from the start of the command. The kernel says some twenty lines in between.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.peers import BOCHS, BOCHS_IPS, QEMU, ROOT, TIMEOUT_S, Bochs, GuestPeer, Ringfence, Tcg
from bench.plan import Plan
from bench.rows import Better, compare, median
from bench.transcript import RunFailed, Transcript, record
from tests.realguests import fetch, iso
from tests.realguests.packages import PackagesUnavailable

MEMORY_MIB = 128
FLAVOUR = "686"
# Level 6 lets the version's line through, which comes with the first console.
APPEND = "mods=none checks=none end=reboot loglevel=6 earlyprintk=serial,ttyS0,115200"

FIRST_LINE = re.compile(r"\[ +0\.0+\] Linux version ").match
LAST_LINE = re.compile(r"T: \[[0-9.]+\] ALL DONE").match

MUST, AIM = 0.5, 1.0  # of TCG's speed

BOCHS_BIOS = Path("/usr/share/bochs/BIOS-bochs-latest")
VIDEO_BIOS = "vgabios-stdvga.bin"
BOCHS_OPTIONS = """\
megs: {memory}
romimage: file={bios}
vgaromimage: file={vga}
display_library: rfb, options="timeout=0"
cpu: count=1, ips={ips}
clock: sync=none
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=cdrom, path={disc}, status=inserted
boot: cdrom
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


def is_last(line: str) -> bool:
    return LAST_LINE(line) is not None


def direct(boot: iso.Boot) -> list[str]:
    """Loading it directly: the options are the same here and there but for a dash."""
    return ["-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", boot.append]


def boot_ours(ours: Ringfence, boot: iso.Boot) -> Transcript:
    command = [*ours.command(), "--mem", str(MEMORY_MIB), "--no-reboot"]
    command += [f"-{word}" if word.startswith("-") else word for word in direct(boot)]
    return record(command, TIMEOUT_S, folder=ROOT, is_last=is_last)


def boot_tcg(boot: iso.Boot) -> Transcript:
    """With the devices that ours has, too."""
    command = [QEMU, "-accel", "tcg", "-m", str(MEMORY_MIB), *direct(boot), "-serial", "stdio", "-display", "none"]
    command += ["-monitor", "none", "-no-reboot", "-nodefaults", "-vga", "std"]
    return record(command, TIMEOUT_S, is_last=is_last)


def boot_bochs(disc: Path, vga: Path) -> Transcript:
    if not BOCHS_BIOS.exists():
        raise RunFailed(f"{BOCHS_BIOS} is not there (Debian's package bochsbios)")
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as name:
        folder = Path(name)
        reads, writes = os.pipe()
        options = BOCHS_OPTIONS.format(
            memory=MEMORY_MIB, bios=BOCHS_BIOS, vga=vga, ips=BOCHS_IPS, disc=disc, serial=writes, log=folder / "log"
        )
        (folder / "bochsrc").write_text(options, encoding="utf-8")
        (folder / "debugger").write_text("continue\n", encoding="ascii")
        command = [BOCHS, "-q", "-f", str(folder / "bochsrc"), "-rc", str(folder / "debugger")]
        return record(command, TIMEOUT_S, serial_pipe=(reads, writes), folder=folder, is_last=is_last)


def boots(plan: Plan) -> dict[str, Callable[[], Transcript]]:
    """How each contender boots it, by name. Raises PackagesUnavailable."""
    boot = fetch.boot_files(FLAVOUR, APPEND)
    found: dict[str, Callable[[], Transcript]] = {plan.ours.name: lambda: boot_ours(plan.ours, boot)}
    if plan.peers.tcg:
        found[Tcg.name] = lambda: boot_tcg(boot)
    if plan.peers.bochs:
        disc, vga = fetch.isolinux_iso(FLAVOUR, APPEND), fetch.seabios(VIDEO_BIOS)
        found[Bochs.name] = lambda: boot_bochs(disc, vga)
    return found


def seconds(transcript: Transcript) -> tuple[float, float]:
    """From the kernel's first line to the last one, and from the start of the command. Raises RunFailed."""
    first, last = transcript.first(FIRST_LINE), transcript.first(LAST_LINE)
    return (last.host_ns - first.host_ns) / 1e9, (last.host_ns - transcript.started_ns) / 1e9


def measure(plan: Plan) -> None:
    """Interleaved boots, and a row beside each peer."""
    try:
        contenders = boots(plan)
    except PackagesUnavailable as error:
        plan.notes.append(f"left out: linux: {error}")
        return
    for repetition in range(plan.effort.boots):
        for name, boot in list(contenders.items()):
            plan.say(f"linux {repetition + 1}/{plan.effort.boots}: {name}")
            try:
                from_kernel, from_command = seconds(boot())
            except RunFailed as error:
                plan.errors.append(f"linux: {name}: {error}")
                del contenders[name]
                continue
            plan.keep("linux.kernel_to_shell", name, from_kernel)
            plan.keep("linux.command_to_shell", name, from_command)
    peers: list[GuestPeer] = [peer for peer in plan.peers.emulators() if peer.name in contenders]
    for peer in peers if plan.ours.name in contenders else ():
        beside_tcg = peer.name == Tcg.name
        add_row(plan, "linux.kernel_to_shell", peer.name, *((MUST, AIM) if beside_tcg else ()))
        if beside_tcg:
            add_row(plan, "linux.command_to_shell", peer.name)


def add_row(plan: Plan, measure: str, peer: str, must: float | None = None, aim: float | None = None) -> None:
    ours, theirs = median(plan.kept(measure, plan.ours.name)), median(plan.kept(measure, peer))
    plan.rows.append(compare(f"{plan.ours.engine}.{measure}", "s", Better.LOW, ours, theirs, peer, must, aim))
