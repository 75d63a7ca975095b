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
from ctypes import sizeof
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.construct.lib.container import Container
from elftools.elf.elffile import ELFFile

from ringfence.errors import BadInput
from vmx.multiboot_spec import (
    HEADER_ALIGN,
    HEADER_MAGIC,
    HEADER_SEARCH_BYTES,
    KNOWN_REQUIREMENTS,
    REQUIREMENTS,
    SHORT_HEADER_BYTES,
    Header,
    HeaderFlag,
)
from vmx.symbols import Symbol, SymbolTable

PROGRAM_BYTES_MAX = 1 << 30
FIRMWARE_UNIT = 64 << 10
FIRMWARE_BYTES_MAX = 4 << 20
ELF_SYMBOL = np.dtype(
    [("name", "<u4"), ("value", "<u4"), ("size", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2")]
)
NAMED_SYMBOL_TYPES = (0, 1, 2)  # NOTYPE, OBJECT, FUNC

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
class Image:
    """A program ready to be put into memory. `multiboot` tells how it wants to be entered."""

    name: str
    pieces: tuple[Piece, ...]
    entry: int
    multiboot: bool
    symbols: SymbolTable = field(default_factory=SymbolTable)

    def overlaps(self, gpa: int, size: int) -> bool:
        return any(piece.gpa < gpa + size and gpa < piece.gpa + piece.size for piece in self.pieces)


def load_program(path: Path, memory_bytes: int) -> Image:
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
        pieces, entry = address_pieces(where, content, header), int(header.entry_addr)
    else:
        pieces, entry = segment_pieces(where, content, elf), int(elf["e_entry"])
    for piece in pieces:
        if piece.gpa + piece.size > memory_bytes:
            raise BadInput(
                where, f"segment at {piece.gpa:#x}, {piece.size:#x} bytes",
                f"inside the machine's memory of {memory_bytes >> 20} MiB", f"end at {piece.gpa + piece.size:#x}",
            )  # fmt: skip
    if not any(piece.gpa <= entry < piece.gpa + piece.size for piece in pieces):
        raise BadInput(where, "entry point", "inside a loaded segment", f"{entry:#x}")
    return Image(path.name, tuple(pieces), entry, header is not None, read_symbols(content, elf))


def load_firmware(path: Path) -> bytes:
    """A raw firmware image: a multiple of 64 KiB, at most 4 MiB. Raises BadInput."""
    content = read_file(path, FIRMWARE_BYTES_MAX, "firmware")
    if not content or len(content) % FIRMWARE_UNIT:
        raise BadInput(str(path), "firmware size", "a multiple of 64 KiB", f"{len(content)} bytes")
    return content


def read_file(path: Path, limit: int, what: str) -> bytes:
    """A whole regular file of at most `limit` bytes."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise BadInput(str(path), "file type", f"a regular file with {what}", stat.filemode(facts.st_mode))
            if facts.st_size > limit:
                raise BadInput(str(path), "size", f"{what} of at most {limit} bytes", f"{facts.st_size}")
            return file.read()
    except OSError as error:
        raise BadInput(str(path), "cannot read", f"a file with {what}", str(error.strerror)) from error


def find_multiboot(content: bytes) -> Header | None:
    """The multiboot header: 4-byte aligned, in the first 8 KiB, its three words adding up to 0."""
    head = content[:HEADER_SEARCH_BYTES]
    magic = HEADER_MAGIC.to_bytes(4, "little")
    offset = head.find(magic)
    while offset >= 0:
        if offset % HEADER_ALIGN == 0 and offset + SHORT_HEADER_BYTES <= len(head):
            header = Header.from_buffer_copy(content[offset : offset + sizeof(Header)].ljust(sizeof(Header), b"\0"))
            if (header.magic + header.flags + header.checksum) & 0xFFFFFFFF == 0:
                return header
        offset = head.find(magic, offset + 1)
    return None


def parse_elf(where: str, content: bytes) -> ELFFile:
    """An ELF file that an i386 can run, its header checked."""
    if content[:4] != b"\x7fELF":
        raise BadInput(where, "magic", "an ELF executable (7f 45 4c 46)", content[:4].hex(" ") or "an empty file")
    if len(content) < 52:
        raise BadInput(where, "ELF header", "52 bytes", f"a file of {len(content)}")
    if content[4] != 1:
        raise BadInput(where, "ELF class", "32-bit", {2: "64-bit"}.get(content[4], f"class {content[4]}"))
    if content[5] != 1:
        raise BadInput(where, "ELF byte order", "little-endian", {2: "big-endian"}.get(content[5], str(content[5])))
    try:
        elf = ELFFile(io.BytesIO(content))
        header: Container = elf.header
    except PARSER_ERRORS as error:
        raise BadInput(where, "ELF header", "a well-formed header", str(error) or type(error).__name__) from error
    if header["e_machine"] != "EM_386":
        raise BadInput(where, "ELF machine", "EM_386", str(header["e_machine"]))
    if header["e_type"] != "ET_EXEC":
        raise BadInput(where, "ELF type", "ET_EXEC, linked to fixed addresses", str(header["e_type"]))
    table_end = header["e_phoff"] + header["e_phnum"] * 32
    if header["e_phnum"] and (header["e_phentsize"] != 32 or table_end > len(content)):
        raise BadInput(where, "program headers", f"32 bytes each, within {len(content)} bytes", f"end at {table_end}")
    return elf


def segment_pieces(where: str, content: bytes, elf: ELFFile) -> list[Piece]:
    """One piece for each PT_LOAD segment that occupies memory."""
    pieces = []
    for index in range(elf["e_phnum"]):
        start = elf["e_phoff"] + 32 * index
        kind, offset, _vaddr, paddr, filesz, memsz = struct.unpack_from("<6I", content, start)
        if kind != 1 or not memsz:
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


def address_pieces(where: str, content: bytes, header: Header) -> list[Piece]:
    """The one piece that the address fields of a multiboot header describe. [Multiboot 3.1.3]"""
    at = content.find(bytes(header)[:SHORT_HEADER_BYTES])
    start = at - (header.header_addr - header.load_addr)
    length = (header.load_end_addr or header.load_addr + len(content) - start) - header.load_addr
    if header.load_addr > header.header_addr or start < 0 or length <= 0 or start + length > len(content):
        raise BadInput(where, "multiboot addresses", "a range inside the file", f"{length} bytes from offset {start}")
    size = max(length, (header.bss_end_addr or header.load_addr + length) - header.load_addr)
    return [Piece(header.load_addr, content[start : start + length], size)]


def read_symbols(content: bytes, elf: ELFFile) -> SymbolTable:
    """Names from the ELF symbol table; empty when there is none or it is damaged, which stops nobody from running."""
    try:
        table = elf.get_section_by_name(".symtab")
        if table is None:
            return SymbolTable()
        strings = elf.get_section(table["sh_link"])
        return SymbolTable(decode_symbols(section_bytes(content, table), section_bytes(content, strings)))
    except PARSER_ERRORS:
        return SymbolTable()


def section_bytes(content: bytes, section: Any) -> bytes:
    return content[section["sh_offset"] : section["sh_offset"] + section["sh_size"]]


def decode_symbols(table: bytes, strings: bytes) -> list[Symbol]:
    rows = np.frombuffer(table[: len(table) // ELF_SYMBOL.itemsize * ELF_SYMBOL.itemsize], ELF_SYMBOL)
    rows = rows[(rows["shndx"] != 0) & (rows["name"] != 0) & np.isin(rows["info"] & 0xF, NAMED_SYMBOL_TYPES)]
    found = []
    for row in rows:
        start = int(row["name"])
        end = strings.find(b"\0", start)
        name = strings[start:end] if end >= 0 else b""
        if name:
            found.append(Symbol(int(row["value"]), int(row["size"]), name.decode("utf-8", "backslashreplace")))
    return found
