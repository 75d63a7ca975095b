"""GDB's remote protocol on the wire: `$data#checksum`, acknowledgements, escapes, and the interrupt character.

Nothing that arrives can raise: what is no packet is dropped, what is damaged asks for itself again.
Source: Debugging with GDB, appendix E, "Overview", "Packet Acknowledgment", "Binary Data", "Interrupts".
"""

from __future__ import annotations

from enum import Enum

PACKET_BYTES_MAX = 0x4000
START, END, ESCAPE, INTERRUPT_BYTE = b"$"[0], b"#"[0], b"}"[0], 0x03
ESCAPE_XOR = 0x20
NEEDS_ESCAPE = frozenset(b"$#}*")


class Signal(Enum):
    """What arrives beside packets."""

    INTERRUPT = "^C"
    RESEND = "-"
    DAMAGED = "a packet with a wrong checksum"
    TOO_LONG = "a packet beyond PacketSize"


class _Want(Enum):
    START = 0
    DATA = 1
    SUM_HIGH = 2
    SUM_LOW = 3


class PacketReader:
    """Cuts a stream into packets. The data of a packet is given with escapes undone."""

    def __init__(self) -> None:
        self._want = _Want.START
        self._data = bytearray()
        self._digits = bytearray()
        self._too_long = False

    def feed(self, stream: bytes) -> list[bytes | Signal]:
        """What these bytes complete, in order."""
        found: list[bytes | Signal] = []
        for byte in stream:
            event = self._step(byte)
            if event is not None:
                found.append(event)
        return found

    def _step(self, byte: int) -> bytes | Signal | None:
        if self._want is _Want.START:
            if byte == START:
                self._begin()
            return {INTERRUPT_BYTE: Signal.INTERRUPT, b"-"[0]: Signal.RESEND}.get(byte)
        if self._want is _Want.DATA:
            if byte == START:  # the end of the packet before was lost
                self._begin()
            elif byte == END:
                self._want = _Want.SUM_HIGH
            elif len(self._data) < PACKET_BYTES_MAX:
                self._data.append(byte)
            else:
                self._too_long = True
            return None
        self._digits.append(byte)
        if self._want is _Want.SUM_HIGH:
            self._want = _Want.SUM_LOW
            return None
        self._want = _Want.START
        return self._finish()

    def _begin(self) -> None:
        self._want, self._data, self._digits, self._too_long = _Want.DATA, bytearray(), bytearray(), False

    def _finish(self) -> bytes | Signal:
        if self._too_long:
            return Signal.TOO_LONG
        try:
            wanted = int(bytes(self._digits), 16)
        except ValueError:
            return Signal.DAMAGED
        return unescape(self._data) if wanted == sum(self._data) & 0xFF else Signal.DAMAGED


def frame(data: bytes) -> bytes:
    """A packet for GDB."""
    escaped = bytearray()
    for byte in data:
        escaped += bytes((ESCAPE, byte ^ ESCAPE_XOR)) if byte in NEEDS_ESCAPE else bytes((byte,))
    return b"$%b#%02x" % (bytes(escaped), sum(escaped) & 0xFF)


def unescape(data: bytes | bytearray) -> bytes:
    """A lone escape at the end is dropped."""
    if ESCAPE not in data:
        return bytes(data)
    plain = bytearray()
    escaped = False
    for byte in data:
        if escaped:
            plain.append(byte ^ ESCAPE_XOR)
            escaped = False
        elif byte == ESCAPE:
            escaped = True
        else:
            plain.append(byte)
    return bytes(plain)
