"""The remote screen's protocol without a socket: pixel formats, encodings, requests, and random bytes."""

from __future__ import annotations

import random
import struct
import threading
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ringfence.errors import BadInput
from tests.hw.vga_card import MODES, Card
from tests.vmx.rfb_peer import Input, Picture, mixed_picture
from vmx.keys_spec import KeyCode as K
from vmx.picture import DirtyLog
from vmx.picture import Picture as DisplayPicture
from vmx.rfb_frame import RECTANGLES_MAX, SQUARE, Frame, areas_of
from vmx.rfb_session import Desktop, RfbSession

HELLO = b"RFB 003.008\n\x01\x01"
RAW, ZLIB, ZRLE, DESKTOP_SIZE, QEMU_KEY = 0, 6, 16, -223, -258
Form = tuple[int, int, int, int, int, int, int, int, int, int]

FORMATS: dict[str, Form] = {
    "32 bits, red high": (32, 24, 0, 1, 255, 255, 255, 16, 8, 0),
    "32 bits, red low": (32, 24, 0, 1, 255, 255, 255, 0, 8, 16),
    "32 bits, high three bytes": (32, 24, 0, 1, 255, 255, 255, 24, 16, 8),
    "32 bits, big-endian": (32, 24, 1, 1, 255, 255, 255, 16, 8, 0),
    "32 bits, big-endian, high three bytes": (32, 24, 1, 1, 255, 255, 255, 24, 16, 8),
    "32 bits, depth 32": (32, 32, 0, 1, 255, 255, 255, 16, 8, 0),
    "32 bits, ten a colour": (32, 30, 0, 1, 1023, 1023, 1023, 20, 10, 0),
    "16 bits": (16, 16, 0, 1, 31, 63, 31, 11, 5, 0),
    "16 bits, big-endian": (16, 15, 1, 1, 31, 31, 31, 10, 5, 0),
    "8 bits": (8, 8, 0, 1, 7, 7, 3, 0, 3, 6),
    "8 bits, one colour": (8, 1, 0, 1, 1, 0, 0, 0, 0, 0),
}


class Client:
    """Reads what a session sends, in the format and encodings it has asked for."""

    def __init__(self, picture: Picture) -> None:
        self.picture, self.input = picture, Input()
        self.frame = Frame(picture, picture.lock)
        self.frame.poll()
        self.session = RfbSession(Desktop("m", None, self.frame, self.input), "client", bytes(16))
        self.send(HELLO)
        self.take(len(self.session.outgoing))
        self.form: Form = FORMATS["32 bits, red high"]
        self.map: list[tuple[int, int, int]] = []
        self.size = picture.size()
        self.shown = np.zeros((self.size[1], self.size[0]), np.int64)
        self.streams = {ZLIB: zlib.decompressobj(), ZRLE: zlib.decompressobj()}
        self.areas: list[tuple[int, int, int, int]] = []
        self.names: list[int] = []

    def send(self, data: bytes) -> None:
        self.session.received(data)

    def take(self, count: int) -> bytes:
        data = bytes(self.session.outgoing[:count])
        assert len(data) == count
        del self.session.outgoing[:count]
        return data

    def set_format(self, form: Form) -> None:
        self.send(b"\0\0\0\0" + struct.pack(">BBBBHHHBBB3x", *form))
        self.form = form

    def set_encodings(self, *encodings: int) -> None:
        self.send(struct.pack(f">BxH{len(encodings)}i", 2, len(encodings), *encodings))

    def ask(self, incremental: bool = False, area: tuple[int, int, int, int] | None = None) -> bool:
        """Whether there was an answer."""
        self.send(struct.pack(">BBHHHH", 3, incremental, *(area or (0, 0, *self.size))))
        return self.tick()

    def tick(self) -> bool:
        self.frame.poll()
        self.session.frame_changed()
        if self.session.wants_picture():
            self.session.send_picture()
        if not self.session.outgoing:
            return False
        if self.session.outgoing[0] == 1:
            _, first, count = struct.unpack(">BxHH", self.take(6))
            assert first == 0
            self.map = [tuple(map(int, struct.unpack(">HHH", self.take(6)))) for _ in range(count)]  # type: ignore[misc]
        kind, count = struct.unpack(">BxH", self.take(4))
        assert kind == 0
        self.areas, self.names = [], []
        for _ in range(count):
            *area, encoding = struct.unpack(">HHHHi", self.take(12))
            self.names.append(encoding)
            if encoding == DESKTOP_SIZE:
                self.size = area[2], area[3]
                self.shown = np.zeros((area[3], area[2]), np.int64)
            elif encoding != QEMU_KEY:
                self.areas.append((area[0], area[1], area[2], area[3]))
                self.draw(encoding, *area)
        assert not self.session.outgoing
        return True

    def pixels(self, data: bytes) -> NDArray[np.int64]:
        return np.frombuffer(data, f"{'>' if self.form[2] else '<'}u{self.form[0] // 8}").astype(np.int64)

    def draw(self, encoding: int, x: int, y: int, width: int, height: int) -> None:
        size = self.form[0] // 8
        into = self.shown[y : y + height, x : x + width]
        if encoding == RAW:
            into[:] = self.pixels(self.take(width * height * size)).reshape(height, width)
            return
        stream = self.streams[encoding]
        data = stream.decompress(self.take(struct.unpack(">I", self.take(4))[0]))
        if encoding == ZLIB:
            into[:] = self.pixels(data).reshape(height, width)
            return
        for top in range(0, height, 64):
            for left in range(0, width, 64):
                data = self.tile(data, into[top : top + 64, left : left + 64])
        assert not data

    def tile(self, data: bytes, into: NDArray[np.int64]) -> bytes:
        """RFC 6143, 7.7.5 and 7.7.6, for the tiles without run lengths."""
        (height, width), kind = into.shape, data[0]
        place, size = self.compact()

        def compact_pixels(start: int, count: int) -> NDArray[np.int64]:
            whole = bytearray(count * (self.form[0] // 8))
            for index in range(count):
                at = index * (self.form[0] // 8) + place
                whole[at : at + size] = data[start + index * size :][:size]
            return self.pixels(bytes(whole))

        if kind == 0:
            into[:] = compact_pixels(1, width * height).reshape(height, width)
            return data[1 + width * height * size :]
        palette = compact_pixels(1, kind)
        assert kind <= 16
        if kind == 1:
            into[:] = palette[0]
            return data[1 + size :]
        bits = 1 if kind == 2 else 2 if kind <= 4 else 4
        start, row_bytes = 1 + kind * size, (width * bits + 7) // 8
        for row in range(height):
            line = int.from_bytes(data[start + row * row_bytes :][:row_bytes], "big")
            for column in range(width):
                into[row, column] = palette[line >> (row_bytes * 8 - (column + 1) * bits) & (1 << bits) - 1]
        return data[start + height * row_bytes :]

    def compact(self) -> tuple[int, int]:
        """Which bytes of a pixel a CPIXEL has: the first, and how many."""
        bits, depth, big_endian, true_colour, *places = self.form
        used = 0
        for maximum, shift in zip(places[:3], places[3:], strict=True):
            used |= maximum << shift
        if not true_colour or bits != 32 or depth > 24:
            return 0, bits // 8
        if used < 1 << 24:
            return (1 if big_endian else 0), 3
        if used & 0xFF == 0:
            return (0 if big_endian else 1), 3
        return 0, 4

    def assert_shows(self, picture: NDArray[np.uint8]) -> None:
        if not self.form[3]:
            colours = np.array(self.map)[self.shown] / 257
            assert np.abs(colours - picture).max() <= 0x55 / 2
            return
        for channel in range(3):
            maximum, shift = self.form[4 + channel], self.form[7 + channel]
            if maximum:
                level = self.shown >> shift & maximum
                assert np.abs(level * 255 / maximum - picture[:, :, channel]).max() <= 255 / maximum / 2 + 1e-9


@pytest.mark.parametrize("encoding", [RAW, ZLIB, ZRLE])
@pytest.mark.parametrize("form", FORMATS)
def test_pictures_in_every_format_and_encoding(form: str, encoding: int) -> None:
    picture = Picture(mixed_picture(139, 75))
    client = Client(picture)
    client.set_format(FORMATS[form])
    client.set_encodings(-1000, encoding, RAW)
    assert client.ask()
    assert client.names == [encoding]
    client.assert_shows(picture.pixels)
    picture.put(60, 60, mixed_picture(20, 15, seed=8))
    assert client.ask(incremental=True)
    client.assert_shows(picture.pixels)


def test_a_client_without_true_colour_is_told_the_colours_first() -> None:
    picture = Picture(mixed_picture(70, 20))
    client = Client(picture)
    client.set_format((8, 8, 0, 0, 0, 0, 0, 0, 0, 0))
    client.set_encodings(ZRLE)
    client.ask()
    assert len(client.map) == 252
    client.assert_shows(picture.pixels)


def test_the_colours_of_text_mode_are_exact_in_the_colour_map() -> None:
    levels = np.array([0, 0x55, 0xAA, 0xFF], np.uint8)
    picture = Picture(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(8, 8, 3))
    client = Client(picture)
    client.set_format((8, 8, 0, 0, 0, 0, 0, 0, 0, 0))
    client.ask()
    assert (np.array(client.map)[client.shown] == picture.pixels.astype(int) * 257).all()


def test_a_request_is_answered_once() -> None:
    """Of a size that ends within a square."""
    picture = Picture(mixed_picture(61, 59))
    client = Client(picture)
    assert client.ask()
    assert not client.ask(incremental=True)
    picture.put(0, 0, ~picture.pixels[:1, :1])
    assert client.tick()
    assert client.areas == [(0, 0, SQUARE, SQUARE)]
    picture.put(0, 0, ~picture.pixels[:1, :1])
    assert not client.tick()


def test_what_lies_outside_the_area_asked_for_is_sent_later() -> None:
    picture = Picture(mixed_picture(64, 64))
    client = Client(picture)
    client.ask()
    picture.put(40, 40, ~picture.pixels[40:42, 40:42])
    assert not client.ask(incremental=True, area=(0, 0, 32, 32))
    assert client.ask(incremental=True)
    client.assert_shows(picture.pixels)


@pytest.mark.parametrize("area", [(0, 0, 10, 16), (0, 0, 16, 10), (6, 0, 10, 16), (0, 6, 16, 10)])
def test_part_of_a_square_does_not_lose_the_rest(area: tuple[int, int, int, int]) -> None:
    picture = Picture(mixed_picture(64, 64))
    client = Client(picture)
    client.ask()
    picture.put(0, 0, ~picture.pixels[:16, :16])
    assert client.ask(incremental=True, area=area)
    assert client.areas == [area]
    assert client.ask(incremental=True)
    client.assert_shows(picture.pixels)


def test_areas_beyond_the_screen_are_cut() -> None:
    client = Client(Picture(mixed_picture(70, 50)))
    client.send(struct.pack(">BBHHHH", 3, 0, 65535, 65535, 65535, 65535))
    assert not client.tick()
    assert client.ask(area=(60, 40, 65535, 65535))
    assert client.areas == [(60, 40, 10, 10)]


def test_a_change_of_size_is_told_alone_and_drawn_after() -> None:
    picture = Picture(mixed_picture(64, 64))
    client = Client(picture)
    client.set_encodings(ZRLE, DESKTOP_SIZE)
    client.ask()
    picture.show(mixed_picture(90, 33, seed=2))
    assert client.ask(incremental=True)
    assert (client.names, client.size) == ([DESKTOP_SIZE], (90, 33))
    assert client.ask(incremental=True)
    client.assert_shows(picture.pixels)


def test_key_codes_are_confirmed_once_and_taken() -> None:
    client = Client(Picture(mixed_picture(16, 16)))
    client.set_encodings(RAW, QEMU_KEY)
    assert client.ask(incremental=True)
    assert QEMU_KEY in client.names
    client.set_encodings(RAW, QEMU_KEY)
    client.ask()
    assert QEMU_KEY not in client.names
    for down, keysym, code in ((1, 0, 0x2C), (0, 0, 0x2C), (1, 0, 0xC8), (1, 0, 0xC6), (1, 0x61, 0x7E), (1, 0, 0x1C8)):
        client.send(struct.pack(">BBHII", 255, 0, down, keysym, code))
    assert client.input.keys == [(K.Z, True), (K.Z, False), (K.UP, True), (K.PAUSE, True), (K.A, True)]


def test_the_pointer_moves_by_differences_and_the_wheel_turns() -> None:
    client = Client(Picture(mixed_picture(16, 16)))
    events = [(0, 5, 5), (0, 9, 4), (2, 9, 4), (4, 9, 4), (0, 9, 4), (8, 9, 4), (0, 9, 4), (16, 9, 4)]
    for buttons, x, y in events:
        client.send(struct.pack(">BBHH", 5, buttons, x, y))
    assert client.input.movements == [
        (4, -1, 0, 0), (0, 0, 0, 4), (0, 0, 0, 2), (0, 0, 0, 0), (0, 0, -1, 0), (0, 0, 1, 0),
    ]  # fmt: skip
    assert set(client.input.places) == {(0xFFFF * 9 // 15, 0xFFFF * 4 // 15)}


@pytest.mark.parametrize("mode", [0x03, 0x12, 0x13])
def test_the_display_adapters_picture_is_followed(mode: int) -> None:
    card = Card(framebuffer=1 << 20)
    picture: Any = DisplayPicture(card.vga, DirtyLog(card.dirty))
    picture.lock = threading.Lock()
    client = Client(picture)
    client.set_encodings(ZRLE, DESKTOP_SIZE)
    card.set_mode(MODES[mode])
    card.colours(0, bytes(value & 0x3F for value in range(256 * 3)))
    card.load_font(bytes(code for code in range(256) for _ in range(16)))
    card.set_mode(MODES[mode])
    while client.ask(incremental=True):
        pass
    shown = picture.render()
    client.assert_shows(shown)
    base = 0xB8000 if mode == 0x03 else 0xA0000
    card.store_at(base + 166, b"\x5a\x1e\x33\x4f")
    assert client.ask(incremental=True)
    client.assert_shows(picture.render())
    assert (picture.render() != shown).any()
    assert sum(width * height for _, _, width, height in client.areas) < shown.size / 3 / 20


def test_many_small_changes_become_one_area() -> None:
    grid = np.zeros((40, 40), bool)
    grid[::2, ::2] = True
    assert grid.sum() > RECTANGLES_MAX
    assert areas_of(grid) == [(0, 0, 39 * SQUARE, 39 * SQUARE)]


@pytest.mark.parametrize("seed", range(20))
def test_areas_cover_exactly_what_is_marked(seed: int) -> None:
    source = np.random.default_rng(seed)
    grid = source.random((9, 11)) < source.random()
    covered = np.zeros((9 * SQUARE, 11 * SQUARE), int)
    for x, y, width, height in areas_of(grid):
        covered[y : y + height, x : x + width] += 1
    assert (covered == np.kron(grid, np.ones((SQUARE, SQUARE), int))).all()


VALID = [
    b"\0\0\0\0" + struct.pack(">BBBBHHHBBB3x", *FORMATS["16 bits"]),
    struct.pack(">BxH3i", 2, 3, ZRLE, DESKTOP_SIZE, QEMU_KEY),
    struct.pack(">BBHHHH", 3, 0, 0, 0, 60, 40),
    struct.pack(">BBHHHH", 3, 1, 3, 3, 60, 40),
    b"\x04\x01\0\0\0\0\0A",
    b"\x05\x05\0\x07\0\x09",
    b"\x06\0\0\0\0\0\0\x04text",
    struct.pack(">BBHII", 255, 0, 1, 0x61, 0x1E),
]


def random_conversation(source: random.Random) -> bytes:
    """Valid messages, some of whose bytes are others."""
    data = bytearray(HELLO + b"".join(source.choice(VALID) for _ in range(source.randrange(1, 12))))
    for _ in range(source.choice([0, 1, 1, 2, 8])):
        data[source.randrange(len(data))] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
    return bytes(data)


def test_random_conversations_are_served_or_refused() -> None:
    """Nothing else is raised, little is kept, and what is down comes up again."""
    run_random_conversations(400)


@pytest.mark.long
def test_many_random_conversations_are_served_or_refused() -> None:
    run_random_conversations(20_000)


def run_random_conversations(count: int) -> None:
    source = random.Random(11)
    picture = Picture(mixed_picture(60, 40))
    frame = Frame(picture, picture.lock)
    refused = 0
    for _ in range(count):
        held = Held()
        desktop = Desktop("m", source.choice([None, b"secret"]), frame, held)
        session = RfbSession(desktop, "client", bytes(16), source.choice(["", "", "", "refused"]))
        data = random_conversation(source)
        try:
            while data:
                cut = source.randrange(1, 40)
                session.received(data[:cut])
                data = data[cut:]
                frame.poll()
                session.frame_changed()
                if session.wants_picture():
                    session.send_picture()
                if source.random() < 0.7:
                    session.outgoing.clear()
                assert len(session._arrived) < 4200
                assert len(session.outgoing) < 60 * 40 * 4 + 4096
        except BadInput as error:
            refused += 1
            assert str(error).startswith("client: ")
        session.closed()
        assert not held.down and not held.buttons
    assert 0 < refused < count


class Held(Input):
    """What is down."""

    def __init__(self) -> None:
        super().__init__()
        self.down: set[K] = set()
        self.buttons = 0

    def key(self, code: K, down: bool) -> None:
        (self.down.add if down else self.down.discard)(code)

    def pointer(self, dx: int, dy: int, dz: int, buttons: int, at: tuple[int, int] | None = None) -> None:
        self.buttons = buttons


def test_a_session_that_has_ended_keeps_nothing() -> None:
    picture = Picture(mixed_picture(16, 16))
    frame = Frame(picture, picture.lock)
    session = RfbSession(Desktop("m", b"secret", frame, Input()), "client", bytes(16))
    session.received(b"RFB 003.008\n\x02" + bytes(16))
    assert session.ending and session.gave_wrong_password
    for _ in range(10):
        session.received(bytes(1000))
    assert len(session._arrived) < 1000


def test_what_is_kept_of_a_client_that_floods_stays_small() -> None:
    client: Any = Client(Picture(mixed_picture(32, 32)))
    client.set_format((8, 8, 0, 0, 0, 0, 0, 0, 0, 0))
    message = b"\0\0\0\0" + struct.pack(">BBBBHHHBBB3x", 8, 8, 0, 0, 0, 0, 0, 0, 0, 0)
    client.send((message + struct.pack(">BBHHHH", 3, 0, 0, 0, 32, 32)) * 200)
    assert not client.session.outgoing
    assert client.tick()
    assert not client.tick()
