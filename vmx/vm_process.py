"""The process of one machine that a .vmx file describes: `ringfence run machine.vmx`, in front or in the background.

From power-on to its end it holds the machine's lock, writes vmware.log, and answers the control socket. A machine that
was suspended goes on where it was; its file of saved state is removed once it runs. One that returns to a snapshot
while it runs is switched off and built anew as the snapshot has it, behind the same socket.
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Protocol

from ringfence.errors import HostRefused, MediaError, RingfenceError
from vmkernel.storage.block_file import sync_folder
from vmkernel.storage.place import Place, elsewhere
from vmx import runner
from vmx.control_server import ControlServer
from vmx.detached import settle
from vmx.disk_image import forget
from vmx.dump import dump
from vmx.ending import EndedBySignal
from vmx.loader import load_program
from vmx.log import Log, SilentLog, VmwareLog
from vmx.machine import Machine
from vmx.machine_config import MachineConfig, PortKind
from vmx.machine_lock import MachineLock, identity
from vmx.nvram import Nvram
from vmx.plug import plug_in, wanted_by
from vmx.power import PowerState
from vmx.power_on_log import log_power_on
from vmx.program import ToyProgram
from vmx.question import Policy
from vmx.registry import Registry
from vmx.running import RunningMachine
from vmx.screen import last_screen, live_screen
from vmx.snapshot_files import MachineFiles
from vmx.snapshot_modes import KEEP, WORDS, AtPowerOff, after_power_off, question_of, with_redo_logs
from vmx.snapshot_return import LiveReturn
from vmx.stats import stats_text
from vmx.stop import STATUS_TIMEOUT, StopKind, StopReason
from vmx.suspend import open_saved, restore
from vmx.swap_file import SwapFile
from vmx.vmx_settings import VmxSettings, check_media, identify, load_settings, set_resume_from

Say = Callable[[str], None]
SWAP_SUFFIX = ".vswp"
ABNORMAL = frozenset({StopKind.HALTED, StopKind.SHUTDOWN, StopKind.FAILED, StopKind.TIMED_OUT})


class VmxOptions(Protocol):
    """What the command line adds to the file."""

    in_background: bool
    no_questions: bool
    redo_logs: str
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


def run_vmx(path: Place, options: VmxOptions, say: Say) -> int:
    """Power a machine on and run it to its end: the exit status. Raises a RingfenceError for what prevents that."""
    load_settings(path)
    registry = Registry.of_user()
    with ExitStack() as held:
        lock = MachineLock.acquire(path, registry.directory)
        held.callback(lock.release)
        settings = load_settings(path)  # once more: whoever had it switched on may just have suspended it
        settings = ready(settings, say)
        log = open_log(settings, say)
        held.callback(log.close)
        with log_failures(log):
            return Process(options, registry, log, say).run(settings)


def ready(settings: VmxSettings, say: Say) -> VmxSettings:
    """Raises BadInput where an image is missing; the file has its identities then."""
    check_media(settings.config)
    try:
        return identify(settings)
    except HostRefused as error:
        say(f"ringfence: {error}: the machine's identity is not kept")
        return settings


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


class Process:
    """What outlasts a machine that returns to a snapshot: the control socket, and the entry in the registry."""

    def __init__(self, options: VmxOptions, registry: Registry, log: Log, say: Say) -> None:
        self.options, self.registry, self.log, self.say = options, registry, log, say
        self.running: RunningMachine | None = None
        self._returning: LiveReturn | None = None
        self._held = ExitStack()

    def run(self, settings: VmxSettings) -> int:
        """Power on, and again as long as the machine returns to a snapshot with memory: the exit status."""
        with self._held:
            try:
                while True:
                    stop = self._live(settings)
                    if (returning := self._returning) is None:
                        return STATUS_TIMEOUT if stop.kind is StopKind.TIMED_OUT else stop.status
                    returning.carry_out()
                    for note in returning.notes:
                        self.log.write(f"RETURN {note}")
                    self.log.write(f"RETURN to snapshot {returning.uid}")
                    if not returning.resumes:
                        returning.over(PowerState.OFF)
                        return 0
                    settings = ready(load_settings(settings.file.path), self.say)
            except RingfenceError as error:
                if self._returning is not None:
                    self._returning.over(PowerState.OFF, error)
                raise
            finally:
                if self.running is not None:
                    self.running.gone()

    def _live(self, settings: VmxSettings) -> StopReason:
        """From power-on to power-off."""
        settings = with_redo_logs(settings)
        asked = None
        with ExitStack() as held:
            machine = self._build(settings, held)
            running = self._offer(machine, settings, held)
            if settings.resume_from is not None:
                give_up_saved(settings, self.log)
            if self._returning is not None:
                self._returning.over(PowerState.ON)
                self._returning = running.returning = None
            elif self.options.in_background:
                settle()
            stop = run_to_end(machine, running, self.options, self.log, self.say)
            self._returning = running.returning
            if self._returning is None and stop.kind is not StopKind.SUSPENDED:
                asked = self._ask(machine, settings, stop)
        if asked is not None:
            insists = self.options.redo_logs in WORDS
            for line in after_power_off(MachineFiles(settings.file), asked, insists=insists):
                self.log.write(f"POWEROFF {line}")
        return stop

    def _withdraw(self) -> None:
        """Nobody asks for anything while the machine is taken apart; a return keeps whoever waits for it."""
        if self._returning is None:
            assert self.running is not None
            self.running.gone()
            self._held.close()

    def _build(self, settings: VmxSettings, held: ExitStack) -> Machine:
        options, log = self.options, self.log
        config = without_terminal(settings.config) if options.in_background else settings.config
        resumes = settings.resume_from is not None
        program = program_of(settings)
        attached = plug_in(config, log.write, FirmwareLog(log), firmware=program is None, resumes=resumes)
        try:
            machine = Machine(config, attached)
        except BaseException:
            attached.close()
            raise
        held.callback(machine.close)
        held.enter_context(files_of_a_run(settings, machine, log))
        machine.reboots = not options.no_reboot
        machine.questions.say = log.write if options.in_background else both(log.write, self.say)
        machine.questions.policy = Policy.FAIL if options.no_questions else Policy.ASK
        log_power_on(log, settings, machine.vcpu.engine.name)
        if program is not None:
            machine.start_with(program)
        if settings.resume_from is not None:
            resume(machine, settings.resume_from, log)
        return machine

    def _offer(self, machine: Machine, settings: VmxSettings, held: ExitStack) -> RunningMachine:
        """To whoever asks at the control socket."""
        if self.running is not None:
            self.running.take_over(machine, settings)
        else:
            self.running = RunningMachine(machine, settings, self.log)
            server = ControlServer(self.registry.socket_path(settings.file.path), self.running, self.log)
            self._held.callback(server.close)
            server.start()
            registration = self.registry.register(settings.config.name, settings.file.path)
            self._held.callback(registration.close)
        held.callback(self.running.ended)
        held.callback(self._withdraw)
        self.running.start_console()
        return self.running

    def _ask(self, machine: Machine, settings: VmxSettings, stop: StopReason) -> AtPowerOff:
        """What is to become of the redo logs of a machine that is switched off."""
        if self.options.redo_logs in WORDS:
            return WORDS[self.options.redo_logs]
        question = question_of(settings.file)
        if not question or stop.kind is StopKind.TIMED_OUT:
            return AtPowerOff.KEEP
        return WORDS[machine.questions.ask_at_end(question, tuple(WORDS), KEEP)]


def program_of(settings: VmxSettings) -> ToyProgram | None:
    """What is started without firmware. Raises BadInput."""
    if settings.program is None:
        return None
    with wanted_by(f"{settings.file.where('ringfence.program')}: ringfence.program"):
        return ToyProgram(load_program(settings.program, settings.config.memory_mib << 20), settings.append)


@contextmanager
def files_of_a_run(settings: VmxSettings, machine: Machine, log: Log) -> Iterator[None]:
    """What a machine has open while it runs, beside its disks and its log. Raises HostRefused and BadInput."""
    vmx = settings.file.path
    with ExitStack() as held:
        if (volume := elsewhere(vmx.parent)) is not None:
            place = elsewhere(volume / f"{vmx.stem}-{identity(vmx.resolve())[:8]}{SWAP_SUFFIX}")
            assert place is not None
            held.callback(SwapFile(place, settings.config.memory_mib << 20).close)
        nvram = None if settings.nvram is None else Nvram.open(settings.nvram, machine.board.rtc.state)
        if nvram is not None:
            held.callback(nvram.close)
            if not nvram.is_ours:
                log.write(f"NVRAM {settings.nvram}: another program's: it is not used")
            if settings.resume_from is None:
                nvram.load()
        sync_folder(vmx.resolve().parent)  # other hosts of a volume see the files from here on
        try:
            yield
        finally:
            if nvram is not None:
                try:
                    nvram.save()
                except MediaError as error:
                    log.write(f"NVRAM {error}")


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


def resume(machine: Machine, path: Place, log: Log) -> None:
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
            sync_folder(path.parent)
    except OSError as error:
        log.write(f"RESUME {path}: cannot be removed: {error.strerror}")


def stop_suspended(path: Place) -> None:
    """Switch off a machine that is suspended: what it was doing is given up. Raises BadInput and HostRefused."""
    lock = MachineLock.acquire(path, Registry.of_user().directory)
    try:
        settings = load_settings(path)
        give_up_saved(settings, SilentLog())
        for node, spec in settings.config.drives():
            forget(spec, node, settings.config.folder)
        after_power_off(MachineFiles(settings.file))
    finally:
        lock.release()


def run_to_end(
    machine: Machine, running: RunningMachine, options: VmxOptions, log: Log, say: Say
) -> StopReason:
    if options.timeout is not None:
        machine.limit_time(options.timeout)
    started = time.monotonic()
    on_terminal = any(port is not None and port.kind is PortKind.STDIO for port in machine.config.serials)
    with ExitStack() as watchers:
        watchers.callback(running.stopped)
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
    return stop


def ending(machine: Machine, stop: StopReason) -> list[str]:
    """Why it ended; after a triple fault the registers too."""
    lines = [stop.line()]
    if stop.kind is StopKind.SHUTDOWN:
        lines += dump(machine.ended_by or machine.vcpu, machine.symbols).splitlines()
    return lines


