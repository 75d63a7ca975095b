"""ELF files made by hand for the loader's tests, and programs assembled with the host's tools."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

ELF_HEADER_BYTES, PROGRAM_HEADER_BYTES = 52, 32
BASE = 0x100000


def elf(
    code: bytes = b"\xf4" * 16, *, paddr: int = BASE, entry: int | None = None, filesz: int | None = None,
    memsz: int | None = None, machine: int = 3, kind: int = 2, bits: int = 1, order: int = 1, offset: int | None = None,
    segments: int = 1, phentsize: int = PROGRAM_HEADER_BYTES, second: int | None = None,
) -> bytes:  # fmt: skip
    """A 32-bit ELF with one PT_LOAD segment; every field can be set wrong. `second`: the code goes there too."""
    start = ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES
    ident = b"\x7fELF" + bytes([bits, order, 1]) + bytes(9)
    header = ident + struct.pack(
        "<HHIIIIIHHHHHH", kind, machine, 1, paddr if entry is None else entry, ELF_HEADER_BYTES, 0, 0,
        ELF_HEADER_BYTES, phentsize, segments, 40, 0, 0,
    )  # fmt: skip
    program = struct.pack(
        "<8I", 1, start if offset is None else offset, paddr, paddr, len(code) if filesz is None else filesz,
        len(code) if memsz is None else memsz, 5, 4096,
    )  # fmt: skip
    if second is not None:
        program += struct.pack("<8I", 1, start, second, second, len(code), len(code), 5, 4096)
    return header + program + code


def multiboot_header(flags: int = 3, checksum: int | None = None, addresses: bytes = b"") -> bytes:
    magic = 0x1BADB002
    return (
        struct.pack("<III", magic, flags, -(magic + flags) & 0xFFFFFFFF if checksum is None else checksum) + addresses
    )


def assemble(source: str, path: Path) -> Path:
    """Link GNU assembler source as a static i386 program at BASE."""
    command = ["gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,-z,noexecstack"]
    command += [f"-Wl,-Ttext-segment={BASE:#x}", "-x", "assembler", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True, capture_output=True)
    return path
