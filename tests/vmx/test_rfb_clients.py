"""The remote screen seen and operated by clients that nobody here wrote: vncdotool and LibVNCClient."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vmx.rfb_peer import Picture, Served, mixed_picture, on_unix, wait_until
from vmx.keys_spec import KeyCode as K

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vncdotool uses names that cryptography is about to move
    from vncdotool.const import Encoding
    from vncdotool.rfb import PixelFormat, RFBClient

WIDTH, HEIGHT = 200, 136  # vncdotool takes rows of palette indexes to be whole bytes


class Viewer(RFBClient):
    """vncdotool's protocol on a plain socket."""

    updateRectangle: Callable[..., None]  # set below: overriding it in the class is warned of
    fillRectangle: Callable[..., None]

    def __init__(self, client: socket.socket, password: str | None = None, shared: bool = True) -> None:
        super().__init__()
        self.updateRectangle, self.fillRectangle = self.put, self.fill
        self.factory = type("Factory", (), {"password": password, "shared": shared})
        self.socket, self.transport = client, self
        self.picture = np.zeros((1, 1, 4), np.uint8)
        self.updates = self.connected = 0
        self.failure: Any = None
        self.areas: list[tuple[int, int, int, int]] = []

    # a transport

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def loseConnection(self) -> None:
        self.socket.close()

    # callbacks

    def vncConnectionMade(self) -> None:
        self.connected = 1
        self.updateDesktopSize(self.width, self.height)

    def vncAuthFailed(self, reason: Any) -> None:
        self.failure = reason

    def vncProtocolError(self, reason: str) -> None:
        self.failure = reason

    def updateDesktopSize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.picture = np.zeros((height, width, self.bypp), np.uint8)

    def put(self, x: int, y: int, width: int, height: int, data: bytes) -> None:
        self.picture[y : y + height, x : x + width] = np.frombuffer(data, np.uint8).reshape(height, width, -1)

    def fill(self, x: int, y: int, width: int, height: int, color: bytes) -> None:
        self.picture[y : y + height, x : x + width] = np.frombuffer(color, np.uint8)

    def commitUpdate(self, rectangles: list[tuple[int, int, int, int]] | None = None) -> None:
        self.areas = rectangles or []
        self.updates += 1

    # the test's

    def until(self, condition: Callable[[], object]) -> None:
        while not condition() and self.failure is None:
            data = self.socket.recv(65536)
            assert data, "closed"
            self.dataReceived(data)

    def next_update(self, incremental: bool = False) -> None:
        before = self.updates
        self.framebufferUpdateRequest(incremental=incremental)
        self.until(lambda: self.updates > before)


def viewer(served: Served, password: str | None = None, shared: bool = True) -> Viewer:
    made = Viewer(served.connect(), password, shared)
    made.until(lambda: made.connected)
    return made


RGB32 = PixelFormat(32, 24, False, True, 255, 255, 255, 0, 8, 16)
BGR32 = PixelFormat(32, 24, False, True, 255, 255, 255, 16, 8, 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoding", [Encoding.RAW, Encoding.ZRLE])
@pytest.mark.parametrize(("form", "order"), [(RGB32, [0, 1, 2]), (BGR32, [2, 1, 0])])
def test_vncdotool_gets_every_pixel(tmp_path: Path, encoding: Encoding, form: PixelFormat, order: list[int]) -> None:
    picture = Picture(mixed_picture(WIDTH, HEIGHT))
    with Served(picture, on_unix(tmp_path), "secret") as served:
        client = viewer(served, "secret")
        client.setPixelFormat(form)
        client.setEncodings([encoding])
        client.next_update()
        assert (client.picture[:, :, order] == picture.pixels).all()
        piece = mixed_picture(30, 20, seed=5)
        picture.put(100, 60, piece)
        client.next_update(incremental=True)
        assert (client.picture[:, :, order] == picture.pixels).all()
        assert sum(width * height for _, _, width, height in client.areas) < WIDTH * HEIGHT / 4


@pytest.mark.filterwarnings("ignore")
def test_vncdotool_with_a_wrong_password_is_told_so(tmp_path: Path) -> None:
    with Served(Picture(mixed_picture(WIDTH, HEIGHT)), on_unix(tmp_path), "secret") as served:
        client = Viewer(served.connect(), "Secret")
        client.until(lambda: client.connected)
        assert client.failure == b"The password is wrong"
        served.wait_for_line("password is wrong")
        assert viewer(served, "secret").connected


@pytest.mark.filterwarnings("ignore")
def test_vncdotool_follows_a_change_of_size(tmp_path: Path) -> None:
    picture = Picture(mixed_picture(WIDTH, HEIGHT))
    with Served(picture, on_unix(tmp_path)) as served:
        client = viewer(served)
        client.setEncodings([Encoding.ZRLE, Encoding.PSEUDO_DESKTOP_SIZE])
        client.next_update()
        picture.show(mixed_picture(320, 200, seed=9))
        client.next_update(incremental=True)
        assert (client.width, client.height) == (320, 200)
        client.next_update(incremental=True)
        assert (client.picture[:, :, [2, 1, 0]] == picture.pixels).all()


@pytest.mark.filterwarnings("ignore")
def test_keys_and_the_pointer_of_vncdotool_arrive(tmp_path: Path) -> None:
    with Served(Picture(mixed_picture(WIDTH, HEIGHT)), on_unix(tmp_path)) as served:
        client = viewer(served)
        for keysym in (ord("l"), ord("S"), 0xFF0D):
            client.keyEvent(keysym, down=True)
            client.keyEvent(keysym, down=False)
        client.pointerEvent(10, 10)
        client.pointerEvent(14, 7, 1)
        client.pointerEvent(14, 7, 0)
        wait_until(lambda: len(served.input.movements) == 2, "the pointer")
        assert served.input.keys == [
            (K.L, True), (K.L, False),
            (K.SHIFT_LEFT, True), (K.S, True), (K.SHIFT_LEFT, False), (K.S, False),
            (K.RETURN, True), (K.RETURN, False),
        ]  # fmt: skip
        assert served.input.movements == [(4, -3, 0, 1), (0, 0, 0, 0)]


@pytest.mark.filterwarnings("ignore")
def test_vncdotool_is_told_that_key_codes_are_understood(tmp_path: Path) -> None:
    with Served(Picture(mixed_picture(WIDTH, HEIGHT)), on_unix(tmp_path)) as served:
        client = viewer(served)
        client.setEncodings([Encoding.RAW, Encoding.PSEUDO_QEMU_EXTENDED_KEY_EVENT])
        client.next_update(incremental=True)
        assert Encoding.PSEUDO_QEMU_EXTENDED_KEY_EVENT in client.negotiated_encodings


@pytest.mark.filterwarnings("ignore")
def test_several_clients_see_the_same_until_one_wants_to_be_alone(tmp_path: Path) -> None:
    picture = Picture(mixed_picture(WIDTH, HEIGHT))
    with Served(picture, on_unix(tmp_path)) as served:
        first, second = viewer(served), viewer(served)
        for client in (first, second):
            client.next_update()
        picture.put(8, 8, mixed_picture(40, 40, seed=3))
        for client in (first, second):
            client.next_update(incremental=True)
            assert (client.picture[:, :, [2, 1, 0]] == picture.pixels).all()
        third = viewer(served, shared=False)
        for client in (first, second):
            assert client.socket.recv(100) == b""
        third.next_update()
        assert (third.picture[:, :, [2, 1, 0]] == picture.pixels).all()


@pytest.fixture(scope="module")
def lib_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C client. Where a missing peer would go unnoticed (CI is set) that is a failure."""
    if shutil.which("gcc") is None or not Path("/usr/include/rfb/rfbclient.h").exists():
        reason = "libvncserver-dev is not installed, so LibVNCClient cannot look at the screen"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    program = tmp_path_factory.mktemp("rfb") / "client"
    source = Path(__file__).with_name("rfb_client.c")
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", program, source, "-lvncclient"], check=True)
    return program


@pytest.mark.parametrize("encoding", ["raw", "zlib", "zrle"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_libvncclient_gets_every_pixel(lib_client: Path, encoding: str, size: int) -> None:
    """Of sizes that fill neither bytes of indexes nor tiles."""
    picture = Picture(mixed_picture(203, 131))
    with Served(picture, "0", "secret") as served:
        host, _, port = served.server.address.rpartition(":")
        done = subprocess.run(
            [lib_client, host, port, "secret", str(size), encoding], capture_output=True, timeout=30
        )
        assert done.returncode == 0, done.stderr.decode()
    head, _, data = done.stdout.partition(b"\n")
    width, height, bytes_, *places = (int(word) for word in head.split())
    assert (width, height, bytes_) == (203, 131, size)
    values = np.frombuffer(data, f"=u{size}").reshape(height, width)
    assert_nearest(values, places[:3], places[3:], picture.pixels)


def assert_nearest(values: NDArray[Any], maxima: list[int], shifts: list[int], picture: NDArray[np.uint8]) -> None:
    """Each colour of each pixel is the level nearest to the picture's."""
    for channel, (maximum, shift) in enumerate(zip(maxima, shifts, strict=True)):
        level = (values.astype(np.int64) >> shift) & maximum
        distance = np.abs(level * 255 / maximum - picture[:, :, channel])
        assert distance.max() <= 255 / maximum / 2 + 1e-9


@pytest.mark.filterwarnings("ignore")
def test_libvncclient_with_a_wrong_password_is_turned_away(lib_client: Path) -> None:
    with Served(Picture(mixed_picture(64, 64)), "0", "secret") as served:
        host, _, port = served.server.address.rpartition(":")
        done = subprocess.run([lib_client, host, port, "wrong", "4", "raw"], capture_output=True, timeout=30)
        assert done.returncode == 1
        assert b"The password is wrong" in done.stderr
