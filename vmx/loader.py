"""Turns a file into what goes into guest memory: a multiboot or plain 32-bit ELF, or a raw firmware image.

Nothing is written here: an Image says which bytes go where, and machine.py puts them there. Addresses are guest
physical (p_paddr). Every file is hostile: whatever it says is checked against its own size and against the machine's
memory before anything is allocated.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from elftools.common.exceptions import ELFError
from elftools.construct.lib.container import Container
from elftools.elf.elffile import ELFFile

from ringfence.errors import BadInput
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.place import Place, elsewhere
from vmx.elf_spec import (
    ELFCLASS32,
    ELFCLASS64,
    ELFDATA2LSB,
    ELFDATA2MSB,
    ELFMAG,
    HEADER_BYTES,
    IDENT,
    PROGRAM_HEADER,
    PT_LOAD,
    SECTION_HEADER,
    SHN_UNDEF,
    SHT_SYMTAB,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    SYMBOL,
    SYMBOL_TYPE_MASK,
)
from vmx.multiboot_spec import (
    HEADER,
    HEADER_ADDRESSES,
    HEADER_ALIGN,
    HEADER_MAGIC,
    HEADER_SEARCH_BYTES,
    KNOWN_REQUIREMENTS,
    REQUIREMENTS,
    HeaderFlag,
)
from vmx.symbols import Symbol, SymbolTable

PROGRAM_BYTES_MAX = 1 << 30
FIRMWARE_UNIT = 64 << 10
FIRMWARE_BYTES_MAX = 4 << 20
NAMED_SYMBOL_TYPES = (STT_NOTYPE, STT_OBJECT, STT_FUNC)
SYMBOLS_MAX = 1 << 18
SYMBOL_NAME_BYTES_MAX = 512

# What pyelftools is seen to raise, beside its own ELFError, on bytes that only begin like an ELF file.
PARSER_ERRORS = (ELFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, AssertionError,
                 UnicodeError, struct.error, EOFError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Piece:
    """`data` goes to `gpa`, followed by zeroes up to `size` bytes."""

    gpa: int
    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Multiboot:
    """A multiboot header at `offset` in the file. `rest` is the file behind its three words."""

    offset: int
    flags: int
    rest: bytes


@dataclass(frozen=True, slots=True)
class Image:
    """A program ready to be put into memory. `multiboot` tells how it wants to be entered."""

    name: str
    pieces: tuple[Piece, ...]
    entry: int
    multiboot: bool
    symbols: SymbolTable = field(default_factory=SymbolTable)

    def overlaps(self, gpa: int, size: int) -> bool:
        return any(piece.gpa < gpa + size and gpa < piece.gpa + piece.size for piece in self.pieces)


def load_program(path: Place, memory_bytes: int) -> Image:
    """Read a multiboot 1 or plain 32-bit ELF that fits `memory_bytes` of RAM. Raises BadInput."""
    content = read_file(path, PROGRAM_BYTES_MAX, "a program")
    where = str(path)
    header = find_multiboot(content)
    elf = parse_elf(where, content)
    if header is not None:
        unknown = header.flags & REQUIREMENTS & ~int(KNOWN_REQUIREMENTS)
        if unknown:
            raise BadInput(where, "multiboot header", "only requirements 0, 1 and 2", f"requirement bits {unknown:#x}")
    if header is not None and header.flags & HeaderFlag.ADDRESSES:
        pieces, entry = address_pieces(where, content, header)
    else:
        pieces, entry = segment_pieces(where, content, elf), int(elf["e_entry"])
    check_places(where, pieces, memory_bytes)
    if not any(piece.gpa <= entry < piece.gpa + piece.size for piece in pieces):
        raise BadInput(where, "entry point", "inside a loaded segment", f"{entry:#x}")
    return Image(path.name, tuple(pieces), entry, header is not None, read_symbols(content, elf))


def check_places(where: str, pieces: list[Piece], memory_bytes: int) -> None:
    """Every piece in memory, and no two in the same place. Raises BadInput."""
    for piece in pieces:
        if piece.gpa + piece.size > memory_bytes:
            raise BadInput(
                where, f"segment at {piece.gpa:#x}, {piece.size:#x} bytes",
                f"inside the machine's memory of {memory_bytes >> 20} MiB", f"end at {piece.gpa + piece.size:#x}",
            )  # fmt: skip
    ordered = sorted(pieces, key=lambda piece: piece.gpa)
    for lower, upper in pairwise(ordered):
        if lower.gpa + lower.size > upper.gpa:
            raise BadInput(
                where, f"segments at {lower.gpa:#x} and {upper.gpa:#x}", "no overlap",
                f"the first one's end at {lower.gpa + lower.size:#x}",
            )  # fmt: skip


def load_firmware(path: Place) -> bytes:
    """A raw firmware image: a multiple of 64 KiB, at most 4 MiB. Raises BadInput."""
    content = read_file(path, FIRMWARE_BYTES_MAX, "firmware")
    if not content or len(content) % FIRMWARE_UNIT:
        raise BadInput(str(path), "firmware size", "a multiple of 64 KiB", f"{len(content)} bytes")
    return content


def read_file(path: Place, limit: int, what: str) -> bytes:
    """A whole regular file of at most `limit` bytes. A FIFO or device is refused, not waited for."""
    if elsewhere(path) is not None:
        with BlockFile.open(path, lock=False) as held:
            if held.size > limit:
                raise BadInput(str(path), "size", f"{what} of at most {limit} bytes", f"{held.size}")
            return held.some_at(0, limit)
    try:
        with open(os.open(cast(Path, path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise BadInput(str(path), "file type", f"a regular file with {what}", stat.filemode(facts.st_mode))
            if facts.st_size > limit:
                raise BadInput(str(path), "size", f"{what} of at most {limit} bytes", f"{facts.st_size}")
            return file.read()
    except OSError as error:
        raise BadInput(str(path), "cannot read", f"a file with {what}", str(error.strerror)) from error


def find_multiboot(content: bytes) -> Multiboot | None:
    """The multiboot header: 4-byte aligned, in the first 8 KiB, its three words adding up to 0."""
    head = content[:HEADER_SEARCH_BYTES]
    magic = HEADER_MAGIC.to_bytes(4, "little")
    offset = head.find(magic)
    while offset >= 0:
        end = offset + HEADER.sizeof()
        if offset % HEADER_ALIGN == 0 and end <= len(head):
            header = HEADER.parse(content[offset:end])
            if (header.magic + header.flags + header.checksum) & 0xFFFFFFFF == 0:
                return Multiboot(offset, header.flags, content[end : end + HEADER_ADDRESSES.sizeof()])
        offset = head.find(magic, offset + 1)
    return None


def parse_elf(where: str, content: bytes) -> ELFFile:
    """An ELF file that an i386 can run, its header checked."""
    if not content.startswith(ELFMAG):
        start = content[: len(ELFMAG)].hex(" ") or "an empty file"
        raise BadInput(where, "magic", f"an ELF executable ({ELFMAG.hex(' ')})", start)
    if len(content) < HEADER_BYTES:
        raise BadInput(where, "ELF header", f"{HEADER_BYTES} bytes", f"a file of {len(content)}")
    ident = IDENT.parse(content)
    if ident.ei_class != ELFCLASS32:
        found = "64-bit" if ident.ei_class == ELFCLASS64 else f"class {ident.ei_class}"
        raise BadInput(where, "ELF class", "32-bit", found)
    if ident.ei_data != ELFDATA2LSB:
        found = "big-endian" if ident.ei_data == ELFDATA2MSB else f"encoding {ident.ei_data}"
        raise BadInput(where, "ELF byte order", "little-endian", found)
    try:
        elf = ELFFile(io.BytesIO(content))
        header: Container = elf.header
    except PARSER_ERRORS as error:
        raise BadInput(where, "ELF header", "a well-formed header", str(error) or type(error).__name__) from error
    if header["e_machine"] != "EM_386":
        raise BadInput(where, "ELF machine", "EM_386", str(header["e_machine"]))
    if header["e_type"] != "ET_EXEC":
        raise BadInput(where, "ELF type", "ET_EXEC, linked to fixed addresses", str(header["e_type"]))
    return elf


def segment_pieces(where: str, content: bytes, elf: ELFFile) -> list[Piece]:
    """One piece for each PT_LOAD segment that occupies memory."""
    count, table_end = elf["e_phnum"], elf["e_phoff"] + elf["e_phnum"] * PROGRAM_HEADER.itemsize
    if count and (elf["e_phentsize"] != PROGRAM_HEADER.itemsize or table_end > len(content)):
        expected = f"{PROGRAM_HEADER.itemsize} bytes each, within {len(content)} bytes"
        raise BadInput(where, "program headers", expected, f"{elf['e_phentsize']} bytes each, end at {table_end}")
    pieces = []
    for index, row in enumerate(table(content, PROGRAM_HEADER, elf["e_phoff"], count)):
        offset, paddr, filesz, memsz = (int(row[name]) for name in ("p_offset", "p_paddr", "p_filesz", "p_memsz"))
        if row["p_type"] != PT_LOAD or not memsz:
            continue
        what = f"segment {index}"
        if filesz > memsz:
            raise BadInput(where, what, f"at most p_memsz ({memsz:#x}) bytes from the file", f"p_filesz {filesz:#x}")
        if offset + filesz > len(content):
            raise BadInput(where, f"{what} (truncated file)", f"{offset + filesz} bytes of file", f"{len(content)}")
        if paddr + memsz > 1 << 32:
            raise BadInput(where, what, "an end below 4 GiB", f"{paddr + memsz:#x}")
        pieces.append(Piece(paddr, content[offset : offset + filesz], memsz))
    if not pieces:
        raise BadInput(where, "program headers", "at least one PT_LOAD segment", "none")
    return pieces


def address_pieces(where: str, content: bytes, header: Multiboot) -> tuple[list[Piece], int]:
    """The one piece that the address fields of a multiboot header describe, and the entry point. [Multiboot 3.1.3]"""
    if len(header.rest) < HEADER_ADDRESSES.sizeof():
        expected = f"{HEADER_ADDRESSES.sizeof()} bytes behind the header"
        raise BadInput(where, "multiboot addresses (truncated file)", expected, f"{len(header.rest)}")
    fields = HEADER_ADDRESSES.parse(header.rest)
    load_addr = fields.load_addr
    start = header.offset - (fields.header_addr - load_addr)
    length = (fields.load_end_addr or load_addr + len(content) - start) - load_addr
    if load_addr > fields.header_addr or start < 0 or length <= 0 or start + length > len(content):
        raise BadInput(where, "multiboot addresses", "a range inside the file", f"{length} bytes from offset {start}")
    size = max(length, (fields.bss_end_addr or load_addr + length) - load_addr)
    return [Piece(load_addr, content[start : start + length], size)], fields.entry_addr


def table(content: bytes, row: np.dtype[Any], offset: int, count: int) -> npt.NDArray[Any]:
    """`count` rows from `offset`, or as many as the file has."""
    there = max(0, len(content) - offset) // row.itemsize
    return np.frombuffer(content, row, min(count, there), offset if there else 0)


def read_symbols(content: bytes, elf: ELFFile) -> SymbolTable:
    """Names from the ELF symbol table; empty when there is none or it is damaged, which stops nobody from running."""
    if elf["e_shentsize"] != SECTION_HEADER.itemsize:
        return SymbolTable()
    sections = table(content, SECTION_HEADER, elf["e_shoff"], elf["e_shnum"])
    for section in sections[sections["sh_type"] == SHT_SYMTAB]:
        if section["sh_link"] < len(sections):
            strings = sections[section["sh_link"]]
            start, end = int(strings["sh_offset"]), int(strings["sh_offset"]) + int(strings["sh_size"])
            count = int(section["sh_size"]) // SYMBOL.itemsize
            rows = table(content, SYMBOL, int(section["sh_offset"]), min(count, SYMBOLS_MAX))
            return SymbolTable(decode_symbols(rows, content[start:end]))
    return SymbolTable()


def decode_symbols(rows: npt.NDArray[Any], strings: bytes) -> list[Symbol]:
    """Those with a name that ends within reason. What a terminal would obey in a name is escaped."""
    defined = (rows["st_shndx"] != SHN_UNDEF) & (rows["st_name"] != 0)
    found = []
    for row in rows[defined & np.isin(rows["st_info"] & SYMBOL_TYPE_MASK, NAMED_SYMBOL_TYPES)]:
        start = int(row["st_name"])
        end = strings.find(b"\0", start, start + SYMBOL_NAME_BYTES_MAX)
        name = strings[start:end].decode("utf-8", "backslashreplace") if end >= 0 else ""
        if name:
            found.append(Symbol(int(row["st_value"]), int(row["st_size"]), printable(name)))
    return found


def printable(name: str) -> str:
    return name if name.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
