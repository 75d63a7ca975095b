"""A PS/2 mouse with three buttons and a wheel (IntelliMouse, identity 3 after the driver's knock).

Movement is counted until a packet has room to go out; what one packet cannot hold follows in the next. A packet is
made when something has changed, at whatever rate: the sampling rate is stored. Answers to commands go before packets.
Not modelled: scaling 2:1 beyond its status bit, the five-button protocol.
Source: IBM PS/2 Hardware Interface Technical Reference, "Mouse", cited as [ibm]; Microsoft's wheel protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_int32, c_uint8, sizeof
from enum import IntFlag

ACK, RESEND, ERROR, TEST_PASSED = 0xFA, 0xFE, 0xFC, 0xAA
STANDARD, INTELLIMOUSE = 0x00, 0x03
KNOCK = (200, 100, 80)
WITH_PARAMETER = frozenset({0xE8, 0xF3})
REPLY_BYTES = 8
PACKET_BYTES = 4
RATES = frozenset({10, 20, 40, 60, 80, 100, 200})
DEFAULT_RATE, DEFAULT_RESOLUTION = 100, 2
COUNT_MAX, WHEEL_MAX = 255, 7


class Buttons(IntFlag):
    """First byte of a packet, bits 2:0."""

    LEFT = 1 << 0
    RIGHT = 1 << 1
    MIDDLE = 1 << 2


PACKET_ALWAYS, X_SIGN, Y_SIGN = 1 << 3, 1 << 4, 1 << 5
STATUS_SCALING, STATUS_ENABLED, STATUS_REMOTE = 1 << 4, 1 << 5, 1 << 6


class MouseState(LittleEndianStructure):
    """All guest-visible state. x, y, wheel: movement not yet reported; `sent_buttons`: as last reported."""

    _fields_ = [
        ("x", c_int32),
        ("y", c_int32),
        ("wheel", c_int32),
        ("identity", c_uint8),
        ("enabled", c_uint8),
        ("remote", c_uint8),
        ("wrap", c_uint8),
        ("scaling", c_uint8),
        ("resolution", c_uint8),
        ("rate", c_uint8),
        ("buttons", c_uint8),
        ("sent_buttons", c_uint8),
        ("knock", c_uint8 * 3),
        ("parameter_of", c_uint8),
        ("last", c_uint8),
        ("reply_count", c_uint8),
        ("packet_count", c_uint8),
        ("replies", c_uint8 * REPLY_BYTES),
        ("packet", c_uint8 * PACKET_BYTES),
    ]


assert sizeof(MouseState) == 40


class Mouse:
    """The mouse. The controller moves its bytes."""

    def __init__(self, state: MouseState) -> None:
        self.state = state
        self._commands: dict[int, Callable[[], None]] = {
            0xE6: lambda: self._set("scaling", 0),
            0xE7: lambda: self._set("scaling", 1),
            0xE8: lambda: self._answer(ACK),
            0xE9: self._status,
            0xEA: lambda: self._set("remote", 0),
            0xEB: self._read_data,
            0xEC: lambda: self._set("wrap", 0),
            0xEE: lambda: self._set("wrap", 1),
            0xF0: lambda: self._set("remote", 1),
            0xF2: lambda: self._answer(ACK, self.state.identity),
            0xF3: lambda: self._answer(ACK),
            0xF4: lambda: self._set("enabled", 1),
            0xF5: lambda: self._set("enabled", 0),
            0xF6: self._set_defaults,
            0xFE: lambda: self._answer(self.state.last),
            0xFF: self._power_on_test,
        }

    def reset(self) -> None:
        """Power-on."""
        s = self.state
        s.identity = STANDARD
        s.knock[:] = [0, 0, 0]
        s.wrap = s.parameter_of = s.last = s.reply_count = s.buttons = 0
        self._defaults()

    # from the host

    def move(self, right: int, up: int, wheel: int, buttons: int) -> None:
        """Counts of movement (`wheel`: towards the user), and the buttons that are down."""
        s = self.state
        s.x, s.y, s.wheel = bounded(s.x + right), bounded(s.y + up), bounded(s.wheel + wheel)
        s.buttons = buttons & 7

    # from the controller

    def has_byte(self) -> bool:
        s = self.state
        if not s.reply_count and not s.packet_count and s.enabled and not s.remote and not s.wrap and self._changed():
            self._make_packet()
        return bool(s.reply_count or s.packet_count)

    def next_byte(self) -> int:
        s = self.state
        if s.reply_count:
            count, s.reply_count = min(s.reply_count, REPLY_BYTES), min(s.reply_count, REPLY_BYTES) - 1
            byte = int(s.replies[0])
            s.replies[: count - 1] = s.replies[1:count]
        else:
            count, s.packet_count = min(s.packet_count, PACKET_BYTES), min(s.packet_count, PACKET_BYTES) - 1
            byte = int(s.packet[0])
            s.packet[: count - 1] = s.packet[1:count]
        s.last = byte
        return byte

    def receive(self, byte: int) -> None:
        """A command ends the packet that was going out. In wrap mode all but FFh and ECh come back. [ibm]"""
        s = self.state
        command, s.parameter_of = s.parameter_of, 0
        s.reply_count = s.packet_count = 0
        if s.wrap and byte not in (0xFF, 0xEC):
            self._answer(byte)
        elif command:
            self._parameter(command, byte)
        else:
            s.parameter_of = byte if byte in WITH_PARAMETER else 0
            self._commands.get(byte, lambda: self._answer(RESEND))()

    # packets

    def _changed(self) -> bool:
        s = self.state
        return bool(s.x or s.y or s.buttons != s.sent_buttons or (s.wheel and s.identity == INTELLIMOUSE))

    def _make_packet(self) -> None:
        s = self.state
        x, y = within(s.x, COUNT_MAX), within(s.y, COUNT_MAX)
        first = s.buttons & 7 | PACKET_ALWAYS | (X_SIGN if x < 0 else 0) | (Y_SIGN if y < 0 else 0)
        s.x, s.y, s.sent_buttons = s.x - x, s.y - y, s.buttons
        s.packet[0], s.packet[1], s.packet[2] = first, x & 0xFF, y & 0xFF
        s.packet_count = 3
        if s.identity == INTELLIMOUSE:
            wheel = within(s.wheel, WHEEL_MAX)
            s.packet[3], s.packet_count = wheel & 0xFF, 4
            s.wheel -= wheel
        else:
            s.wheel = 0

    def _forget(self) -> None:
        s = self.state
        s.x = s.y = s.wheel = s.packet_count = 0
        s.sent_buttons = s.buttons

    # commands

    def _answer(self, *replies: int) -> None:
        s = self.state
        for byte in replies:
            if s.reply_count < REPLY_BYTES:
                s.replies[s.reply_count] = byte
                s.reply_count += 1

    def _set(self, name: str, value: int) -> None:
        """A mode; movement counted in another one does not count."""
        setattr(self.state, name, value)
        if name != "scaling":
            self._forget()
        self._answer(ACK)

    def _parameter(self, command: int, byte: int) -> None:
        """Three rates in a row ask for the wheel."""
        s = self.state
        if command == 0xE8 and byte < 4:
            s.resolution = byte
        elif command == 0xF3 and byte in RATES:
            s.rate = byte
            s.knock[:] = [s.knock[1], s.knock[2], byte]
            if tuple(s.knock) == KNOCK:
                s.identity = INTELLIMOUSE
        else:
            self._answer(ERROR)
            return
        self._answer(ACK)

    def _status(self) -> None:
        s = self.state
        buttons = (4 if s.buttons & Buttons.LEFT else 0) | (2 if s.buttons & Buttons.MIDDLE else 0)
        buttons |= 1 if s.buttons & Buttons.RIGHT else 0
        modes = (STATUS_SCALING if s.scaling else 0) | (STATUS_ENABLED if s.enabled else 0)
        self._answer(ACK, buttons | modes | (STATUS_REMOTE if s.remote else 0), s.resolution, s.rate)

    def _read_data(self) -> None:
        s = self.state
        self._make_packet()
        self._answer(ACK, *s.packet[: s.packet_count])
        s.packet_count = 0

    def _defaults(self) -> None:
        s = self.state
        s.enabled = s.remote = s.scaling = 0
        s.rate, s.resolution = DEFAULT_RATE, DEFAULT_RESOLUTION
        self._forget()

    def _set_defaults(self) -> None:
        self._defaults()
        self._answer(ACK)

    def _power_on_test(self) -> None:
        buttons = self.state.buttons
        self.reset()
        self.state.buttons = self.state.sent_buttons = buttons
        self._answer(ACK, TEST_PASSED, STANDARD)


def within(value: int, limit: int) -> int:
    return max(-limit, min(limit, value))


def bounded(value: int) -> int:
    """A counter that does not run over while nobody reads it."""
    return within(value, 1 << 16)
