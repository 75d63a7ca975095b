"""Makes a firmware image out of a multiboot guest, for a PC that cannot load one itself.

    offset 0          the pieces' bytes, one after another
                      the table: from, to, length, size (4 x u32 each), linear and guest physical addresses, bytes
    size - 4 KiB      boot_rom.S, its parameters filled in; it ends at 4 GiB

The image is a multiple of 64 KiB and lies so that it ends at the top of the address space.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from guests.builder import COMPILER, BuildFailed
from vmx.boot import build_info
from vmx.loader import Image, Piece, load_program

SOURCE = Path(__file__).with_name("boot_rom.S")
UNIT = 64 << 10
BLOCK = 4 << 10
TOP = 1 << 32
INFO_GPA = 0x9000  # conventional memory that no guest of ours occupies
PARAMETERS = struct.Struct("<4I")
ROW = struct.Struct("<4I")
ASSEMBLE_TIMEOUT_S = 60


def make_rom(guest: Path, command_line: str, memory_mib: int, folder: Path) -> bytes:
    """The image that starts `guest` with `command_line`. `folder` takes the assembler's output."""
    image = load_program(guest, memory_mib << 20)
    return lay_out(image, command_line, memory_mib << 20, assemble(folder))


def assemble(folder: Path) -> bytes:
    """boot_rom.S as its 4 KiB. Raises BuildFailed."""
    object_file, block = folder / "boot_rom.o", folder / "boot_rom.bin"
    run([COMPILER, "-m32", "-c", "-o", str(object_file), str(SOURCE)])
    run(["objcopy", "-O", "binary", "-j", ".text", str(object_file), str(block)])
    content = block.read_bytes()
    assert len(content) == BLOCK
    return content


def run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASSEMBLE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{SOURCE.name}: cannot run {command[0]}: {error}") from error
    if done.returncode != 0:
        raise BuildFailed(f"{SOURCE.name}: {command[0]} failed: {done.stderr.strip()}")


def lay_out(image: Image, command_line: str, memory_bytes: int, block: bytes) -> bytes:
    """Pieces, table and block in one image."""
    info = build_info(INFO_GPA, f"{image.name} {command_line}".strip().encode(), memory_bytes)
    pieces = [*image.pieces, Piece(INFO_GPA, info, len(info))]
    content = sum(len(piece.data) for piece in pieces) + ROW.size * len(pieces)
    size = (content + BLOCK + UNIT - 1) // UNIT * UNIT
    base, data, rows = TOP - size, b"", b""
    for piece in pieces:
        rows += ROW.pack(base + len(data), piece.gpa, len(piece.data), piece.size)
        data += piece.data
    parameters = PARAMETERS.pack(base + len(data), len(pieces), image.entry, INFO_GPA)
    rom = (data + rows).ljust(size - BLOCK, b"\xff") + parameters + block[PARAMETERS.size :]
    assert len(rom) == size
    return rom
