"""A real guest in a machine of its own, in the background, and the person in front of it: serial line, screen, keys.

`expect` waits for text on COM1, `until` for anything else, `ended` for the end of the run. Where the guest ends or
LIMIT_S pass before what was waited for, the test fails with the last that the guest said.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ringfence.errors import RingfenceError
from tests.realguests import fetch, iso
from tests.realguests.transcript import Transcript
from vmx import runner
from vmx.input_queue import InputQueue
from vmx.keys import strokes_of
from vmx.linux import Initrd, LinuxImage
from vmx.machine import Machine
from vmx.machine_config import DriveKind, DriveSpec, MachineConfig
from vmx.plug import plug_in
from vmx.program import LinuxProgram, Program
from vmx.screenshot import take_screenshot
from vmx.serial import SerialBackend
from vmx.stop import StopKind, StopReason
from vmx.suspend import open_saved, restore, suspend_soon

LIMIT_S = 150
LONG_S = 1500
LOOK_S = 0.05
TAIL = 3000
BANNER = re.compile(r"SeaBIOS \(version .*\)\n(?=BUILD: )")
CONFIG = MachineConfig(memory_mib=128, uuid=bytes(range(0x40, 0x50)), serials=(None, None))
PROMPT, COLUMNS = "/ # ", 80
DISK, CD = (0, 0), (1, 0)


class Line(SerialBackend):
    """The far end of COM1: keeps what comes, and tells who waits that it has come."""

    def __init__(self) -> None:
        super().__init__()
        self.output = bytearray()
        self.changed = threading.Condition()
        self._awaited = b""
        self._trigger, self._action = b"", lambda: None

    def transmit(self, byte: int) -> None:
        with self.changed:
            self.output.append(byte)
            if self._awaited and self.output.endswith(self._awaited):
                self.changed.notify_all()
        if self._trigger and self.output.endswith(self._trigger):
            self._trigger = b""
            self._action()

    def wait_for(self, text: bytes, start: int, hopeless: Callable[[], bool]) -> int:
        """Where the text ends, at or after `start`; -1 where it has not come and it is hopeless."""
        with self.changed:
            self._awaited = text
            self.changed.wait_for(lambda: self.output.find(text, start) >= 0 or hopeless())
            at = self.output.find(text, start)
            return at + len(text) if at >= 0 else -1

    def act_at(self, text: bytes, action: Callable[[], None]) -> None:
        """Call `action`, under the machine's lock, while the text's last character is on its way."""
        self._action, self._trigger = action, text

    def send(self, data: bytes) -> None:
        assert self._host is not None, "the machine runs"
        self._waiting.extend(data)
        self._host.post(self._feed)


class Guest:
    """One machine and its run. `log` is what firmware wrote to its debug port."""

    def __init__(self, machine: Machine, line: Line, log: bytearray) -> None:
        self.machine, self.line, self.log = machine, line, log
        self.keyboard = InputQueue(machine.board.keyboard_controller, machine.lock, machine.board.backdoor.pointer)
        self._picture = machine.board.picture()
        self._read = 0
        self._stop: StopReason | None = None
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guest")

    def start(self, limit_s: float = LIMIT_S) -> None:
        self.machine.limit_time(limit_s)
        self.machine.start()
        self.keyboard.start()
        self._thread.start()

    def _run(self) -> None:
        try:
            self._stop = runner.run(self.machine)
        except BaseException as error:  # noqa: BLE001 - raised again where the end is waited for
            self._error = error
        self._over.set()
        with self.line.changed:
            self.line.changed.notify_all()

    # what it says

    def expect(self, text: str) -> str:
        """What came on COM1 since the last call, up to and with this text."""
        end = self.line.wait_for(text.encode("latin-1"), self._read, self._over.is_set)
        if end < 0:
            raise AssertionError(f"{text!r} never came; {self.last_words()}")
        said = self.line.output[self._read : end].decode("latin-1")
        self._read = end
        return said.replace("\r\n", "\n")

    def ask(self, command: str) -> str:
        """What a command that fits into a row prints, at a shell's prompt on COM1; not the echo of what is typed."""
        assert len(PROMPT + command) < COLUMNS, "the shell would break the line"
        self.send(f"{command}\n")
        self.expect(f"{command}\r\n")
        return self.expect(PROMPT).removesuffix(PROMPT).rstrip("\n")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            if self._over.wait(LOOK_S):
                assert condition(), f"never: {what}; {self.last_words()}"

    def last_words(self) -> str:
        tail = bytes(self.line.output[-TAIL:]).decode("latin-1")
        how = self._stop.line() if self._stop else repr(self._error)
        return f"the run ended: {how}; firmware said last {bytes(self.log[-200:])!r}; COM1:\n{tail}"

    @property
    def transcript(self) -> Transcript:
        return Transcript(bytes(self.line.output))

    def posts(self) -> list[str]:
        """What firmware logged in each of its self-tests; the first lines of a log are its version and BUILD."""
        return BANNER.split(self.log.decode("latin-1"))[1:]

    # what is done to it

    def send(self, text: str) -> None:
        self.line.send(text.encode("latin-1"))

    def press(self, *words: str, literal: bool = False) -> None:
        self.keyboard.type_keys(strokes_of(words, literal))

    def screen(self) -> list[str]:
        """The rows of text without trailing blanks; none in a graphics mode."""
        with self.machine.lock:
            return [row.rstrip() for row in self._picture.text_lines() or []]

    def shows(self, text: str) -> bool:
        return any(text in row for row in self.screen())

    def shot(self, path: Path) -> np.ndarray:
        """The dots of a screenshot: row, column, colour."""
        take_screenshot(self._picture, self.machine.lock, path)
        with Image.open(path) as picture:
            return np.asarray(picture)

    def suspend(self, path: Path) -> None:
        """Now."""
        failures: list[RingfenceError] = []
        suspend_soon(self.machine, path, failures.append)
        self._suspended(failures)

    def suspend_at(self, text: str, path: Path) -> None:
        """In the middle of saying this, which it has yet to say; to be called before `start`."""
        failures: list[RingfenceError] = []
        self.line.act_at(text.encode("latin-1"), lambda: suspend_soon(self.machine, path, failures.append))
        self.start()
        self._suspended(failures)

    def _suspended(self, failures: list[RingfenceError]) -> None:
        self.ended(StopKind.SUSPENDED)
        assert not failures, failures

    def ended(self, kind: StopKind) -> StopReason:
        """Wait for the end, which is of this kind."""
        self._over.wait()
        if self._error is not None:
            raise self._error
        assert self._stop is not None and self._stop.kind is kind, self.last_words()
        return self._stop

    def close(self) -> None:
        """Switch it off, whatever it is doing."""
        self.machine.leave()
        if self._thread.ident is not None:
            self._thread.join()
        self.keyboard.close()
        self.machine.close()


@contextmanager
def debian_firmware() -> Iterator[None]:
    """SeaBIOS and its video BIOS are those of the fetched package, whatever the host has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RINGFENCE_FIRMWARE", str(fetch.seabios().parent))
        yield


def linux(boot: iso.Boot) -> LinuxProgram:
    """A kernel for direct loading."""
    return LinuxProgram(LinuxImage.read(boot.kernel), boot.append, Initrd.find(boot.initrd))


@contextmanager
def built(config: MachineConfig = CONFIG, program: Program | None = None) -> Iterator[Guest]:
    """A machine that has not started; without a program, Debian's SeaBIOS and its video BIOS are in it."""
    line, log = Line(), bytearray()
    with debian_firmware():
        attached = plug_in(config, lambda text: None, log.append, firmware=program is None)
    attached.plug_serial(0, line)
    try:
        machine = Machine(config, attached)
    except BaseException:
        attached.close()
        raise
    guest = Guest(machine, line, log)
    try:
        if program is not None:
            machine.start_with(program)
        yield guest
    finally:
        guest.close()


@contextmanager
def running(
    config: MachineConfig = CONFIG, program: Program | None = None, limit_s: float = LIMIT_S
) -> Iterator[Guest]:
    """A machine that was just switched on."""
    with built(config, program) as guest:
        guest.start(limit_s)
        yield guest


@contextmanager
def restored(path: Path, config: MachineConfig = CONFIG, program: Program | None = None) -> Iterator[Guest]:
    """Another machine, in the state of one that was suspended, which has not started."""
    with built(config, program) as guest:
        saved = open_saved(path)
        try:
            restore(guest.machine, saved)
        finally:
            saved.close()
        yield guest


@contextmanager
def resumed(path: Path, config: MachineConfig = CONFIG, program: Program | None = None) -> Iterator[Guest]:
    """Another machine that goes on where one was suspended."""
    with restored(path, config, program) as guest:
        guest.start()
        yield guest


def with_drives(config: MachineConfig = CONFIG, *, disk: Path | None = None, cd: Path | None = None) -> MachineConfig:
    ide = dict(config.ide)
    if disk is not None:
        ide[DISK] = DriveSpec(DriveKind.DISK, disk)
    if cd is not None:
        ide[CD] = DriveSpec(DriveKind.CDROM, cd)
    return replace(config, ide=ide)


