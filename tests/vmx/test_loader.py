"""The loader: what it makes of good files, and the one line it has for each bad one."""

from __future__ import annotations

import random
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ringfence.errors import BadInput
from tests.vmx.programs import BASE, assemble, elf, multiboot_header
from vmx.loader import find_multiboot, load_firmware, load_program

MEMORY = 16 << 20


def load(tmp_path: Path, content: bytes) -> object:
    path = tmp_path / "program"
    path.write_bytes(content)
    return load_program(path, MEMORY)


def test_a_plain_elf(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(elf(b"\x90\xf4", memsz=0x3000))
    image = load_program(path, MEMORY)
    assert (image.entry, image.multiboot) == (BASE, False)
    assert [(piece.gpa, piece.data, piece.size) for piece in image.pieces] == [(BASE, b"\x90\xf4", 0x3000)]


def test_a_multiboot_header_is_found_where_the_specification_says(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(elf(multiboot_header() + b"\xf4"))
    assert load_program(path, MEMORY).multiboot
    assert find_multiboot(b"\0" + multiboot_header()) is None, "not 4-byte aligned"
    assert find_multiboot(bytes(8192) + multiboot_header()) is None, "beyond 8 KiB"
    assert find_multiboot(multiboot_header(checksum=0)) is None, "wrong checksum"
    assert find_multiboot(multiboot_header()[:8]) is None


def test_multiboot_address_fields_win_over_segments(tmp_path: Path) -> None:
    start = 52 + 32
    addresses = struct.pack("<5I", 0x200000, 0x200000, 0, 0x203000, 0x200020)
    content = elf(multiboot_header(0x10000, addresses=addresses) + b"\xf4" * 16)
    path = tmp_path / "program"
    path.write_bytes(content)
    image = load_program(path, MEMORY)
    assert image.entry == 0x200020
    assert [(piece.gpa, piece.data, piece.size) for piece in image.pieces] == [(0x200000, content[start:], 0x3000)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic: expected an ELF executable .*, found an empty file"),
        (b"MZ" + bytes(100), "magic"),
        (b"\x7fELF\x01\x01", "ELF header: expected 52 bytes, found a file of 6"),
        (elf(bits=2), "ELF class: expected 32-bit, found 64-bit"),
        (elf(order=2), "byte order: expected little-endian, found big-endian"),
        (elf(machine=40), "machine: expected EM_386, found EM_ARM"),
        (elf(machine=0xABCD), "machine: expected EM_386"),
        (elf(kind=1), "type: expected ET_EXEC.*, found ET_REL"),
        (elf(kind=3), "type: expected ET_EXEC.*, found ET_DYN"),
        (elf(filesz=0x1000, memsz=0x1000), "truncated file"),
        (elf(offset=0xFFFFFFF0), "truncated file"),
        (elf(memsz=8), "at most p_memsz"),
        (elf(paddr=MEMORY - 8), "inside the machine's memory of 16 MiB"),
        (elf(memsz=0xFFFFFFF0), "segment"),
        (elf(entry=0x200000), "entry point: expected inside a loaded segment"),
        (elf(segments=0), "at least one PT_LOAD"),
        (elf(segments=0xFFFF), "program headers"),
        (elf(phentsize=20), "program headers"),
        (elf(segments=2, second=BASE + 8), "segments at 0x100000 and 0x100008: expected no overlap"),
        (elf(multiboot_header(0x8) + b"\xf4"), "requirement bits 0x8"),
        (elf(multiboot_header(0x10000)), "multiboot addresses .truncated file.: expected 20 bytes .*, found 0"),
        (elf(multiboot_header(0x10000, addresses=struct.pack("<5I", 0, 0x200000, 0, 0, 0))), "multiboot addresses"),
    ],
)
def test_bad_programs_get_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        load(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path, Path("/dev/zero")):
        with pytest.raises(BadInput, match=str(path)):
            load_program(path, MEMORY)


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    """A good program with bytes changed either loads or is refused."""
    content = assemble(".globl _start\n_start: hlt\nother: nop\n", tmp_path / "good").read_bytes()
    source = random.Random(11)
    path = tmp_path / "damaged"
    refused = 0
    for _ in range(600):
        changed = bytearray(content[: source.choice([len(content), source.randrange(len(content))])])
        for _ in range(source.randrange(1, 6)):
            if changed:
                near = source.choice([64, len(changed)])
                changed[source.randrange(min(near, len(changed)))] = source.choice([0, 0xFF, source.randrange(256)])
        path.write_bytes(changed)
        try:
            load_program(path, MEMORY)
        except BadInput:
            refused += 1
    assert refused > 100


def test_every_cut_of_a_program_is_loaded_or_refused(tmp_path: Path) -> None:
    content = assemble(".globl _start\n_start: hlt\n", tmp_path / "good").read_bytes()
    path = tmp_path / "cut"
    sections = int.from_bytes(content[32:36], "little")
    for length in {*range(300), *range(0, sections, 97), *range(sections, len(content))}:
        path.write_bytes(content[:length])
        with suppress(BadInput):
            load_program(path, MEMORY)


def test_every_odd_header_field_is_loaded_or_refused(tmp_path: Path) -> None:
    """Each 32-bit word of the headers and tables takes the values that overflow, point nowhere or count too much."""
    content = assemble(".globl _start\n_start: hlt\n", tmp_path / "good").read_bytes()
    path = tmp_path / "odd"
    sections = int.from_bytes(content[32:36], "little")
    for at in [*range(16, 180, 4), *range(sections, len(content) - 3, 4)]:
        for value in (0, 0x7FFFFFFF, 0xFFFFFFFF, len(content)):
            path.write_bytes(content[:at] + struct.pack("<I", value) + content[at + 4 :])
            with suppress(BadInput):
                load_program(path, MEMORY)


def test_symbols_cost_no_more_than_they_are_worth(tmp_path: Path) -> None:
    """A million names that never end, in 16 MiB of text, would take hours to search."""
    symbols = struct.pack("<IIIBBH", 1, BASE, 4, 2, 0, 1) * (1 << 20)
    names = b"\0" + b"a" * (16 << 20)
    content = bytearray(elf())
    places = len(content), len(content) + len(symbols)
    content += symbols + names
    struct.pack_into("<I", content, 32, len(content))
    struct.pack_into("<HH", content, 46, 40, 3)
    content += bytes(40) + struct.pack("<10I", 0, 2, 0, 0, places[0], len(symbols), 2, 0, 0, 16)
    content += struct.pack("<10I", 0, 3, 0, 0, places[1], len(names), 0, 0, 0, 0)
    path = tmp_path / "program"
    path.write_bytes(content)
    started = time.monotonic()
    assert len(load_program(path, MEMORY).symbols) == 0
    assert time.monotonic() - started < 10


def test_a_symbol_cannot_command_the_terminal(tmp_path: Path) -> None:
    content = assemble(".globl _start\n_start: hlt\n.globl clearsit\nclearsit: nop\n", tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(content.replace(b"clearsit\0", b"\x1b[2J\x9b2J\n\0"))
    image = load_program(tmp_path / "p", MEMORY)
    assert image.symbols.describe(image.entry + 1).endswith(r" <\x1b[2J\x9b2J\n>")


def test_symbols_come_from_the_file(tmp_path: Path) -> None:
    source = ".globl _start\n.type _start,@function\n_start: nop\nhlt\n.size _start,.-_start\n"
    image = load_program(assemble(source, tmp_path / "p"), MEMORY)
    assert image.symbols.describe(image.entry + 1) == f"{image.entry + 1:08x} <_start+0x1>"


@pytest.mark.parametrize("size", [0, 1, 65535, 65537, (4 << 20) + 65536])
def test_firmware_of_a_wrong_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "bios"
    path.write_bytes(bytes(size))
    with pytest.raises(BadInput, match="size"):
        load_firmware(path)
