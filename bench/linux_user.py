"""User programs inside the Linux guest, beside the emulators: short processes, a text, busybox's sha256sum and gzip.

    linux.forks         1,000 times fork, execve of a static program, exit and wait, by a shell
    linux.text          the C library's memcpy, for each of some ten million words
    linux.sha256sum     of a file in memory; the same program natively is what can be had
    linux.gzip
    linux.awk           different words in the first 4 MiB, by busybox's awk: hashing, comparing, allocating
    linux.shell         100,000 turns of a loop in busybox's shell

The time is that of the host between two lines on the serial port, as in bench.linux; between them nothing else is
printed. The processes are started by turns, TURN by each contender but Bochs (bench.turns).

The file's text comes from a seeded generator in the guest (`stress text`), and all contenders have to come to the same
number of bytes, the same hash and the same number of compressed bytes.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import linux
from bench.engines import COUNTING
from bench.peers import ROOT, Bochs, Native, Ringfence, Tcg
from bench.plan import FULL, Plan
from bench.rows import median, significant
from bench.transcript import RunFailed, Transcript
from bench.turns import GO_ON, record_by_turns
from ringfence.errors import RingfenceError
from tests.realguests import fetch, iso, stress_program

FORKS, TURN = 1000, 50
FORKS_MEASURE = "linux.forks"
TEXT_MIB, QUICK_TEXT_MIB = 256, 8
HASHED, PACKED, MADE = "sha256sum", "gzip", "text"
PROGRAMS = (MADE, HASHED, PACKED)
SCRIPTS = ("awk", "shell")
COMMAND_LINE = "mods=none checks=userload end=reboot {}"
GUEST_MIB = 192  # what the kernel and its file systems need besides the text
TIMEOUT_S = 3600.0
BLOCK_BYTES = 1 << 20
AIM_BESIDE_TCG = 1.0  # of the processes
PROGRAM_MUST_BESIDE_TCG = {HASHED: 4.0, PACKED: 4.0}

MARK = re.compile(r"T: load (begin|turn|end) (\w+) ?(\S*)").fullmatch


@dataclass(frozen=True, slots=True)
class Load:
    """What one load took, and what it came to: the processes that were waited for, a hash, a number of bytes."""

    seconds: float
    outcome: str


def loads(transcript: Transcript) -> dict[str, Load]:
    """By name. Raises RunFailed when one has no end, or there is none."""
    begun: dict[str, int] = {}  # later, by as much as it has waited for its turns
    found: dict[str, Load] = {}
    waited_since: dict[str, int] = {}
    for line in transcript.lines:
        mark = MARK(line.text)
        if line.text == GO_ON:
            for name, since in waited_since.items():
                begun[name] += line.host_ns - since
            waited_since.clear()
        if mark is None:
            continue
        word, name, outcome = mark.groups()
        if word == "begin":
            begun[name] = line.host_ns
        elif word == "turn" and name in begun:
            waited_since[name] = line.host_ns
        elif name in begun:
            found[name] = Load((line.host_ns - begun.pop(name)) / 1e9, outcome)
    if begun or not found:
        raise RunFailed(f"{', '.join(begun) or 'every load'} had no end; it said {transcript.tail()!r}")
    return found


def is_turn(line: str) -> bool:
    """Does a load wait after it?"""
    mark = MARK(line)
    return mark is not None and mark[1] == "turn"


def text_mib(plan: Plan) -> int:
    """A whole run hashes and compresses TEXT_MIB, a quick one enough to see that it works."""
    return TEXT_MIB if plan.effort.workload_s >= FULL.workload_s else QUICK_TEXT_MIB


def native_programs(mib: int) -> dict[str, Load]:
    """The guest's own busybox and text on the host's processor. Raises RunFailed, PackagesUnavailable."""
    busybox = fetch.unpacked("busybox-static") / "bin/busybox"
    stress = stress_program.program()
    try:
        with tempfile.TemporaryFile() as text:
            began = time.monotonic_ns()
            subprocess.run([stress, "text", str(mib)], stdout=text, check=True, timeout=TIMEOUT_S)
            made = Load((time.monotonic_ns() - began) / 1e9, str(os.fstat(text.fileno()).st_size))
            started = time.monotonic_ns()
            text.seek(0)
            hashed = subprocess.check_output([busybox, "sha256sum"], stdin=text, timeout=TIMEOUT_S)
            between = time.monotonic_ns()
            text.seek(0)
            packed = count_bytes([str(busybox), "gzip", "-c"], text.fileno())
            ended = time.monotonic_ns()
    except (OSError, subprocess.SubprocessError) as error:
        raise RunFailed(f"busybox on the host: {error}") from error
    return {
        MADE: made,
        HASHED: Load((between - started) / 1e9, hashed.split()[0].decode()),
        PACKED: Load((ended - between) / 1e9, str(packed)),
    }


def count_bytes(command: list[str], source: int) -> int:
    """How much a program writes."""
    with subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        count = 0
        while block := process.stdout.read(BLOCK_BYTES):
            count += len(block)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return count


class Outcomes:
    """What each load came to first: all contenders have to come to the same."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}

    def seconds(self, found: dict[str, Load]) -> dict[str, float]:
        """By measure. Raises RunFailed."""
        for name, load in found.items():
            if load.outcome != self.first.setdefault(name, load.outcome):
                raise RunFailed(f"{name} came to {load.outcome}, elsewhere to {self.first[name]}")
        return {f"linux.{name}": load.seconds for name, load in found.items()}


def boot_for_forks(options: str) -> iso.Boot:
    """Raises PackagesUnavailable."""
    return stress_program.boot(linux.FLAVOUR, COMMAND_LINE.format(f"forks={FORKS} {options}"), stress=False)


def contenders_for_programs(plan: Plan) -> dict[str, linux.Contender]:
    """Of ours the reference only where it is alone: it takes minutes. Raises PackagesUnavailable, BuildFailed."""
    mib = text_mib(plan)
    boot = stress_program.boot(linux.FLAVOUR, COMMAND_LINE.format(f"mib={mib}"))
    outcomes = Outcomes()
    found = emulated(plan, plan.others or plan.engines, boot, mib + GUEST_MIB, outcomes)
    if plan.peers.native:
        found[Native.name] = lambda: outcomes.seconds(native_programs(mib))
    return found


def emulated(
    plan: Plan, engines: Iterable[Ringfence], boot: iso.Boot, memory_mib: int, outcomes: Outcomes
) -> dict[str, linux.Contender]:
    """Engines of ours, and TCG."""

    def by(command: list[str]) -> linux.Contender:
        return lambda: outcomes.seconds(loads(linux.boot_by(command, TIMEOUT_S)))

    return {name: by(command) for name, command in commands(plan, engines, boot, memory_mib).items()}


def commands(plan: Plan, engines: Iterable[Ringfence], boot: iso.Boot, memory_mib: int) -> dict[str, list[str]]:
    """Of engines of ours, and TCG."""
    found = {engine.name: linux.command_of_ours(engine, boot, memory_mib) for engine in engines}
    return {**found, Tcg.name: linux.command_of_tcg(boot, memory_mib)} if plan.peers.tcg else found


def isolinux_disc(boot: iso.Boot) -> Path:
    loader, modules = fetch.unpacked("isolinux"), fetch.unpacked("syslinux-common")
    return fetch.image(
        "isolinux-userload", f"{loader} {modules} {boot}",
        lambda out, scratch: iso.isolinux_iso(fetch.programs(), out, scratch, loader, modules, boot),
    )  # fmt: skip


def measure_forks(plan: Plan) -> None:
    """By turns; Bochs, which reads no line, by itself. Raises PackagesUnavailable."""
    outcomes = Outcomes()
    players = commands(plan, plan.engines, boot_for_forks(f"turn={TURN}"), linux.MEMORY_MIB)
    names = take_turns(plan, players, outcomes)
    if plan.peers.bochs:
        disc, video = isolinux_disc(boot_for_forks("")), fetch.seabios(linux.VIDEO_BIOS)
        alone = {Bochs.name: lambda: outcomes.seconds(loads(linux.boot_bochs(disc, video)))}
        linux.interleave(plan, "linux forks", alone, 1)
        names += list(alone)
    linux.add_rows(plan, FORKS_MEASURE, names, asked_of_forks)


def take_turns(plan: Plan, players: dict[str, list[str]], outcomes: Outcomes) -> list[str]:
    """The processes into the plan's samples, and whose they are; our engines go on until their ratios are settled."""
    effort, engines = plan.effort, {engine.name for engine in plan.engines}
    least, most = (effort.pair_boots, effort.pair_boots_most) if plan.others else (effort.boots, effort.boots)
    for repetition in range(most):
        if repetition >= least and plan.is_settled([FORKS_MEASURE]):
            break
        plan.say(f"linux forks {repetition + 1}/{least}: by turns")
        here = {name: command for name, command in players.items() if repetition < effort.boots or name in engines}
        try:
            said = record_by_turns(here, TIMEOUT_S, folder=ROOT, waits=is_turn, is_last=linux.is_last)
            for name, transcript in said.items():
                plan.keep(FORKS_MEASURE, name, outcomes.seconds(loads(transcript))[FORKS_MEASURE])
        except RunFailed as error:
            plan.errors.append(f"linux forks: {error}")
            return []
    return list(players)


def asked_of_forks(engine: Ringfence, peer: str) -> linux.Goal:
    return {Tcg.name: (None, AIM_BESIDE_TCG), Bochs.name: (linux.MUST_BESIDE_BOCHS, None)}.get(
        peer, (linux.MUST_BESIDE_REFERENCE, None)
    )


def measure_programs(plan: Plan) -> None:
    """The aim beside TCG is what native reaches there."""
    contenders = contenders_for_programs(plan)
    linux.interleave(plan, "linux programs", contenders, plan.effort.boots)
    for program in PROGRAMS:
        measure_name = f"linux.{program}"
        took = {name: median(plan.kept(measure_name, name)) for name in contenders}
        native = significant(took[Tcg.name] / took[Native.name]) if took.keys() >= {Tcg.name, Native.name} else None

        def asked(
            engine: Ringfence, peer: str, must: float | None = PROGRAM_MUST_BESIDE_TCG.get(program),
            native: float | None = native,
        ) -> linux.Goal:  # fmt: skip
            """Of the interpreter nothing is asked."""
            return (must, native) if peer == Tcg.name and engine.engine != COUNTING else (None, None)

        linux.add_rows(plan, measure_name, contenders, asked)
    emulators = [name for name in contenders if name != Native.name]
    for script in SCRIPTS:
        linux.add_rows(plan, f"linux.{script}", emulators, linux.nothing_asked)


def measure(plan: Plan) -> None:
    for what, part in {"forks": measure_forks, "programs": measure_programs}.items():
        try:
            part(plan)
        except RingfenceError as error:
            plan.notes.append(f"left out: linux {what}: {error}")
