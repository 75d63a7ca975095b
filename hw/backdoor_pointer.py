"""The backdoor's absolute pointer: a queue of words that a guest's driver drains instead of the mouse's bytes.

A packet is four words: flags and buttons, x, y, wheel. The driver learns of it from a PS/2 mouse packet, whose content
it ignores; so whoever calls `point` or `move` also moves the PS/2 mouse when they return True.
A request for more than is queued puts the channel into its error state, from which ENABLE brings it back.
Source: Linux, drivers/input/mouse/vmmouse.c; QEMU, hw/i386/vmmouse.c, for the error state.
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof

from hw.backdoor_spec import (
    PACKET_WORDS,
    POINTER_ERROR,
    POINTER_RANGE,
    POINTER_VERSION,
    POINTER_WORDS_MAX,
    PointerCommand,
    PointerFlags,
)
from hw.ps2_mouse import Buttons

QUEUE_WORDS = 256
BUTTONS = (
    (Buttons.LEFT, PointerFlags.LEFT), (Buttons.RIGHT, PointerFlags.RIGHT), (Buttons.MIDDLE, PointerFlags.MIDDLE),
)  # fmt: skip


class PointerState(LittleEndianStructure):
    """All guest-visible state. The queue holds `count` words, the oldest first."""

    _fields_ = [
        ("count", c_uint16),
        ("enabled", c_uint8),
        ("absolute", c_uint8),
        ("queue", c_uint32 * QUEUE_WORDS),
    ]


assert sizeof(PointerState) == 4 + 4 * QUEUE_WORDS


class AbsolutePointer:
    """The channel behind commands 39 to 41. `point` and `move` are the host's."""

    def __init__(self, state: PointerState) -> None:
        self.state = state

    def reset(self) -> None:
        s = self.state
        s.count = s.enabled = s.absolute = 0
        s.queue[:] = [0] * QUEUE_WORDS

    # from the host

    @property
    def is_absolute(self) -> bool:
        """Does the guest want positions rather than movement?"""
        return bool(self.state.enabled and self.state.absolute)

    def point(self, x: int, y: int, wheel: int, buttons: int) -> bool:
        """The pointer is here (0 to FFFFh across the screen); `wheel` towards the user. False: not wanted, or full."""
        if not self.is_absolute:
            return False
        return self._put(0, within(x, 0, POINTER_RANGE), within(y, 0, POINTER_RANGE), wheel, buttons)

    def move(self, right: int, up: int, wheel: int, buttons: int) -> bool:
        """The pointer has moved by so many counts. False: not wanted, or full."""
        if not self.state.enabled or self.state.absolute:
            return False
        return self._put(int(PointerFlags.RELATIVE), right, up, wheel, buttons)

    def _put(self, flags: int, x: int, y: int, wheel: int, buttons: int) -> bool:
        s = self.state
        if self._count() + PACKET_WORDS > QUEUE_WORDS:
            return False
        flags |= sum(int(flag) for button, flag in BUTTONS if buttons & button)
        at = s.count
        s.queue[at : at + PACKET_WORDS] = [word & 0xFFFFFFFF for word in (flags, x, y, wheel)]
        s.count = at + PACKET_WORDS
        return True

    # from the guest

    def status(self) -> int:
        """How many words wait; with all upper bits set, none can."""
        return self._count() if self.state.enabled else POINTER_ERROR

    def command(self, command: int) -> None:
        """What is not one of the four does nothing."""
        s = self.state
        if command == PointerCommand.ENABLE:
            s.enabled, s.absolute, s.count = 1, 0, 1
            s.queue[0] = POINTER_VERSION
        elif command == PointerCommand.DISABLE:
            s.enabled = s.absolute = s.count = 0
        elif command in (PointerCommand.RELATIVE, PointerCommand.ABSOLUTE):
            s.absolute = int(bool(s.enabled) and command == PointerCommand.ABSOLUTE)

    def take(self, words: int) -> list[int]:
        """The next so many words, off the queue; none, and the error state, when that cannot be."""
        s = self.state
        count = self._count()
        if not s.enabled or not 0 < words <= min(POINTER_WORDS_MAX, count):
            s.enabled = s.absolute = s.count = 0
            return []
        taken = list(s.queue[:words])
        s.count = count - words
        s.queue[: s.count] = s.queue[words:count]
        return taken

    def _count(self) -> int:
        return min(int(self.state.count), QUEUE_WORDS)


def within(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))
