"""The remote framebuffer protocol: versions, messages, encodings, layouts; no behaviour.

Everything is big-endian. `type` bytes come first in a message; the structures here include them.
Source: RFC 6143, "The Remote Framebuffer Protocol"; for the QEMU key event and encoding 6, the registry and text of the
community's "The RFB Protocol" (rfbproto).
"""

from ctypes import BigEndianStructure, c_int32, c_uint8, c_uint16, c_uint32, sizeof
from enum import IntEnum

VERSION_BYTES = 12
VERSION_3_3, VERSION_3_7, VERSION_3_8 = (3, 3), (3, 7), (3, 8)
CHALLENGE_BYTES = 16
PASSWORD_BYTES = 8
RESULT_OK, RESULT_FAILED = 0, 1


class SecurityType(IntEnum):
    """How the client shows who it is. 7.1.2."""

    INVALID = 0
    NONE = 1
    VNC = 2


class FromClient(IntEnum):
    """Message types. 7.5."""

    SET_PIXEL_FORMAT = 0
    SET_ENCODINGS = 2
    UPDATE_REQUEST = 3
    KEY_EVENT = 4
    POINTER_EVENT = 5
    CUT_TEXT = 6
    QEMU = 255


class FromServer(IntEnum):
    """Message types. 7.6."""

    UPDATE = 0
    SET_COLOUR_MAP = 1


class QemuMessage(IntEnum):
    """Second byte of a QEMU message."""

    EXTENDED_KEY = 0


class Encoding(IntEnum):
    """7.7 and 7.8; what else a client names is not known here."""

    RAW = 0
    ZLIB = 6
    ZRLE = 16
    DESKTOP_SIZE = -223
    QEMU_EXTENDED_KEY = -258


PICTURE_ENCODINGS = frozenset({Encoding.RAW, Encoding.ZLIB, Encoding.ZRLE})


class PixelFormat(BigEndianStructure):
    """7.4."""

    _pack_ = 1
    _fields_ = [
        ("bits_per_pixel", c_uint8),
        ("depth", c_uint8),
        ("big_endian", c_uint8),
        ("true_colour", c_uint8),
        ("red_max", c_uint16),
        ("green_max", c_uint16),
        ("blue_max", c_uint16),
        ("red_shift", c_uint8),
        ("green_shift", c_uint8),
        ("blue_shift", c_uint8),
        ("padding", c_uint8 * 3),
    ]


class ServerInit(BigEndianStructure):
    """7.3.2; the name follows."""

    _pack_ = 1
    _fields_ = [("width", c_uint16), ("height", c_uint16), ("format", PixelFormat), ("name_bytes", c_uint32)]


class SetPixelFormat(BigEndianStructure):
    """7.5.1."""

    _pack_ = 1
    _fields_ = [("type", c_uint8), ("padding", c_uint8 * 3), ("format", PixelFormat)]


class SetEncodings(BigEndianStructure):
    """7.5.2; `count` signed 32-bit numbers follow."""

    _pack_ = 1
    _fields_ = [("type", c_uint8), ("padding", c_uint8), ("count", c_uint16)]


class UpdateRequest(BigEndianStructure):
    """7.5.3."""

    _pack_ = 1
    _fields_ = [
        ("type", c_uint8),
        ("incremental", c_uint8),
        ("x", c_uint16),
        ("y", c_uint16),
        ("width", c_uint16),
        ("height", c_uint16),
    ]


class KeyEvent(BigEndianStructure):
    """7.5.4."""

    _pack_ = 1
    _fields_ = [("type", c_uint8), ("down", c_uint8), ("padding", c_uint16), ("keysym", c_uint32)]


class PointerEvent(BigEndianStructure):
    """7.5.5."""

    _pack_ = 1
    _fields_ = [("type", c_uint8), ("buttons", c_uint8), ("x", c_uint16), ("y", c_uint16)]


class CutText(BigEndianStructure):
    """7.5.6; `length` bytes follow."""

    _pack_ = 1
    _fields_ = [("type", c_uint8), ("padding", c_uint8 * 3), ("length", c_uint32)]


class QemuKeyEvent(BigEndianStructure):
    """[rfbproto: QEMU Extended Key Event Message]."""

    _pack_ = 1
    _fields_ = [
        ("type", c_uint8),
        ("subtype", c_uint8),
        ("down", c_uint16),
        ("keysym", c_uint32),
        ("xt_code", c_uint32),
    ]


class Update(BigEndianStructure):
    """7.6.1; `count` rectangles follow."""

    _pack_ = 1
    _fields_ = [("type", c_uint8), ("padding", c_uint8), ("count", c_uint16)]


class Rectangle(BigEndianStructure):
    """7.6.1; what the encoding says follows."""

    _pack_ = 1
    _fields_ = [
        ("x", c_uint16),
        ("y", c_uint16),
        ("width", c_uint16),
        ("height", c_uint16),
        ("encoding", c_int32),
    ]


class SetColourMap(BigEndianStructure):
    """7.6.2; `count` times red, green, blue, 16 bits each, follow."""

    _pack_ = 1
    _fields_ = [("type", c_uint8), ("padding", c_uint8), ("first", c_uint16), ("count", c_uint16)]


SIZES = {PixelFormat: 16, ServerInit: 24, SetPixelFormat: 20, SetEncodings: 4, UpdateRequest: 10, KeyEvent: 8,
         PointerEvent: 6, CutText: 8, QemuKeyEvent: 12, Update: 4, Rectangle: 12, SetColourMap: 6}  # fmt: skip
assert all(sizeof(kind) == size for kind, size in SIZES.items())


class PointerButton(IntEnum):
    """Bits of a pointer event: 7.5.5. The wheel is a button that is pressed and let go."""

    LEFT = 1 << 0
    MIDDLE = 1 << 1
    RIGHT = 1 << 2
    WHEEL_UP = 1 << 3
    WHEEL_DOWN = 1 << 4


# ZRLE: 7.7.6.
TILE = 64
SOLID_TILE = 1
PALETTE_MAX = 16
