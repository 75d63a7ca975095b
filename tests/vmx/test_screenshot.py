"""Screenshots: read back by another reader of PNG, and refused in one line."""

from __future__ import annotations

import resource
import shutil
import signal
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from ringfence.errors import HostRefused
from tests.vmx.rfb_peer import Picture, mixed_picture
from vmx.screenshot import take_screenshot, write_png


def read_png(path: Path) -> np.ndarray:
    """Of the PNG specification what such a file needs: RGB of 8 bits, and the five filters."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, head = 8, b"", (0, 0)
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", data[at + 8 + length :][:4])[0]
        if kind == b"IHDR":
            assert body[8:] == bytes((8, 2, 0, 0, 0))
            head = struct.unpack(">II", body[:8])
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    (width, height), rows = head, zlib.decompress(packed)
    picture = np.zeros((height + 1, 3 * width + 3), np.uint8)
    for y in range(height):
        kind, line = rows[y * (3 * width + 1)], rows[y * (3 * width + 1) + 1 :][: 3 * width]
        for x, byte in enumerate(line):
            left, up, corner = int(picture[y + 1, x]), int(picture[y, x + 3]), int(picture[y, x])
            guess = left + up - corner
            paeth = min((left, up, corner), key=lambda value: abs(guess - value))
            picture[y + 1, x + 3] = byte + (0, left, up, (left + up) // 2, paeth)[kind] & 0xFF
    return picture[1:, 3:].reshape(height, width, 3)


def test_a_screenshot_has_every_pixel(tmp_path: Path) -> None:
    picture = Picture(mixed_picture(75, 40))
    assert take_screenshot(picture, picture.lock, tmp_path / "a.png") == (75, 40)
    assert (read_png(tmp_path / "a.png") == picture.pixels).all()
    assert not picture.lock.locked()


def test_an_old_file_is_replaced_whole_and_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    picture = mixed_picture(16, 16)
    write_png(picture, tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert (read_png(tmp_path / "real.png") == picture).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.png", "real.png"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(HostRefused, match=r"screenshot .*a\.png: cannot write: "):
            write_png(mixed_picture(100, 100), tmp_path / "a.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing/a.png", "cannot write: No such file"),
        (".", "expected a new or an ordinary file"),
        ("a\0b", "cannot write"),
        ("x" * 300, "cannot write: File name too long"),
    ],
)
def test_a_place_that_cannot_be_is_refused_in_one_line(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(HostRefused, match=why) as refused:
        write_png(mixed_picture(8, 8), tmp_path / name)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(HostRefused, match="ordinary file"):
        write_png(mixed_picture(8, 8), Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


def test_file_knows_what_it_is(tmp_path: Path) -> None:
    if shutil.which("file") is None:
        pytest.skip("file(1) is not installed")
    write_png(mixed_picture(33, 21), tmp_path / "a.png")
    done = subprocess.run(["file", "-b", tmp_path / "a.png"], capture_output=True, text=True)
    assert done.stdout.startswith("PNG image data, 33 x 21, 8-bit/color RGB")
