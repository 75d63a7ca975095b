"""One client of the remote screen, without its socket: bytes in, bytes out.

The conversation is written as it goes, each `yield` being the number of bytes that must come next; so a message that
arrives in pieces needs no state of its own, and what is kept of it is bounded. Pictures are sent only on request and
only when what was sent before is on its way: a client that does not read gets no more of them.
Not done: CopyRect and the lossy encodings, a cursor of the client's own, clipboards.
Source: RFC 6143, cited as [7.x]; rfbproto for the QEMU key event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from ctypes import BigEndianStructure, sizeof
from typing import Any, NamedTuple, Protocol

import numpy as np

from hw.ps2_mouse import Buttons
from ringfence.errors import BadInput
from vmx.keys import KeysymKeyboard, key_of_xt_code
from vmx.keys_spec import KeyCode
from vmx.rfb_auth import is_right
from vmx.rfb_encodings import encoders
from vmx.rfb_frame import SQUARE, Area, Frame, Grid, areas_of, grid_shape, intersection, squares_touched, union
from vmx.rfb_pixels import NATIVE, Translator, colour_map
from vmx.rfb_spec import (
    CHALLENGE_BYTES,
    PICTURE_ENCODINGS,
    RESULT_FAILED,
    RESULT_OK,
    VERSION_3_3,
    VERSION_3_7,
    VERSION_3_8,
    VERSION_BYTES,
    CutText,
    Encoding,
    FromClient,
    FromServer,
    KeyEvent,
    PointerButton,
    PointerEvent,
    QemuKeyEvent,
    QemuMessage,
    Rectangle,
    SecurityType,
    ServerInit,
    SetEncodings,
    SetPixelFormat,
    Update,
    UpdateRequest,
)

VERSION = re.compile(rb"RFB (\d{3})\.(\d{3})\n")
ENCODINGS_MAX = 1024
CUT_TEXT_MAX = 1 << 24
CHUNK_BYTES = 4096
KNOWN_ENCODINGS = frozenset(int(encoding) for encoding in Encoding)

PLACES = 0xFFFF  # the last place of the pointer in either direction
Talk = Generator[int, bytes, None]


class InputSink(Protocol):
    """Where keys and movement go. The machine's lock is not held."""

    def key(self, code: KeyCode, down: bool) -> None: ...

    def pointer(self, dx: int, dy: int, dz: int, buttons: int, at: tuple[int, int] | None = None) -> None:
        """Counts to the right, down and towards the user; `buttons` as hw.ps2_mouse.Buttons.

        `at`: where that leads, 0 to FFFFh across the screen and down.
        """

    def caps_lock(self) -> bool:
        """Whether the guest has it on."""


class Desktop(NamedTuple):
    """What all clients of one machine share. `password` is None when none is asked for."""

    name: str
    password: bytes | None
    frame: Frame
    input: InputSink


class RfbSession:
    """One client. `outgoing` is what is to be sent; `ending`, once set, says why it is to be closed after that."""

    def __init__(self, desktop: Desktop, where: str, challenge: bytes, refusal: str = "") -> None:
        self._desktop, self._where, self._challenge, self._refusal = desktop, where, challenge, refusal
        self.outgoing = bytearray()
        self.ending = ""
        self.version = VERSION_3_3
        self.is_ready = self.is_exclusive = self.gave_wrong_password = False
        self._keyboard = KeysymKeyboard(desktop.input.key, desktop.input.caps_lock)
        self._pointer: tuple[int, int] | None = None
        self._buttons = 0
        self._size = desktop.frame.size
        self._dirty: Grid = np.ones(grid_shape(*self._size), dtype=bool)
        self._requested: Area | None = None
        self._form = Translator(NATIVE, where)
        self._encoders = encoders()
        self._encoding = Encoding.RAW
        self._known: set[int] = set()
        self._owes_colour_map = self._owes_key_event = False
        self._arrived = bytearray()
        self._talk = self._conversation()
        self._needed = next(self._talk)

    def received(self, data: bytes) -> None:
        """From the client. Raises BadInput for what no client sends: the connection is of no use then."""
        if self.ending:
            return
        self._arrived += data
        while len(self._arrived) >= self._needed and not self.ending:
            piece = bytes(self._arrived[: self._needed])
            del self._arrived[: self._needed]
            self._needed = self._talk.send(piece)

    def closed(self) -> None:
        """Let go of what the client still holds down."""
        self._keyboard.release_all()
        if self._buttons:
            self._desktop.input.pointer(0, 0, 0, 0)

    # the beginning

    def _conversation(self) -> Talk:
        self.outgoing += b"RFB 003.008\n"
        self.version = self._parse_version((yield VERSION_BYTES))
        yield from self._security()
        self.is_exclusive = (yield 1) == b"\0"
        self._size = self._desktop.frame.size
        name = self._desktop.name.encode()
        self.outgoing += bytes(ServerInit(*self._size, NATIVE, len(name))) + name
        self._dirty = np.ones(grid_shape(*self._size), dtype=bool)
        self.is_ready = True
        while True:
            first = yield 1
            if first[0] not in MESSAGES:
                raise BadInput(self._where, "message", "a type of RFC 6143", str(first[0]))
            kind, handle = MESSAGES[first[0]]
            more = handle(self, kind.from_buffer_copy(first + (yield sizeof(kind) - 1)))
            if more is not None:
                yield from more

    def _parse_version(self, line: bytes) -> tuple[int, int]:
        """Any other 3.x below 3.7 is 3.3 [7.1.1]; what is later than 3.8 must know 3.8."""
        match = VERSION.fullmatch(line)
        if match is None or (version := (int(match[1]), int(match[2]))) < VERSION_3_3:
            raise BadInput(self._where, "protocol version", "RFB 003.003 or later", repr(line))
        return min(version, VERSION_3_8) if version >= VERSION_3_7 else VERSION_3_3

    def _security(self) -> Talk:
        """[7.1.2, 7.1.3]: before 3.7 the server decides; a reason is given from 3.8 on."""
        kind = SecurityType.NONE if self._desktop.password is None else SecurityType.VNC
        decides = self.version == VERSION_3_3
        if self._refusal:
            self.outgoing += number(SecurityType.INVALID) if decides else bytes((0,))
            self.outgoing += counted(self._refusal)
            self.ending = self._refusal
            yield 1
        if decides:
            self.outgoing += number(kind)
        else:
            self.outgoing += bytes((1, kind))
            if (chosen := (yield 1)[0]) != kind:
                raise BadInput(self._where, "security type", str(int(kind)), str(chosen))
        if self._desktop.password is not None:
            self.outgoing += self._challenge
            if not is_right((yield CHALLENGE_BYTES), self._challenge, self._desktop.password):
                self._end_wrong_password()
                yield 1
        if kind is SecurityType.VNC or self.version == VERSION_3_8:
            self.outgoing += number(RESULT_OK)

    def _end_wrong_password(self) -> None:
        self.gave_wrong_password = True
        self.outgoing += number(RESULT_FAILED)
        if self.version == VERSION_3_8:
            self.outgoing += counted("The password is wrong")
        self.ending = "the password is wrong"

    # messages

    def _set_pixel_format(self, message: SetPixelFormat) -> None:
        self._form = Translator(message.format, self._where)
        self._owes_colour_map = self._form.has_map

    def _set_encodings(self, message: SetEncodings) -> Talk:
        """The first that is known here: they come in order of preference. [7.5.2]"""
        if message.count > ENCODINGS_MAX:
            raise BadInput(self._where, "number of encodings", f"at most {ENCODINGS_MAX}", str(message.count))
        named = np.frombuffer((yield 4 * message.count), dtype=">i4").tolist()
        self._encoding = next((Encoding(word) for word in named if word in PICTURE_ENCODINGS), Encoding.RAW)
        before, self._known = self._known, set(named) & KNOWN_ENCODINGS
        self._owes_key_event |= Encoding.QEMU_EXTENDED_KEY in self._known - before

    def _update_request(self, message: UpdateRequest) -> None:
        """What is wanted by requests that were not answered yet is answered at once. [7.5.3]"""
        area = intersection((message.x, message.y, message.width, message.height), (0, 0, *self._size))
        if not area[2] or not area[3]:
            return
        if not message.incremental:
            self._dirty[squares_touched(area, self._dirty)] = True
        self._requested = area if self._requested is None else union(self._requested, area)

    def _key_event(self, message: KeyEvent) -> None:
        self._keyboard.keysym(message.keysym, bool(message.down))

    def _qemu(self, message: QemuKeyEvent) -> None:
        if message.subtype != QemuMessage.EXTENDED_KEY:
            raise BadInput(self._where, "QEMU message", str(int(QemuMessage.EXTENDED_KEY)), str(message.subtype))
        code = key_of_xt_code(message.xt_code)
        if code is None:
            self._keyboard.keysym(message.keysym, bool(message.down))
        else:
            self._keyboard.key(code, bool(message.down))

    def _pointer_event(self, message: PointerEvent) -> None:
        """A mouse has no place, only movement: the first event says where it begins."""
        x, y, buttons = message.x, message.y, message.buttons
        old_x, old_y = self._pointer or (x, y)
        pressed = buttons & ~self._buttons
        wheel = bool(pressed & PointerButton.WHEEL_DOWN) - bool(pressed & PointerButton.WHEEL_UP)
        held = mouse_buttons(buttons)
        if (x, y) != (old_x, old_y) or wheel or held != mouse_buttons(self._buttons):
            width, height = self._size
            at = PLACES * x // max(1, width - 1), PLACES * y // max(1, height - 1)
            self._desktop.input.pointer(x - old_x, y - old_y, wheel, held, (min(at[0], PLACES), min(at[1], PLACES)))
        self._pointer, self._buttons = (x, y), buttons

    def _cut_text(self, message: CutText) -> Talk:
        left = message.length
        if left > CUT_TEXT_MAX:
            raise BadInput(self._where, "clipboard", f"at most {CUT_TEXT_MAX} bytes", str(left))
        while left:
            left -= len((yield min(left, CHUNK_BYTES)))

    # pictures

    def frame_changed(self) -> None:
        """After a poll of the frame."""
        frame = self._desktop.frame
        if frame.resized:
            self._dirty[:] = True
            return
        rows, columns = np.minimum(self._dirty.shape, frame.changed.shape)
        self._dirty[:rows, :columns] |= frame.changed[:rows, :columns]

    def wants_picture(self) -> bool:
        """It has asked for one and read what it got before."""
        return self._requested is not None and not self.outgoing and not self.ending

    def send_picture(self) -> None:
        """Answer the request, if there is something to tell."""
        assert self._requested is not None
        rectangles: list[bytes] = []
        if self._owes_key_event:
            self._owes_key_event = False
            rectangles.append(bytes(Rectangle(0, 0, 0, 0, Encoding.QEMU_EXTENDED_KEY)))
        if self._desktop.frame.size != self._size and Encoding.DESKTOP_SIZE in self._known:
            self._size = self._desktop.frame.size
            self._dirty = np.ones(grid_shape(*self._size), dtype=bool)
            rectangles.append(bytes(Rectangle(0, 0, *self._size, Encoding.DESKTOP_SIZE)))  # the last one: [7.8.2]
        else:
            rectangles += [self._encoded(area) for area in self._areas_to_send(self._requested)]
        if not rectangles:
            return
        self._requested = None
        if self._owes_colour_map:
            self._owes_colour_map = False
            self.outgoing += colour_map()
        self.outgoing += bytes(Update(FromServer.UPDATE, 0, len(rectangles)))
        for rectangle in rectangles:
            self.outgoing += rectangle

    def _areas_to_send(self, requested: Area) -> list[Area]:
        """Squares that the request has only a part of stay marked."""
        wanted = np.zeros_like(self._dirty)
        rows, columns = squares_touched(requested, self._dirty)
        wanted[rows, columns] = self._dirty[rows, columns]
        x, y, width, height = requested
        right, bottom = x + width, y + height
        whole_columns = slice(-(-x // SQUARE), columns.stop if right == self._size[0] else right // SQUARE)
        whole_rows = slice(-(-y // SQUARE), rows.stop if bottom == self._size[1] else bottom // SQUARE)
        self._dirty[whole_rows, whole_columns] = False
        return [intersection(area, requested) for area in areas_of(wanted)]

    def _encoded(self, area: Area) -> bytes:
        values = self._form(self._desktop.frame.cut(area))
        return bytes(Rectangle(*area, self._encoding)) + self._encoders[self._encoding](values, self._form)


MESSAGES: dict[int, tuple[type[BigEndianStructure], Callable[[RfbSession, Any], Talk | None]]] = {
    FromClient.SET_PIXEL_FORMAT: (SetPixelFormat, RfbSession._set_pixel_format),
    FromClient.SET_ENCODINGS: (SetEncodings, RfbSession._set_encodings),
    FromClient.UPDATE_REQUEST: (UpdateRequest, RfbSession._update_request),
    FromClient.KEY_EVENT: (KeyEvent, RfbSession._key_event),
    FromClient.POINTER_EVENT: (PointerEvent, RfbSession._pointer_event),
    FromClient.CUT_TEXT: (CutText, RfbSession._cut_text),
    FromClient.QEMU: (QemuKeyEvent, RfbSession._qemu),
}
assert MESSAGES.keys() == set(FromClient)


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def counted(text: str) -> bytes:
    data = text.encode()
    return number(len(data)) + data


def mouse_buttons(pointer_buttons: int) -> int:
    """A pointer event's buttons as the mouse has them: the middle one is another bit."""
    held = Buttons(0)
    for bit, button in ((PointerButton.LEFT, Buttons.LEFT), (PointerButton.MIDDLE, Buttons.MIDDLE),
                        (PointerButton.RIGHT, Buttons.RIGHT)):  # fmt: skip
        if pointer_buttons & bit:
            held |= button
    return int(held)
