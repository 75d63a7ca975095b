"""The process of one machine that a .vmx file describes: `ringfence run machine.vmx`, in front or in the background.

From power-on to its end it holds the machine's lock, writes vmware.log, and answers the control socket. A machine that
was suspended goes on where it was; its file of saved state is removed once it runs.
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ringfence.errors import HostRefused, RingfenceError
from vmx import runner
from vmx.control_server import ControlServer
from vmx.detached import settle
from vmx.disk_image import forget
from vmx.dump import dump
from vmx.ending import EndedBySignal
from vmx.log import Log, SilentLog, VmwareLog
from vmx.machine import Machine
from vmx.machine_config import MachineConfig, PortKind
from vmx.machine_lock import MachineLock
from vmx.plug import plug_in
from vmx.power_on_log import log_power_on
from vmx.question import Policy
from vmx.registry import Registry
from vmx.running import RunningMachine
from vmx.screen import last_screen, live_screen
from vmx.stats import stats_text
from vmx.stop import STATUS_TIMEOUT, StopKind, StopReason
from vmx.suspend import open_saved, restore
from vmx.vmx_settings import VmxSettings, check_media, identify, load_settings, set_resume_from

Say = Callable[[str], None]
ABNORMAL = frozenset({StopKind.HALTED, StopKind.SHUTDOWN, StopKind.FAILED, StopKind.TIMED_OUT})


class VmxOptions(Protocol):
    """What the command line adds to the file."""

    in_background: bool
    no_questions: bool
    no_reboot: bool
    timeout: float | None
    stats: bool
    screen: bool


class FirmwareLog:
    """The firmware's debug port, line by line in the log."""

    def __init__(self, log: Log) -> None:
        self._log, self._line = log, bytearray()

    def __call__(self, byte: int) -> None:
        if byte != ord("\n"):
            self._line.append(byte)
        if byte == ord("\n") or len(self._line) >= 256:
            self._log.write(self._line.decode("latin-1"), "bios")
            self._line.clear()


def run_vmx(path: Path, options: VmxOptions, say: Say) -> int:
    """Power a machine on and run it to its end: the exit status. Raises a RingfenceError for what prevents that."""
    load_settings(path)
    registry = Registry.of_user()
    with ExitStack() as held:
        lock = MachineLock.acquire(path, registry.directory)
        held.callback(lock.release)
        settings = load_settings(path)  # once more: whoever had it switched on may just have suspended it
        check_media(settings.config)
        try:
            settings = identify(settings)
        except HostRefused as error:
            say(f"ringfence: {error}: the machine's identity is not kept")
        log = open_log(settings, say)
        held.callback(log.close)
        with log_failures(log):
            return power_on(settings, options, registry, log, say)


@contextmanager
def log_failures(log: Log) -> Iterator[None]:
    """Whatever ends the process early is in the log: in the background nobody hears of it otherwise."""
    try:
        yield
    except RingfenceError as error:
        log.write(f"FAILED {error}")
        raise
    except (KeyboardInterrupt, EndedBySignal) as ended:
        number = ended.number if isinstance(ended, EndedBySignal) else signal.SIGINT
        log.write(f"POWEROFF by signal {signal.Signals(number).name}")
        raise
    except BaseException as error:
        for line in "".join(traceback.format_exception(error)).splitlines():
            log.write(f"FAILED {line}")
        raise


def open_log(settings: VmxSettings, say: Say) -> Log:
    wanted = settings.log
    if wanted.path is None:
        return SilentLog()
    return VmwareLog(wanted.path, say, wanted.keep_old, wanted.rotate_bytes)


def power_on(settings: VmxSettings, options: VmxOptions, registry: Registry, log: Log, say: Say) -> int:
    """Build the machine, offer it to the control socket, run it."""
    config = without_terminal(settings.config) if options.in_background else settings.config
    with ExitStack() as held:
        resumes = settings.resume_from is not None
        attached = plug_in(config, log.write, FirmwareLog(log), firmware=True, resumes=resumes)
        try:
            machine = Machine(config, attached)
        except BaseException:
            attached.close()
            raise
        held.callback(machine.close)
        machine.reboots = not options.no_reboot
        machine.questions.say = log.write if options.in_background else both(log.write, say)
        machine.questions.policy = Policy.FAIL if options.no_questions else Policy.ASK
        log_power_on(log, settings, machine.vcpu.engine.name)
        if settings.resume_from is not None:
            resume(machine, settings.resume_from, log)
        running = RunningMachine(machine, settings, log)
        held.callback(running.ended)
        running.start_console()
        server = ControlServer(registry.socket_path(settings.file.path), running, log)
        held.callback(server.close)
        server.start()
        registration = registry.register(config.name, settings.file.path)
        held.callback(registration.close)
        if settings.resume_from is not None:
            give_up_saved(settings, log)
        if options.in_background:
            settle()
        return run_to_end(machine, running, options, log, say)


def both(log: Say, say: Say) -> Say:
    """For a line that is worth more than the log."""

    def write(text: str) -> None:
        log(text)
        say(f"ringfence: {text}")

    return write


def without_terminal(config: MachineConfig) -> MachineConfig:
    """In the background there is none."""
    none = PortKind.NONE
    serials = (port and (replace(port, kind=none) if port.kind is PortKind.STDIO else port) for port in config.serials)
    return replace(config, serials=tuple(serials))


def resume(machine: Machine, path: Path, log: Log) -> None:
    """Raises BadInput or LayoutMismatch for a file that is not this machine's, or damaged."""
    started = time.monotonic()
    saved = open_saved(path)
    try:
        restore(machine, saved)
    finally:
        saved.close()
    log.write(f"RESUME {path} in {time.monotonic() - started:.1f} s")


def give_up_saved(settings: VmxSettings, log: Log) -> None:
    """The saved state is used up, or not wanted: neither the machine's file nor the disk keeps it. Raises HostRefused.

    A state file that cannot be removed is left where it is.
    """
    path = settings.resume_from
    set_resume_from(settings, None)
    try:
        if path is not None:
            path.unlink(missing_ok=True)
    except OSError as error:
        log.write(f"RESUME {path}: cannot be removed: {error.strerror}")


def stop_suspended(path: Path) -> None:
    """Switch off a machine that is suspended: what it was doing is given up. Raises BadInput and HostRefused."""
    lock = MachineLock.acquire(path, Registry.of_user().directory)
    try:
        settings = load_settings(path)
        give_up_saved(settings, SilentLog())
        for node, spec in settings.config.drives():
            forget(spec, node, settings.config.folder)
    finally:
        lock.release()


def run_to_end(machine: Machine, running: RunningMachine, options: VmxOptions, log: Log, say: Say) -> int:
    if options.timeout is not None:
        machine.limit_time(options.timeout)
    started = time.monotonic()
    on_terminal = any(port is not None and port.kind is PortKind.STDIO for port in machine.config.serials)
    with ExitStack() as watchers:
        watchers.callback(running.ended)
        if options.screen and not on_terminal:
            watchers.enter_context(live_screen(machine.board.picture(), machine.lock, sys.stdout))
        machine.start()
        log.write("POWERON: the machine runs")
        stop = runner.run(machine)
    if options.screen:
        say(last_screen(machine.board.picture()))
    for line in ending(machine, stop):
        log.write(line)
        if stop.kind in ABNORMAL:
            say(line if line.startswith(" ") else f"ringfence: {line}")
    for number, serial in enumerate(machine.attachments.serials):
        if serial is not None and serial.lost is not None:
            log.write(f"serial{number}: output was lost: {serial.lost}")
    if options.stats:
        say(stats_text(machine.vcpu.stats, time.monotonic() - started))
    return STATUS_TIMEOUT if stop.kind is StopKind.TIMED_OUT else stop.status


def ending(machine: Machine, stop: StopReason) -> list[str]:
    """Why it ended; after a triple fault the registers too."""
    lines = [stop.line()]
    if stop.kind is StopKind.SHUTDOWN:
        lines += dump(machine.ended_by or machine.vcpu, machine.symbols).splitlines()
    return lines


