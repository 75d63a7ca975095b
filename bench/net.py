"""Two Linux guests on one switch, beside two of QEMU's translator with its PCnet: `net_load.c` in both.

    net.echo      how long a frame takes to the other machine and back, one at a time
    net.tcp       one TCP connection, from guest to guest
    net.frames    frames of 64 bytes (60 without FCS) a second that the other machine's program gets, of as many as go

Ours are on a port group of the VMkernel's process, QEMU's on the two ends of a datagram link, which is the least that
it has between two machines. The kernel, its pcnet32 and the program are the same. Rates are by the host's time between
two lines on the serial port of the machine that receives.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import disks, guest_load, linux
from bench.engines import COUNTING
from bench.linux_user import loads
from bench.peers import QEMU, ROOT, Ringfence, Tcg
from bench.plan import Plan
from bench.rows import Better, compare_runs
from bench.transcript import RunFailed, Transcript, record
from ringfence.errors import RingfenceError
from tests.realguests import fetch, iso
from vmkernel.host.client import KernelPlace, NotRunning
from vmkernel.net.host_network import HostNetwork, PortGroup, VirtualSwitch
from vmkernel.net.network_file import NetworkFile

PROGRAM, GROUP = "net_load", "lan"
RECEIVE, SEND = "receive", "send"
ADDRESSES = {RECEIVE: "00:0c:29:00:00:01", SEND: "00:0c:29:00:00:02"}
ECHOES, MIB, FRAMES = 2000, 64, 60_000
QUICK_PART = 20  # of these
APPEND = "mods=pcnet32 settle=0 checks={program} end=reboot role={role} echoes={echoes} mib={mib} frames={frames}"
US = 1e6
UNITS = {"net.echo": ("us", Better.LOW), "net.tcp": ("MB/s", Better.HIGH), "net.frames": ("frames/s", Better.HIGH)}
GOALS: dict[str, linux.Goal] = {"net.echo": (None, None), "net.tcp": (0.4, 1.0), "net.frames": (0.3, 1.0)}
TIMEOUT_S = 300.0


def boots(part: int = 1) -> dict[str, iso.Boot]:
    """The kernel of each role with the program in its root file system. Raises PackagesUnavailable, BuildFailed."""
    words = {"program": PROGRAM, "echoes": ECHOES // part, "mib": MIB // part, "frames": FRAMES // part}
    plain = fetch.boot_files(linux.FLAVOUR, "")
    initrd = guest_load.with_program(PROGRAM, linux.FLAVOUR, plain.initrd)
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
        head = [*there, sys.executable, "-m", "tests.realguests.lan_machine"]
        return run_both({role: [*head, json.dumps(spec(ours, role, boot))] for role, boot in started.items()})


def spec(ours: Ringfence, role: str, boot: iso.Boot) -> dict[str, object]:
    """A machine, as tests.realguests.lan_machine takes it."""
    return {
        "name": role, "engine": ours.engine, "memory_mib": linux.MEMORY_MIB, "vcpus": 1, "kernel": str(boot.kernel),
        "initrd": str(boot.initrd), "append": boot.append, "nics": {ADDRESSES[role]: GROUP}, "reboots": False,
    }  # fmt: skip


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
