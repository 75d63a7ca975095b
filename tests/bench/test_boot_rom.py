"""The firmware image that starts a guest: its layout, and that a processor gets through it."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.boot_rom import BLOCK, INFO_GPA, PARAMETERS, ROW, TOP, UNIT, assemble, lay_out, make_rom
from bench.transcript import record
from guests import build
from vmx.loader import Image, Piece


def test_the_table_says_where_each_piece_is_and_goes() -> None:
    pieces = (Piece(0x100000, b"text" * 5, 20), Piece(0x200000, b"data", 8192))
    rom = lay_out(Image("guest", pieces, 0x100004, multiboot=True), "word", 64 << 20, bytes(BLOCK))
    assert len(rom) == UNIT
    base = TOP - len(rom)
    table, count, entry, info = PARAMETERS.unpack_from(rom, len(rom) - BLOCK)
    assert (count, entry, info) == (3, 0x100004, INFO_GPA)
    rows = [ROW.unpack_from(rom, table - base + ROW.size * i) for i in range(count)]
    assert [row[1:] for row in rows[:2]] == [(0x100000, 20, 20), (0x200000, 4, 8192)]
    assert [rom[row[0] - base :][: row[2]] for row in rows[:2]] == [b"text" * 5, b"data"]
    assert b"guest word\0" in rom[rows[2][0] - base :][: rows[2][2]]


def test_an_image_grows_in_units_of_64_kib() -> None:
    image = Image("guest", (Piece(0x100000, bytes(UNIT), UNIT),), 0x100000, multiboot=True)
    assert len(lay_out(image, "", 64 << 20, bytes(BLOCK))) == 2 * UNIT


def test_the_block_begins_at_the_reset_vector(tmp_path: Path) -> None:
    block = assemble(tmp_path)
    assert block[0xFF0] in (0xE9, 0xEB)  # a near or short jump, which stays in the ROM
    assert block[: PARAMETERS.size] == bytes(PARAMETERS.size)


def test_a_guest_runs_from_the_image(tmp_path: Path) -> None:
    rom = tmp_path / "boot.rom"
    rom.write_bytes(make_rom(build("compute"), "only=search scale=1", 64, tmp_path))
    command = [sys.executable, "-m", "tools.ringfence", "run", "--bios", str(rom), "--timeout", "60"]
    lines = [line.text for line in record(command, 90, folder=Path(__file__).parents[2]).lines]
    assert lines[-1] == "DONE 1 passed, 0 failed"
    assert "PASS search" in lines
