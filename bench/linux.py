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
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.peers import BOCHS, BOCHS_IPS, QEMU, ROOT, TIMEOUT_S, Bochs, Ringfence, Tcg
from bench.plan import Plan
from bench.rows import Better, compare_runs
from bench.transcript import RunFailed, Transcript, record
from tests.realguests import fetch, iso
from tests.realguests.packages import PackagesUnavailable

MEMORY_MIB = 128
FLAVOUR = "686"
# Level 6 lets the version's line through, which comes with the first console.
APPEND = "mods=none checks=none end=reboot loglevel=6 earlyprintk=serial,ttyS0,115200"

FIRST_LINE = re.compile(r"\[ +0\.0+\] Linux version ").match
LAST_LINE = re.compile(r"T: \[[0-9.]+\] ALL DONE").match

KERNEL, COMMAND = "linux.kernel_to_shell", "linux.command_to_shell"
MUST, AIM = 0.5, 1.0  # of TCG's speed
MUST_BESIDE_REFERENCE, MUST_BESIDE_BOCHS = 0.9, 1.0

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

Contender = Callable[[], dict[str, float]]  # seconds by measure
Goal = tuple[float | None, float | None]  # must and aim
Asked = Callable[[Ringfence, str], Goal]  # of an engine of ours beside a peer


def is_last(line: str) -> bool:
    return LAST_LINE(line) is not None


def direct(boot: iso.Boot) -> list[str]:
    """Loading it directly: the options are the same here and there but for a dash."""
    return ["-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", boot.append]


def command_of_ours(ours: Ringfence, boot: iso.Boot, memory_mib: int = MEMORY_MIB) -> list[str]:
    options = [f"-{word}" if word.startswith("-") else word for word in direct(boot)]
    return [*ours.command(), "--mem", str(memory_mib), "--no-reboot", *options]


def command_of_tcg(boot: iso.Boot, memory_mib: int = MEMORY_MIB) -> list[str]:
    """With the devices that ours has, too."""
    command = [QEMU, "-accel", "tcg", "-m", str(memory_mib), *direct(boot), "-serial", "stdio", "-display", "none"]
    return [*command, "-monitor", "none", "-no-reboot", "-nodefaults", "-vga", "std"]


def boot_by(command: list[str], timeout_s: float = TIMEOUT_S) -> Transcript:
    return record(command, timeout_s, folder=ROOT, is_last=is_last)


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


def boots(plan: Plan) -> dict[str, Contender]:
    """How each contender boots it, by name. Raises PackagesUnavailable."""
    boot = fetch.boot_files(FLAVOUR, APPEND)

    def by(engine: Ringfence) -> Contender:
        return lambda: seconds(boot_by(command_of_ours(engine, boot)))

    found = {engine.name: by(engine) for engine in plan.engines}
    if plan.peers.tcg:
        found[Tcg.name] = lambda: seconds(boot_by(command_of_tcg(boot)))
    if plan.peers.bochs:
        disc, vga = fetch.isolinux_iso(FLAVOUR, APPEND), fetch.seabios(VIDEO_BIOS)
        found[Bochs.name] = lambda: seconds(boot_bochs(disc, vga))
    return found


def seconds(transcript: Transcript) -> dict[str, float]:
    """From the kernel's first line to the last one, and from the start of the command. Raises RunFailed."""
    first, last = transcript.first(FIRST_LINE), transcript.first(LAST_LINE)
    return {KERNEL: (last.host_ns - first.host_ns) / 1e9, COMMAND: (last.host_ns - transcript.started_ns) / 1e9}


def measure(plan: Plan) -> None:
    """Interleaved boots, and a row beside each peer."""
    try:
        contenders = boots(plan)
    except PackagesUnavailable as error:
        plan.notes.append(f"left out: linux: {error}")
        return
    interleave(plan, "linux", contenders, plan.effort.boots, in_pairs=True)
    add_rows(plan, KERNEL, contenders, asked_of_boot)
    add_rows(plan, COMMAND, [name for name in contenders if name != Bochs.name], nothing_asked)


def interleave(
    plan: Plan, what: str, contenders: dict[str, Contender], repetitions: int, *, in_pairs: bool = False
) -> None:
    """Into the plan's samples. One that fails is an error, and leaves; Bochs takes part once, it takes so long.

    `in_pairs`, our engines, if there are several, go on beside each other until their ratios are settled.
    """
    engines = {engine.name for engine in plan.engines} if plan.others else set()
    effort = plan.effort
    pairs = (effort.pair_boots, effort.pair_boots_most) if in_pairs and plan.others else (0, 0)
    least, most = (max(repetitions, number) for number in pairs)
    names: dict[str, None] = {}
    for repetition in range(most):
        if repetition >= least and plan.is_settled(names):
            break
        for name, contender in list(contenders.items()):
            if (repetition and name == Bochs.name) or (repetition >= repetitions and name not in engines):
                continue
            plan.say(f"{what} {repetition + 1}/{least}: {name}")
            try:
                found = contender()
            except RunFailed as error:
                plan.errors.append(f"{what}: {name}: {error}")
                del contenders[name]
                continue
            for measure_name, took in found.items():
                plan.keep(measure_name, name, took)
                names[measure_name] = None


def add_rows(plan: Plan, measure_name: str, contenders: Iterable[str], asked: Asked) -> None:
    """Each engine of ours beside the others' emulators, and beside our reference."""
    here = list(contenders)
    ours = {engine.name for engine in plan.engines}
    for engine in plan.engines:
        for peer in here if engine.name in here else ():
            if peer in ours and (peer != plan.ours.name or engine is plan.ours):
                continue
            mine, theirs = plan.kept(measure_name, engine.name), plan.kept(measure_name, peer)
            row = compare_runs(
                f"{engine.engine}.{measure_name}", "s", Better.LOW, mine, theirs, peer, *asked(engine, peer)
            )
            plan.rows.append(row)


def nothing_asked(engine: Ringfence, peer: str) -> Goal:
    return None, None


def asked_of_boot(engine: Ringfence, peer: str) -> Goal:
    return {Tcg.name: (MUST, AIM), Bochs.name: (MUST_BESIDE_BOCHS, None)}.get(peer, (MUST_BESIDE_REFERENCE, None))
