"""Where ROM images come from, and what is refused for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ringfence.errors import BadInput, HostRefused
from vmx import roms
from vmx.roms import BIOS, VIDEO_ROM, drawn_glyph, system_firmware, text_font, video_rom


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that is looked in."""
    monkeypatch.setenv("RINGFENCE_FIRMWARE", f":{tmp_path}:")
    monkeypatch.setattr(roms, "FOLDERS", ())
    return tmp_path


def test_the_folders_of_the_environment_are_looked_in_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, host = tmp_path / "ours", tmp_path / "host"
    for place in (ours, host):
        place.mkdir()
        (place / BIOS).write_bytes(bytes([len(place.name)]) * 0x10000)
    monkeypatch.setattr(roms, "FOLDERS", (str(host),))
    monkeypatch.setenv("RINGFENCE_FIRMWARE", f"{tmp_path / 'nowhere'}:{ours}")
    assert system_firmware()[0] == len("ours")
    monkeypatch.delenv("RINGFENCE_FIRMWARE")
    assert system_firmware()[0] == len("host")


def test_a_host_without_firmware_is_told_where_it_was_looked_for(folder: Path) -> None:
    with pytest.raises(HostRefused, match=f"no firmware: expected it in one of {folder}; Debian's package is seabios"):
        system_firmware()


@pytest.mark.parametrize("size", [0, 1000, 0xFFFF, 0x10001, 5 << 20])
def test_firmware_of_an_impossible_size_is_refused(folder: Path, size: int) -> None:
    (folder / BIOS).write_bytes(bytes(size))
    with pytest.raises(BadInput, match=BIOS):
        system_firmware()


def test_firmware_that_is_named_is_taken_whatever_the_host_has(folder: Path) -> None:
    (folder / "mine").write_bytes(b"\x90" * 0x10000)
    assert system_firmware(folder / "mine") == b"\x90" * 0x10000
    with pytest.raises(BadInput, match="missing"):
        system_firmware(folder / "missing")


def test_a_host_without_a_video_bios_has_none(folder: Path) -> None:
    assert video_rom() == b""


def test_a_video_bios_is_whole_pages(folder: Path) -> None:
    (folder / VIDEO_ROM).write_bytes(b"\x55\xaa" + bytes(5000))
    assert len(video_rom()) == 8192


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x55\xaa" + bytes(100_000)])
def test_a_video_bios_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / VIDEO_ROM).write_bytes(content)
    with pytest.raises(BadInput, match=VIDEO_ROM):
        video_rom()


def test_a_video_bios_without_a_font_is_refused() -> None:
    with pytest.raises(BadInput, match=VIDEO_ROM):
        text_font(b"\x55\xaa" + bytes(8190))


def test_without_a_video_bios_every_printable_character_is_drawn_and_no_two_alike() -> None:
    font = text_font(b"")
    assert len(font) == 256 * 16
    glyphs = [font[code * 16 :][:16] for code in range(0x21, 0x7F)]
    assert len(set(glyphs)) == len(glyphs) and bytes(16) not in glyphs
    assert drawn_glyph(0x20) == bytes(16)
    dots = np.unpackbits(np.frombuffer(drawn_glyph(ord("H")), np.uint8).reshape(16, 1), axis=1)
    assert dots.sum(axis=1).max() >= 4, "its bar"
