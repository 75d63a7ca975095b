"""One run of a machine from the command's options: build it, load it, run it, report, give everything back."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from hw.wiring import ByteSink
from ringfence.errors import BadOption, HostRefused
from vmkernel.storage.datastores import resolve
from vmm._core import lib
from vmm.engines.named import AUTO, why_not_direct
from vmx import runner
from vmx.attachments import to_stderr
from vmx.debug import MachineUnderDebug, debug_machine
from vmx.dump import dump
from vmx.input_queue import InputQueue
from vmx.linux import Initrd, LinuxImage
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import SCSI_IDS, AdapterKind, AdapterSpec, DriveKind, DriveSpec, MachineConfig, PortSpec
from vmx.plug import plug_in
from vmx.program import LinuxProgram, Program, ToyProgram
from vmx.question import Policy
from vmx.rfb import RfbServer
from vmx.screen import last_screen, live_screen
from vmx.stats import stats_text
from vmx.stop import STATUS_TIMEOUT, StopKind, StopReason
from vmx.trace import TraceWriter, parse_kinds

TIMEOUT_S_MAX = 10**9
DISK_PLACES = ((0, 0), (0, 1))
CDROM_PLACE = (1, 0)

# Kinds of stop that a person is told of, beside the guest's own output.
ANNOUNCED = frozenset({StopKind.HALTED, StopKind.SHUTDOWN, StopKind.FAILED})


class Options(Protocol):
    """What the command line gives."""

    engine: str
    mem: int
    vcpus: int
    cpu_features: str
    serial: str
    serial2: str
    parallel: str
    append: str
    kernel: str | None
    initrd: str | None
    bios: str | None
    disk: list[str]
    scsi: list[str]
    scsi_adapter: str
    no_questions: bool
    cdrom: str | None
    vnc: str | None
    no_reboot: bool
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


def unheard(byte: int) -> None:
    """Firmware's log, where nobody asked for it."""


def machine_config(options: Options) -> MachineConfig:
    """Raises BadOption."""
    check_timeout(options.timeout)
    config = MachineConfig(
        options.mem, options.engine, options.cpu_features, trace=parse_kinds(options.trace), vcpus=options.vcpus,
        firmware=Path(options.bios) if options.bios else None,
        serials=(PortSpec.parse(options.serial), PortSpec.parse(options.serial2, "--serial2")),
        parallel=PortSpec.parse(options.parallel, "--parallel"), ide=drives(options), scsi=scsi_drives(options),
    )  # fmt: skip
    config.check()
    return config


def check_timeout(seconds: float | None) -> None:
    """Raises BadOption."""
    if seconds is not None and not 0 < seconds <= TIMEOUT_S_MAX:
        raise BadOption(f"--timeout {seconds:g}: expected more than 0 and at most {TIMEOUT_S_MAX} seconds")


def drives(options: Options) -> Mapping[tuple[int, int], DriveSpec]:
    """Disks on the first channel, the CD-ROM drive on the second."""
    if len(options.disk) > len(DISK_PLACES):
        raise BadOption(f"--disk: expected at most {len(DISK_PLACES)}, found {len(options.disk)}")
    found = {
        place: DriveSpec(DriveKind.DISK, resolve(name), origin="--disk")
        for place, name in zip(DISK_PLACES, options.disk, strict=False)
    }
    if options.cdrom is not None:
        found[CDROM_PLACE] = DriveSpec(DriveKind.CDROM, resolve(options.cdrom), origin="--cdrom")
    return found


def scsi_drives(options: Options) -> Mapping[int, AdapterSpec]:
    """Disks on one adapter, which is there when there is a disk for it."""
    ids = sorted(SCSI_IDS)
    if len(options.scsi) > len(ids):
        raise BadOption(f"--scsi: expected at most {len(ids)}, found {len(options.scsi)}")
    try:
        kind = AdapterKind(options.scsi_adapter)
    except ValueError:
        known = " or ".join(kind.value for kind in AdapterKind)
        raise BadOption(f"--scsi-adapter {options.scsi_adapter}: expected {known}") from None
    disks = {
        place: DriveSpec(DriveKind.DISK, resolve(name), origin="--scsi")
        for place, name in zip(ids, options.scsi, strict=False)
    }
    return {0: AdapterSpec(kind, disks)} if disks else {}


def program_of(options: Options, target: Path | None, memory_mib: int) -> Program | None:
    """What is started without firmware; None: firmware is. Raises BadOption and BadInput."""
    chosen = [name for name, value in (("TARGET", target), ("--kernel", options.kernel), ("--bios", options.bios))
              if value is not None]  # fmt: skip
    if len(chosen) > 1:
        raise BadOption(f"expected one of TARGET, --kernel and --bios, found {' and '.join(chosen)}")
    if options.initrd is not None and options.kernel is None:
        raise BadOption("--initrd: expected with --kernel only")
    if options.append and target is None and options.kernel is None:
        raise BadOption("--append: expected with a TARGET or --kernel only")
    if target is not None:
        return ToyProgram(load_program(target, memory_mib << 20), options.append)
    if options.kernel is not None:
        initrd = Initrd.find(Path(options.initrd)) if options.initrd else None
        return LinuxProgram(LinuxImage.read(Path(options.kernel)), options.append, initrd)
    if not chosen and not options.disk and not options.scsi and options.cdrom is None:
        drives = "--disk, --scsi, --cdrom"
        raise BadOption(f"expected a TARGET, --kernel FILE, --bios FILE, or a drive to boot from ({drives})")
    return None


def build_machine(options: Options, target: Path | None) -> Machine:
    """A machine with its program, or else firmware, in it. Raises a RingfenceError with nothing left open."""
    config = machine_config(options)
    program = program_of(options, target, config.memory_mib)
    sink: ByteSink = to_stderr if options.bios else unheard
    attached = plug_in(config, say, sink, firmware=program is None)
    try:
        machine = Machine(config, attached)
    except BaseException:
        attached.close()
        raise
    try:
        machine.reboots = not options.no_reboot
        machine.questions.say = lambda text: say(f"ringfence: {text}")
        machine.questions.policy = Policy.FAIL if options.no_questions else Policy.RETRY
        if program is not None:
            machine.start_with(program)
    except BaseException:
        machine.close()
        raise
    return machine


def run_command(options: Options, program: Path | None) -> int:
    """`ringfence run`: the exit status."""
    if options.engine == AUTO and (why := why_not_direct()):
        say(f"ringfence: {why}; the engine is interp")
    machine = build_machine(options, program)
    try:
        seconds, stop = run_machine(machine, options)
        report = after_run(machine, stop, options, seconds)
    finally:
        machine.close()
    sys.stdout.flush()
    if report:
        say(report)
    ports = (f"--serial {options.serial}", f"--serial2 {options.serial2}")
    for port, serial in zip(ports, machine.attachments.serials, strict=True):
        if serial is not None and serial.lost is not None:
            raise HostRefused(f"{port}: output was lost: {serial.lost}")
    return STATUS_TIMEOUT if stop.kind is StopKind.TIMED_OUT else stop.status


@contextmanager
def watching(machine: Machine, options: Options) -> Iterator[runner.AfterExit | None]:
    """Who looks on: the trace, which is called after every exit; the live screen and the remote one."""
    tracer = TraceWriter(machine.symbols, sys.stderr.write) if options.trace else None
    with ExitStack() as watchers:
        if options.vnc is not None:
            queue = InputQueue(machine.board.keyboard_controller, machine.lock, machine.board.backdoor.pointer)
            server = RfbServer(options.vnc, None, machine.board.picture(), queue, machine.lock, say)
            queue.start()
            watchers.callback(queue.close)
            server.start()
            watchers.callback(server.close)
            say(f"VNC on {server.address}")
        if options.screen and options.serial != "stdio":
            watchers.enter_context(live_screen(machine.board.picture(), machine.lock, sys.stdout))
        yield None if tracer is None else lambda machine: tracer.drain(machine.vcpu)


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
        parts.append(last_screen(machine.board.picture()))
    if stop.kind is StopKind.TIMED_OUT:
        parts.append(f"ringfence: timed out after {options.timeout:g} s of host time")
    elif stop.kind in ANNOUNCED:
        parts.append(f"ringfence: {stop.line()}")
    no_state = stop.kind is StopKind.FAILED and stop.detail in {lib.ERR_WORLD_DIED, lib.ERR_GUEST_ESCAPED}
    if stop.kind in {StopKind.SHUTDOWN, StopKind.FAILED} and not no_state:
        parts.append(dump(machine.ended_by or machine.vcpu, machine.symbols))
    if options.stats:
        parts.append(stats_text(machine.vcpu.stats, seconds))
    return "\n".join(parts)


def debug_command(options: DebugOptions, program: Path | None) -> int:
    """`ringfence debug`: the stub runs the machine until the debugger lets it end."""
    if options.vcpus != 1:
        raise BadOption(f"--vcpus {options.vcpus}: expected 1 under the debugger")
    machine = build_machine(options, program)
    try:
        if options.timeout is not None:
            machine.limit_time(options.timeout)
        started = time.monotonic()
        with watching(machine, options) as after_exit:
            status = debug_machine(
                MachineUnderDebug(machine, after_exit), options.gdb, say, wait=options.wait, program=program
            )
        if options.stats:
            say(stats_text(machine.vcpu.stats, time.monotonic() - started))
        return status
    finally:
        machine.close()

