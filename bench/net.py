"""Two Linux guests on one switch, beside two of QEMU's translator with its PCnet: `net_load.c` in both.

    net.echo      how long a frame takes to the other machine and back, one at a time
    net.tcp       one TCP connection, from guest to guest
    net.frames    frames of 64 bytes (60 without FCS) a second that the other machine's program gets, of as many as go

Ours are on a port group of the VMkernel's process, QEMU's on the two ends of a datagram link, which is the least that
it has between two machines. The kernel, its pcnet32 and the program are the same. Rates are by the host's time between
two lines on the serial port of the machine that receives.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import disks, linux
from bench.engines import COUNTING
from bench.linux_user import loads
from bench.net_machine import GROUP
from bench.peers import QEMU, ROOT, Ringfence, Tcg
from bench.plan import Plan
from bench.rows import Better, compare_runs
from bench.transcript import RunFailed, Transcript, record
from guests.builder import COMPILER, BuildFailed
from ringfence.errors import RingfenceError
from tests.realguests import fetch, iso, stress_program
from tests.realguests.cache import built
from tests.realguests.initramfs import ALIGN, GZIP_LEVEL, Cpio
from vmkernel.host.client import KernelPlace, NotRunning
from vmkernel.net.host_network import HostNetwork, PortGroup, VirtualSwitch
from vmkernel.net.network_file import NetworkFile

SOURCE = Path(__file__).with_name("net_load.c")
PROGRAM, INITRAMFS = "net_load", "initramfs.cpio.gz"
RECEIVE, SEND = "receive", "send"
ADDRESSES = {RECEIVE: "00:0c:29:00:00:01", SEND: "00:0c:29:00:00:02"}
ECHOES, MIB, FRAMES = 2000, 64, 60_000
QUICK_PART = 20  # of these
APPEND = "mods=pcnet32 settle=0 checks={program} end=reboot role={role} echoes={echoes} mib={mib} frames={frames}"
US = 1e6
UNITS = {"net.echo": ("us", Better.LOW), "net.tcp": ("MB/s", Better.HIGH), "net.frames": ("frames/s", Better.HIGH)}
GOALS: dict[str, linux.Goal] = {"net.echo": (None, None), "net.tcp": (0.4, 1.0), "net.frames": (0.3, 1.0)}
TIMEOUT_S = 300.0


def program() -> Path:
    """Static. Raises NoCompiler, BuildFailed."""
    source = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    inputs = " ".join([stress_program.compiler_version(), *stress_program.FLAGS, source])

    def compile_it(into: Path) -> None:
        command = [COMPILER, *stress_program.FLAGS, str(SOURCE), "-o", str(into / PROGRAM)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            raise BuildFailed(f"{SOURCE.name}: {done.stderr.strip()}")

    return built("net-load", inputs, (), compile_it) / PROGRAM


def boots(part: int = 1) -> dict[str, iso.Boot]:
    """The kernel of each role with the program in its root file system. Raises PackagesUnavailable, BuildFailed."""
    words = {"program": PROGRAM, "echoes": ECHOES // part, "mib": MIB // part, "frames": FRAMES // part}
    plain, compiled = fetch.boot_files(linux.FLAVOUR, ""), program()

    def build(into: Path) -> None:
        archive = Cpio()
        archive.file(f"bin/{PROGRAM}", compiled.read_bytes(), 0o755)
        first = plain.initrd.read_bytes()
        second = gzip.compress(archive.finish(), GZIP_LEVEL, mtime=0)  # a kernel unpacks all archives that it is given
        (into / INITRAMFS).write_bytes(first + bytes(-len(first) % ALIGN) + second)

    initrd = built(f"net-load-{linux.FLAVOUR}", f"{plain.initrd} {compiled}", (), build) / INITRAMFS
    return {
        role: iso.Boot(plain.kernel, initrd, f"{plain.append} {APPEND.format(role=role, **words)}")
        for role in (RECEIVE, SEND)
    }


def run_both(commands: dict[str, Sequence[str]]) -> dict[str, Transcript]:
    """By role. Raises RunFailed."""
    with ThreadPoolExecutor(len(commands)) as pool:
        running = {
            role: pool.submit(record, command, TIMEOUT_S, folder=ROOT, is_last=linux.is_last)
            for role, command in commands.items()
        }
        return {role: one.result() for role, one in running.items()}


@contextmanager
def network(folder: Path) -> Iterator[list[str]]:
    """A VMkernel's process of our own with one switch: the words that lead a command there."""
    runtime, configuration = folder / "run", folder / "config"
    runtime.mkdir(mode=0o700)
    environment = {"XDG_RUNTIME_DIR": str(runtime), "XDG_CONFIG_HOME": str(configuration)}
    file = NetworkFile.of_user(environment)
    file.change(lambda _: HostNetwork({"vSwitch0": VirtualSwitch(groups={GROUP: PortGroup()})}))
    try:
        yield ["env", *(f"{name}={value}" for name, value in environment.items())]
    finally:
        with suppress(NotRunning):
            KernelPlace(runtime / "ringfence", file.path).stop(force=True)


def run_ours(ours: Ringfence, started: dict[str, iso.Boot]) -> dict[str, Transcript]:
    with tempfile.TemporaryDirectory(prefix="rfb") as name, network(Path(name)) as there:
        head = [*there, sys.executable, "-m", "bench.net_machine", ours.engine]
        return run_both({
            role: [*head, ADDRESSES[role], str(boot.kernel), str(boot.initrd), boot.append]
            for role, boot in started.items()
        })  # fmt: skip


def run_tcg(started: dict[str, iso.Boot]) -> dict[str, Transcript]:
    with tempfile.TemporaryDirectory(prefix="rfb") as name:
        return run_both({role: tcg_command(Path(name), role, boot) for role, boot in started.items()})


def tcg_command(folder: Path, role: str, boot: iso.Boot) -> list[str]:
    mine, other = (os.fspath(folder / one) for one in ((RECEIVE, SEND) if role == RECEIVE else (SEND, RECEIVE)))
    command = [QEMU, "-accel", "tcg", "-m", str(linux.MEMORY_MIB), *linux.direct(boot), "-serial", "stdio"]
    command += ["-display", "none", "-monitor", "none", "-no-reboot", "-nodefaults", "-vga", "std"]
    link = f"dgram,id=lan,local.type=unix,local.path={mine},remote.type=unix,remote.path={other}"
    return [*command, "-netdev", link, "-device", f"pcnet,netdev=lan,mac={ADDRESSES[role]}"]


def rates(said: dict[str, Transcript], part: int = 1) -> dict[str, float]:
    """By measure. Raises RunFailed."""
    sent, received = loads(said[SEND]), loads(said[RECEIVE])
    if not {"tcp", "frames"} <= received.keys() or "echo" not in sent:
        raise RunFailed(f"loads are missing: {', '.join([*sent, *received])}; it said {said[SEND].tail()!r}")
    return {
        "net.echo": sent["echo"].seconds * US / (ECHOES // part),
        "net.tcp": (MIB // part) * disks.MIB / 1e6 / received["tcp"].seconds,
        "net.frames": (FRAMES // part) / received["frames"].seconds,
    }


def contenders(plan: Plan) -> dict[str, linux.Contender]:
    """How each does it, by name. Raises PackagesUnavailable, BuildFailed."""
    part = QUICK_PART if disks.is_quick(plan) else 1
    started = boots(part)

    def by(run: Callable[[dict[str, iso.Boot]], dict[str, Transcript]]) -> linux.Contender:
        return lambda: rates(run(started), part)

    found = {engine.name: by(lambda boots, engine=engine: run_ours(engine, boots)) for engine in plan.engines}  # type: ignore[misc]
    if plan.peers.tcg:
        found[Tcg.name] = by(run_tcg)
    return found


def measure(plan: Plan) -> None:
    try:
        found = contenders(plan)
    except RingfenceError as error:
        plan.notes.append(f"left out: net: {error}")
        return
    linux.interleave(plan, "net", found, plan.effort.boots)
    if Tcg.name not in found:
        plan.notes.append(f"left out: net: no {Tcg.name} to hold it against")
        return
    for engine in plan.engines:
        if engine.name in found:
            add_rows(plan, engine)


def add_rows(plan: Plan, engine: Ringfence) -> None:
    """Of the interpreter nothing is asked where there is another engine."""
    for name, (unit, better) in UNITS.items():
        must, aim = GOALS[name] if engine.engine != COUNTING or not plan.others else (None, None)
        ours, theirs = plan.kept(name, engine.name), plan.kept(name, Tcg.name)
        plan.rows.append(compare_runs(f"{engine.engine}.{name}", unit, better, ours, theirs, Tcg.name, must, aim))
