"""Intel 8042 keyboard controller with a PS/2 keyboard and mouse: ports 60h and 64h, IRQ 1 and 12, reset and A20.

One byte at a time stands at port 60h. When it is read the next one follows at once, the controller's own answers before
the keyboard's bytes and those before the mouse's; each makes its own edge. Commands take no time, so IBF is never seen.
Not modelled: the RAM but for its location 0, passwords, parity and time-out errors, what a real controller keeps at
port 60h between two bytes.
Source: IBM PS/2 Hardware Interface Technical Reference, cited as [ibm].
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, sizeof
from enum import IntEnum

from hw.i8042_spec import (
    BREAK_BIT,
    BREAK_PREFIX,
    CTR_RESET,
    CTR_STORED,
    INPUT_PORT,
    LINE_TEST_PASSED,
    OUTPUT_RESET,
    SELF_TEST_PASSED,
    TRANSLATION,
    WITH_PARAMETER,
    Command,
    Ctr,
    OutputPort,
    Status,
)
from hw.ps2_keyboard import Keyboard, KeyboardState
from hw.ps2_mouse import Mouse, MouseState
from hw.wiring import AddressLine20, IrqLine, ResetSwitch


class Source(IntEnum):
    """Whose byte stands at port 60h, or waits to; from the controller itself it passes as one or the other's."""

    NOBODY = 0
    KEYBOARD = 1
    MOUSE = 2


NOBODY, KEYBOARD, MOUSE = int(Source.NOBODY), int(Source.KEYBOARD), int(Source.MOUSE)
KEYBOARD_OFF, MOUSE_OFF, TRANSLATE = int(Ctr.KEYBOARD_OFF), int(Ctr.MOUSE_OFF), int(Ctr.TRANSLATE)


class I8042State(LittleEndianStructure):
    """All guest-visible state, both devices' too. `parameter_of`: a command that waits for its byte, or 0."""

    _fields_ = [
        ("ctr", c_uint8),
        ("output_port", c_uint8),
        ("data", c_uint8),
        ("source", c_uint8),
        ("reply", c_uint8),
        ("reply_source", c_uint8),
        ("parameter_of", c_uint8),
        ("last_was_command", c_uint8),
        ("breaking", c_uint8),
        ("reserved", c_uint8 * 7),
        ("keyboard", KeyboardState),
        ("mouse", MouseState),
    ]


assert sizeof(I8042State) == 16 + sizeof(KeyboardState) + sizeof(MouseState)


class I8042:
    """The controller. `key` and `move` are the host's. `data_port` and `command_port` go on the bus."""

    State = I8042State

    def __init__(
        self, state: I8042State, keyboard_irq: IrqLine, mouse_irq: IrqLine, a20: AddressLine20, switch: ResetSwitch
    ) -> None:
        self.state, self.a20, self.switch = state, a20, switch
        self.keyboard_irq, self.mouse_irq = keyboard_irq, mouse_irq
        self.keyboard, self.mouse = Keyboard(state.keyboard), Mouse(state.mouse)
        self.data_port, self.command_port = DataPort(self), CommandPort(self)
        self._commands: dict[int, Callable[[], None]] = {
            Command.READ_CTR: lambda: self._reply(state.ctr),
            Command.MOUSE_OFF: lambda: self._set_ctr(state.ctr | MOUSE_OFF),
            Command.MOUSE_ON: lambda: self._set_ctr(state.ctr & ~MOUSE_OFF),
            Command.TEST_MOUSE: lambda: self._reply(LINE_TEST_PASSED),
            Command.SELF_TEST: self._self_test,
            Command.TEST_KEYBOARD: lambda: self._reply(LINE_TEST_PASSED),
            Command.KEYBOARD_OFF: lambda: self._set_ctr(state.ctr | KEYBOARD_OFF),
            Command.KEYBOARD_ON: lambda: self._set_ctr(state.ctr & ~KEYBOARD_OFF),
            Command.READ_INPUT_PORT: lambda: self._reply(INPUT_PORT),
            Command.READ_OUTPUT_PORT: self._read_output_port,
            Command.A20_OFF: lambda: self._set_output_port(state.output_port & ~int(OutputPort.A20)),
            Command.A20_ON: lambda: self._set_output_port(state.output_port | OutputPort.A20),
            **dict.fromkeys(range(Command.PULSE, 0x100, 2), switch.reset_processor),
        }

    def reset(self) -> None:
        """RESET#. Keyboard and mouse are powered on with it."""
        s = self.state
        s.ctr, s.output_port = int(CTR_RESET), int(OUTPUT_RESET)
        s.data = s.source = s.reply = s.reply_source = s.parameter_of = s.last_was_command = s.breaking = 0
        self.keyboard.reset()
        self.mouse.reset()
        self.sync()

    # from the host

    def key(self, code: int, pressed: bool) -> bool:
        """A key by its set 1 make code (E0xxh: extended). False: lost."""
        taken = self.keyboard.key(code, pressed)
        self._settle()
        return taken

    def move(self, right: int, up: int, wheel: int, buttons: int) -> None:
        """The mouse moves; `buttons` as in its packets."""
        self.mouse.move(right, up, wheel, buttons)
        self._settle()

    # from the guest

    def read_data(self) -> int:
        """Reading takes the byte away: the interrupt falls before the next byte raises it."""
        s = self.state
        byte = int(s.data)
        if s.source:
            s.source = NOBODY
            self._drive_lines()
            self._settle()
        return byte

    def read_status(self) -> int:
        s = self.state
        status = int(Status.UNLOCKED) | (Status.COMMAND if s.last_was_command else 0) | s.ctr & Status.SYS
        if s.source:
            status |= Status.OBF | (Status.AUX if s.source == MOUSE else 0)
        return int(status)

    def write_command(self, command: int) -> None:
        s = self.state
        s.last_was_command, s.parameter_of = 1, command if command in WITH_PARAMETER else 0
        if (handler := self._commands.get(command)) is not None:
            handler()
        self._settle()

    def write_data(self, byte: int) -> None:
        """The byte that a command waits for; or the keyboard's, whose clock this turns on. [ibm]"""
        s = self.state
        command, s.parameter_of, s.last_was_command = s.parameter_of, 0, 0
        if command == Command.WRITE_CTR:
            self._set_ctr(byte)
        elif command == Command.WRITE_OUTPUT_PORT:
            self._set_output_port(byte)
        elif command == Command.WRITE_KEYBOARD_DATA:
            self._reply(byte)
        elif command == Command.WRITE_MOUSE_DATA:
            self._reply(byte, MOUSE)
        elif command == Command.WRITE_TO_MOUSE:
            s.ctr &= ~MOUSE_OFF & 0xFF
            self.mouse.receive(byte)
        else:
            s.ctr &= ~KEYBOARD_OFF & 0xFF
            self.keyboard.receive(byte)
        self._settle()

    # commands

    def _reply(self, byte: int, source: int = KEYBOARD) -> None:
        self.state.reply, self.state.reply_source = byte, source

    def _set_ctr(self, value: int) -> None:
        self.state.ctr = value & CTR_STORED

    def _self_test(self) -> None:
        self.state.ctr |= int(Ctr.SYS)
        self._reply(SELF_TEST_PASSED)

    def _read_output_port(self) -> None:
        """Bits 4 and 5 follow the output buffer. [ibm: output port definitions]"""
        s = self.state
        full = {KEYBOARD: int(OutputPort.KEYBOARD_OBF), MOUSE: int(OutputPort.MOUSE_OBF)}
        self._reply(s.output_port | full.get(s.source, 0))

    def _set_output_port(self, value: int) -> None:
        """Bit 0 at 0 holds the processor in reset; it is pulsed, since nothing could end that."""
        s = self.state
        kept = int(OutputPort.KEYBOARD_OBF | OutputPort.MOUSE_OBF)
        s.output_port = (value | OutputPort.NOT_RESET) & ~kept & 0xFF
        self.a20.set_a20(bool(value & OutputPort.A20))
        if not value & OutputPort.NOT_RESET:
            self.switch.reset_processor()

    # bytes

    def _translated(self, byte: int) -> int:
        """A keyboard's byte as set 1. F0h vanishes and marks the code after it."""
        s = self.state
        if not s.ctr & TRANSLATE:
            return byte
        if byte == BREAK_PREFIX and self.keyboard.has_byte():
            s.breaking = 1
            byte = self.keyboard.next_byte()
        code = TRANSLATION[byte] | (BREAK_BIT if s.breaking else 0)
        s.breaking = 0
        return code

    def _fill(self) -> None:
        """Put the next byte at port 60h, if it is free and the clocks run."""
        s = self.state
        if s.source:
            return
        if s.reply_source:
            s.data, s.source = s.reply, s.reply_source
            s.reply_source = NOBODY
        elif not s.ctr & KEYBOARD_OFF and self.keyboard.has_byte():
            s.data, s.source = self._translated(self.keyboard.next_byte()), KEYBOARD
        elif not s.ctr & MOUSE_OFF and self.mouse.has_byte():
            s.data, s.source = self.mouse.next_byte(), MOUSE

    def _drive_lines(self) -> None:
        s = self.state
        self.keyboard_irq.set_level(bool(s.source and s.source != MOUSE and s.ctr & Ctr.KEYBOARD_IRQ))
        self.mouse_irq.set_level(bool(s.source == MOUSE and s.ctr & Ctr.MOUSE_IRQ))

    def _settle(self) -> None:
        self._fill()
        self._drive_lines()

    def sync(self) -> None:
        """The next byte, the interrupts, address line 20."""
        self.a20.set_a20(bool(self.state.output_port & OutputPort.A20))
        self._settle()


class DataPort:
    """Port 60h."""

    def __init__(self, chip: I8042) -> None:
        self.chip = chip

    def port_read(self, offset: int, width: int) -> int:
        return self.chip.read_data()

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.chip.write_data(value)


class CommandPort:
    """Port 64h."""

    def __init__(self, chip: I8042) -> None:
        self.chip = chip

    def port_read(self, offset: int, width: int) -> int:
        return self.chip.read_status()

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.chip.write_command(value)
