"""The backdoor's clipboard: one text, which the host and the guest both set and both read.

A side that sends announces the length and then hands over four bytes at a time; the text counts once it is complete.
Reading the length also goes back to the beginning.
Not modelled: formats other than bytes of text, and any clipboard beyond the machine's own.
Source: open-vm-tools 2008.02.13, lib/guestApp (GuestApp_GetHostSelectionLen and the functions after it).
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, c_uint32, sizeof

from hw.backdoor_spec import PIECE_BYTES, SELECTION_BYTES_MAX, SELECTION_NOT_READY

BUFFER_BYTES = 1 << 16
assert BUFFER_BYTES >= SELECTION_BYTES_MAX + PIECE_BYTES


class ClipboardState(LittleEndianStructure):
    """All guest-visible state: `length` bytes of text, of which `stored` have arrived and `taken` been read."""

    _fields_ = [
        ("length", c_uint32),
        ("stored", c_uint32),
        ("taken", c_uint32),
        ("present", c_uint32),
        ("text", c_uint8 * BUFFER_BYTES),
    ]


assert sizeof(ClipboardState) == 16 + BUFFER_BYTES


class Clipboard:
    """Behind commands 6 to 9. `set_text` and `text` are the host's."""

    def __init__(self, state: ClipboardState) -> None:
        self.state = state
        self._text = memoryview(state.text).cast("B")

    def reset(self) -> None:
        s = self.state
        s.length = s.stored = s.taken = s.present = 0
        self._text[:] = bytes(BUFFER_BYTES)

    # from the host

    def set_text(self, text: bytes) -> None:
        """The host's selection; what is longer than a guest accepts is cut."""
        text = text[:SELECTION_BYTES_MAX]
        self.expect(len(text))
        self._text[: len(text)] = text
        self.state.stored = len(text)

    def text(self) -> bytes | None:
        """What was last set, by either side; None: nothing, or not all of it yet."""
        return bytes(self._text[: self._length()]) if self._complete() else None

    # from the guest

    def length(self) -> int:
        """Of the text, in bytes."""
        self.state.taken = 0
        return self._length() if self._complete() else SELECTION_NOT_READY

    def next_piece(self) -> int:
        """The next four bytes; zeros beyond the end."""
        s = self.state
        if not self._complete() or s.taken >= self._length():
            return 0
        piece = bytes(self._text[s.taken : min(s.taken + PIECE_BYTES, self._length())])
        s.taken += PIECE_BYTES
        return int.from_bytes(piece, "little")

    def expect(self, length: int) -> None:
        """The guest will send so many bytes. Of more than the most allowed only that much is kept."""
        s = self.state
        s.present, s.length, s.stored, s.taken = 1, min(length, SELECTION_BYTES_MAX), 0, 0

    def add_piece(self, piece: int) -> None:
        """Four more bytes from the guest; unasked for, they are lost."""
        s = self.state
        if s.present and s.stored < self._length():
            self._text[s.stored : s.stored + PIECE_BYTES] = piece.to_bytes(PIECE_BYTES, "little")
            s.stored = min(s.stored + PIECE_BYTES, self._length())

    def _length(self) -> int:
        return min(int(self.state.length), SELECTION_BYTES_MAX)

    def _complete(self) -> bool:
        return bool(self.state.present) and self.state.stored >= self._length()
