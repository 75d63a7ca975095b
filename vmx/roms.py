"""ROM images and the text font: where the host keeps SeaBIOS and its video BIOS, which are packages of their own.

Folders are searched in order; RINGFENCE_FIRMWARE names others, separated by colons, to look in first.
Source: Debian packages seabios and qemu-system-data; QEMU, pc-bios.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hw.vga_spec import ROM_BYTES
from ringfence.errors import BadInput, HostRefused
from vmkernel.storage.place import Place
from vmx.loader import load_firmware, read_file
from vmx.vga_font import find_font

FOLDERS = ("/usr/share/seabios", "/usr/share/qemu", "/usr/share/qemu-kvm", "/usr/local/share/qemu")
BIOS = "bios-256k.bin"
VIDEO_ROM = "vgabios-vmware.bin"
ROM_SIGNATURE = b"\x55\xaa"
PAGE = 4096
GLYPHS, GLYPH_LINES, GLYPH_DOTS = 256, 16, 8


def search_path() -> list[Path]:
    own = [folder for folder in os.environ.get("RINGFENCE_FIRMWARE", "").split(":") if folder]
    return [Path(folder) for folder in (*own, *FOLDERS)]


def find(name: str) -> Path | None:
    """The first file of that name."""
    return next((folder / name for folder in search_path() if (folder / name).is_file()), None)


def system_firmware(path: Place | None = None) -> bytes:
    """The BIOS from `path`, or the host's. Raises BadInput, and HostRefused where there is none."""
    path = path or find(BIOS)
    if path is None:
        folders = ", ".join(str(folder) for folder in search_path())
        raise HostRefused(f"{BIOS}: no firmware: expected it in one of {folders}; Debian's package is seabios")
    return load_firmware(path)


def video_rom() -> bytes:
    """The host's video BIOS in whole pages; empty where there is none: the screen then stays dark until a driver runs.

    Raises BadInput for a file that is no option ROM.
    """
    path = find(VIDEO_ROM)
    if path is None:
        return b""
    rom = read_file(path, ROM_BYTES, "a video BIOS")
    if not rom.startswith(ROM_SIGNATURE):
        raise BadInput(str(path), "option ROM", "bytes 55 AA at its beginning", rom[:2].hex(" "))
    return rom + bytes(-len(rom) % PAGE)


def text_font(rom: bytes) -> bytes:
    """256 glyphs of 16 lines: the video BIOS's, or without one such as can be drawn from a built-in font.

    Raises BadInput for a video BIOS without it.
    """
    if rom:
        return find_font(rom, VIDEO_ROM)
    return b"".join(drawn_glyph(code) for code in range(GLYPHS))


def drawn_glyph(code: int) -> bytes:
    """One character of code page 437; blank where the built-in font has no picture of it."""
    picture = Image.new("1", (GLYPH_DOTS, GLYPH_LINES))
    character = bytes((code,)).decode("cp437")
    if 0x20 < code < 0x7F:
        ImageDraw.Draw(picture).text((1, 2), character, fill=1, font=ImageFont.load_default_imagefont())
    return np.packbits(np.asarray(picture), axis=1).tobytes()
