"""One run of a machine from the command's options: build it, load it, run it, report, give everything back."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.live import Live

from ringfence.errors import BadOption, HostRefused
from vmm._core import lib
from vmx import runner
from vmx.attachments import Attachments
from vmx.debug import MachineUnderDebug, debug_machine
from vmx.dump import dump
from vmx.loader import load_firmware, load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.screen import plain_screen, read_screen
from vmx.serial import open_serial
from vmx.stats import stats_text
from vmx.stop import STATUS_TIMEOUT, StopKind, StopReason
from vmx.trace import TraceWriter, parse_kinds

TIMEOUT_S_MAX = 10**9
SCREEN_INTERVAL_NS = 200_000_000

# Kinds of stop that a person is told of, beside the guest's own output.
ANNOUNCED = frozenset({StopKind.HALTED, StopKind.SHUTDOWN, StopKind.FAILED})


class Options(Protocol):
    """What the command line gives."""

    engine: str
    mem: int
    cpu_features: str
    serial: str
    append: str
    bios: str | None
    timeout: float | None
    stats: bool
    trace: str
    screen: bool


class DebugOptions(Options, Protocol):
    """And for `ringfence debug`."""

    gdb: str
    wait: bool


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def build_machine(options: Options, program: Path | None) -> Machine:
    """A machine with `program`, or else the firmware, in it. Raises a RingfenceError with nothing left open."""
    if options.timeout is not None and not 0 < options.timeout <= TIMEOUT_S_MAX:
        raise BadOption(f"--timeout {options.timeout:g}: expected more than 0 and at most {TIMEOUT_S_MAX} seconds")
    if (program is None) == (options.bios is None):
        raise BadOption("expected a TARGET or --bios FILE, and not both")
    config = MachineConfig(options.mem, options.engine, options.cpu_features, trace=parse_kinds(options.trace))
    config.check()
    image = load_program(program, options.mem << 20) if program else None
    firmware = load_firmware(Path(options.bios)) if options.bios else b""
    serial = open_serial(options.serial, say)
    try:
        machine = Machine(config, Attachments((serial,), firmware=firmware))
    except BaseException:
        serial.close()
        raise
    try:
        if image is not None:
            machine.load(image, options.append)
    except BaseException:
        machine.close()
        raise
    return machine


def run_command(options: Options, program: Path | None) -> int:
    """`ringfence run`: the exit status."""
    machine = build_machine(options, program)
    try:
        seconds, stop = run_machine(machine, options)
        report = after_run(machine, stop, options, seconds)
    finally:
        machine.close()
    sys.stdout.flush()
    if report:
        say(report)
    for serial in machine.attachments.serials:
        if serial is not None and serial.lost is not None:
            raise HostRefused(f"--serial {options.serial}: output was lost: {serial.lost}")
    return STATUS_TIMEOUT if stop.kind is StopKind.TIMED_OUT else stop.status


@contextmanager
def watching(machine: Machine, options: Options) -> Iterator[runner.AfterExit | None]:
    """What looks at the machine after every exit, if anything: the trace and the live screen."""
    watchers: list[runner.AfterExit] = []
    if options.trace:
        tracer = TraceWriter(machine.symbols, sys.stderr.write)
        watchers.append(lambda machine: tracer.drain(machine.vcpu))
    live = None
    if options.screen and options.serial != "stdio" and sys.stdout.isatty():
        live = LiveScreen()
        watchers.append(live.update)

    def after_exit(machine: Machine) -> None:
        for watcher in watchers:
            watcher(machine)

    try:
        yield after_exit if watchers else None
    finally:
        if live is not None:
            live.close()


def run_machine(machine: Machine, options: Options) -> tuple[float, StopReason]:
    """Run to the end; host seconds it took, and why it ended."""
    with watching(machine, options) as after_exit:
        if options.timeout is not None:
            machine.limit_time(options.timeout)
        started = time.monotonic()
        machine.start()
        stop = runner.run(machine, after_exit)
    return time.monotonic() - started, stop


def after_run(machine: Machine, stop: StopReason, options: Options, seconds: float) -> str:
    """What is printed on stderr when a run has ended."""
    parts = []
    if options.screen:
        parts.append(plain_screen(machine.memory))
    if stop.kind is StopKind.TIMED_OUT:
        parts.append(f"ringfence: timed out after {options.timeout:g} s of host time")
    elif stop.kind in ANNOUNCED:
        parts.append(f"ringfence: {stop.line()}")
    world_died = stop.kind is StopKind.FAILED and stop.detail == lib.ERR_WORLD_DIED  # and left its state unfinished
    if stop.kind in {StopKind.SHUTDOWN, StopKind.FAILED} and not world_died:
        parts.append(dump(machine.vcpu, machine.symbols))
    if options.stats:
        parts.append(stats_text(machine.vcpu.stats, seconds))
    return "\n".join(parts)


def debug_command(options: DebugOptions, program: Path | None) -> int:
    """`ringfence debug`: the stub runs the machine until the debugger lets it end."""
    machine = build_machine(options, program)

    def reload() -> None:
        if program is not None:
            machine.load(load_program(program, options.mem << 20), options.append)

    try:
        if options.timeout is not None:
            machine.limit_time(options.timeout)
        started = time.monotonic()
        with watching(machine, options) as after_exit:
            status = debug_machine(
                MachineUnderDebug(machine, reload, after_exit), options.gdb, say, wait=options.wait, program=program
            )
        if options.stats:
            say(stats_text(machine.vcpu.stats, time.monotonic() - started))
        return status
    finally:
        machine.close()


class LiveScreen:
    """The text screen on the terminal, redrawn a few times a second."""

    def __init__(self) -> None:
        self._live = Live(console=Console(), auto_refresh=False, screen=True)
        self._live.start()
        self._next_ns = 0

    def update(self, machine: Machine) -> None:
        now = time.monotonic_ns()
        if now >= self._next_ns:
            self._next_ns = now + SCREEN_INTERVAL_NS
            self._live.update(read_screen(machine.memory), refresh=True)

    def close(self) -> None:
        self._live.stop()
