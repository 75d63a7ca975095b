"""Boots a Linux kernel as a boot loader would: a bzImage, or a plain vmlinux, by the 32-bit boot protocol.

    00010000  zero page: setup header, memory map, screen     ESI
    00011000  GDT with __BOOT_CS and __BOOT_DS
    00012000  command line
    LOAD      the kernel                                      EIP
    ...       as high as the kernel allows: the initrd

`LinuxImage` is what a file says, `plan` decides where everything goes, `enter_linux` writes it. Nothing here runs
real-mode code: the zero page tells the kernel what that would have asked the BIOS.
Not modelled: the 16-bit and 64-bit entries, zImage, EFI, setup_data.
Source: Linux, Documentation/arch/x86/boot.rst, cited as [boot].
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager
from ctypes import sizeof
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Interface

from hw.fw_cfg_spec import E820Type
from ringfence.errors import BadInput, BadOption
from vmm._core import lib
from vmm.layout_spec import VcpuState
from vmx.boot import flat_protected_mode
from vmx.elf_spec import ELFMAG
from vmx.linux_spec import (
    BOOT_CS,
    BOOT_DS,
    BOOT_FLAG,
    BOOT_GDT,
    CMDLINE_SIZE_DEFAULT,
    E820_MAX_ENTRIES,
    EXT_MEM_K_MAX,
    HEADER_MAGIC,
    HEADER_OFFSET,
    INITRD_ADDR_MAX_DEFAULT,
    JUMP_END,
    LOAD_HIGH,
    LOADER_UNKNOWN,
    PARAGRAPH,
    SECTOR,
    SETUP_SECTS_DEFAULT,
    TEXT_MODE_3,
    BootParams,
    E820Entry,
    LoadFlag,
    Protocol,
    SetupHeader,
    XLoadFlag,
)
from vmx.loader import PROGRAM_BYTES_MAX, Piece, parse_elf, read_file, read_symbols, segment_pieces
from vmx.symbols import SymbolTable

PAGE = 4096
ZERO_PAGE, GDT, COMMAND_LINE = 0x10000, 0x11000, 0x12000
COMMAND_LINE_BYTES_MAX = 0x8000
LOADER_TOP = COMMAND_LINE + COMMAND_LINE_BYTES_MAX
ZEROES = bytes(1 << 20)

MemoryRow = tuple[int, int, int]  # address, length, E820Type


class Memory(Interface):
    """Guest physical memory."""

    def write(self, gpa: int, data: bytes) -> None: ...

    def dma(self, gpa: int, length: int, write: bool) -> AbstractContextManager[list[memoryview]]: ...


@dataclass(frozen=True, slots=True)
class LinuxImage:
    """A kernel file, checked. It needs the memory `first`..`top` - 1 for itself until it has its own memory map."""

    where: str
    header: SetupHeader
    pieces: tuple[Piece, ...]
    entry: int
    first: int
    top: int
    symbols: SymbolTable = field(default_factory=SymbolTable)

    @classmethod
    def read(cls, path: Path) -> LinuxImage:
        """A bzImage of protocol 2.02 or later, or an ELF vmlinux; for i386. Raises BadInput."""
        content = read_file(path, PROGRAM_BYTES_MAX, "a kernel")
        return read_vmlinux(str(path), content) if content.startswith(ELFMAG) else read_bzimage(str(path), content)

    @property
    def initrd_addr_max(self) -> int:
        """The last address that the initrd may occupy. [boot: initrd_addr_max]"""
        known = self.header.version >= Protocol.INITRD_ADDR_MAX
        return int(self.header.initrd_addr_max) if known else INITRD_ADDR_MAX_DEFAULT

    @property
    def cmdline_size(self) -> int:
        """The longest command line, without its NUL. [boot: cmdline_size]"""
        known = self.header.version >= Protocol.CMDLINE_SIZE
        return min(int(self.header.cmdline_size) if known else CMDLINE_SIZE_DEFAULT, COMMAND_LINE_BYTES_MAX - 1)


@dataclass(frozen=True, slots=True)
class Initrd:
    """An initial RAM disk: a file, read when it is put into memory."""

    path: Path
    size: int

    @classmethod
    def find(cls, path: Path) -> Initrd:
        """Raises BadInput for what is no regular file with something in it."""
        try:
            facts = path.stat()
        except OSError as error:
            raise BadInput(str(path), "cannot read", "a file with an initrd", str(error.strerror)) from error
        if not stat.S_ISREG(facts.st_mode):
            raise BadInput(str(path), "file type", "a regular file with an initrd", stat.filemode(facts.st_mode))
        if not facts.st_size:
            raise BadInput(str(path), "size", "an initrd", "an empty file")
        return cls(path, facts.st_size)


@dataclass(frozen=True, slots=True)
class LinuxPlan:
    """Where everything goes: `pieces` with their bytes, and the initrd at `initrd_gpa`."""

    pieces: tuple[Piece, ...]
    entry: int
    symbols: SymbolTable
    initrd: Initrd | None = None
    initrd_gpa: int = 0


def read_bzimage(where: str, content: bytes) -> LinuxImage:
    """The protected-mode part of a bzImage, and where it wants to be."""
    header = read_header(where, content)
    start = ((header.setup_sects or SETUP_SECTS_DEFAULT) + 1) * SECTOR
    body = content[start:]
    if header.version >= Protocol.SYSSIZE_32:
        size = header.syssize * PARAGRAPH
        if not size or len(body) <= size - PARAGRAPH:  # the last paragraph may be cut short
            expected = f"{start + size} bytes ({start} of setup, {size} of kernel)" if size else "a kernel"
            raise BadInput(where, "kernel (truncated file)", expected, f"{len(content)} bytes")
        body = body[:size]
    elif not body:
        raise BadInput(where, "kernel (truncated file)", f"more than {start} bytes of setup", f"{len(content)} bytes")
    relocatable = header.version >= Protocol.RELOCATABLE and header.relocatable_kernel
    preferred = header.pref_address if header.version >= Protocol.PREF_ADDRESS else LOAD_HIGH
    alignment = max(1, header.kernel_alignment)
    load = -(-preferred // alignment) * alignment if relocatable else LOAD_HIGH
    # "init_size: linear contiguous memory starting at the kernel runtime start address"
    init_size = header.init_size if header.version >= Protocol.PREF_ADDRESS else 0
    top = max(load + len(body), (load if relocatable else preferred) + init_size)
    if load < LOAD_HIGH or top > 1 << 32:
        raise BadInput(where, "kernel's memory", "a range from 1 MiB to below 4 GiB", f"{load:#x} to {top:#x}")
    entry = load if relocatable else header.code32_start
    if not load <= entry < load + len(body):
        raise BadInput(where, "code32_start", f"inside the kernel, {load:#x} to {load + len(body):#x}", f"{entry:#x}")
    return LinuxImage(where, header, (Piece(load, body, len(body)),), entry, load, top)


def read_header(where: str, content: bytes) -> SetupHeader:
    """The setup header of a bzImage that this loader can boot; what its version does not define is 0."""
    if len(content) < HEADER_OFFSET + sizeof(SetupHeader):
        expected = f"at least {HEADER_OFFSET + sizeof(SetupHeader)} bytes"
        raise BadInput(where, "setup header", expected, f"a file of {len(content)}")
    header = SetupHeader.from_buffer_copy(content, HEADER_OFFSET)
    if header.boot_flag != BOOT_FLAG or header.header != HEADER_MAGIC:
        found = f"{header.boot_flag:04x}h and {header.header.to_bytes(4, 'little').hex(' ')}"
        raise BadInput(where, "magic", "a bzImage (AA55h at 1FEh, HdrS at 202h) or an ELF vmlinux", found)
    if header.version < Protocol.CMD_LINE_PTR:
        found = f"{header.version >> 8}.{header.version & 0xFF:02d}"
        raise BadInput(where, "boot protocol", "2.02 or later", found)
    if not header.loadflags & LoadFlag.LOADED_HIGH:
        raise BadInput(where, "loadflags", "a bzImage, loaded at 1 MiB", "a zImage, loaded at 64 KiB")
    if header.version >= Protocol.XLOADFLAGS and header.xloadflags & XLoadFlag.KERNEL_64:
        raise BadInput(where, "kernel", "one for i386", "a 64-bit kernel")
    defined = JUMP_END + header.jump_length - HEADER_OFFSET
    if defined < sizeof(SetupHeader):  # "the end of the setup header can be calculated" so; beyond it is code
        whole = bytes(header)[:defined]
        header = SetupHeader.from_buffer_copy(whole + bytes(sizeof(SetupHeader) - defined))
    return header


def read_vmlinux(where: str, content: bytes) -> LinuxImage:
    """A kernel without setup part: its segments at their physical addresses, entered at e_entry."""
    elf = parse_elf(where, content)
    pieces = tuple(segment_pieces(where, content, elf))
    entry = int(elf["e_entry"])
    if not any(piece.gpa <= entry < piece.gpa + piece.size for piece in pieces):
        raise BadInput(where, "entry point", "inside a loaded segment", f"{entry:#x}")
    first, top = min(piece.gpa for piece in pieces), max(piece.gpa + piece.size for piece in pieces)
    if first < LOAD_HIGH:
        raise BadInput(where, "segments", f"from {LOAD_HIGH:#x} up, as a kernel's are", f"one at {first:#x}")
    header = SetupHeader(
        boot_flag=BOOT_FLAG, header=HEADER_MAGIC, version=Protocol.CURRENT, loadflags=LoadFlag.LOADED_HIGH,
        code32_start=entry, initrd_addr_max=INITRD_ADDR_MAX_DEFAULT, cmdline_size=2047,
    )  # fmt: skip
    return LinuxImage(where, header, pieces, entry, first, top, read_symbols(content, elf))


def plan(
    image: LinuxImage, command_line: str, memory: Sequence[MemoryRow], initrd: Initrd | None = None, rsdp: int = 0
) -> LinuxPlan:
    """Lay everything out in `memory`, the map that the kernel is told; `rsdp` is the ACPI root pointer's address or 0.

    Raises BadInput when the kernel or the initrd does not fit, BadOption for the command line.
    """
    ram = sorted((address, address + length) for address, length, kind in memory if kind == E820Type.RAM)
    ram_top = max((end for _, end in ram if end <= 1 << 32), default=0)
    if not any(start <= image.first and image.top <= end for start, end in ram):
        need = -(-image.top >> 20)
        raise BadInput(image.where, "memory", f"at least {need} MiB (--mem)", f"{ram_top >> 20} MiB")
    if not any(start <= ZERO_PAGE and end >= LOADER_TOP for start, end in ram):
        raise BadInput(image.where, "memory", f"RAM at {ZERO_PAGE:#x} to {LOADER_TOP:#x}", "none")
    text = os.fsencode(command_line)
    if len(text) > image.cmdline_size:
        raise BadOption(f"--append: length: expected at most {image.cmdline_size} bytes, found {len(text)}")
    if b"\0" in text:
        raise BadOption("--append: expected text, found a NUL")
    initrd_gpa = place_initrd(image, initrd, ram) if initrd is not None else 0
    zero_page = build_zero_page(image, memory, ram)
    zero_page.acpi_rsdp_addr = rsdp
    header = zero_page.hdr
    header.cmd_line_ptr = COMMAND_LINE
    header.ramdisk_image, header.ramdisk_size = initrd_gpa, initrd.size if initrd is not None else 0
    gdt = b"".join(descriptor.to_bytes(8, "little") for descriptor in BOOT_GDT)
    told = ((ZERO_PAGE, bytes(zero_page)), (GDT, gdt), (COMMAND_LINE, text + b"\0"))
    pieces = (*image.pieces, *(Piece(gpa, data, len(data)) for gpa, data in told))
    return LinuxPlan(pieces, image.entry, image.symbols, initrd, initrd_gpa)


def place_initrd(image: LinuxImage, initrd: Initrd, ram: Sequence[tuple[int, int]]) -> int:
    """The highest page from which the initrd fits: in RAM, at most up to initrd_addr_max, clear of the kernel."""
    limit = image.initrd_addr_max + 1
    for start, end in sorted(ram, reverse=True):
        low, high = max(start, LOAD_HIGH), min(end, limit)
        gaps = [(max(low, image.top), high), (low, min(high, image.first))]
        for bottom, top in gaps:
            gpa = (top - initrd.size) & ~(PAGE - 1)
            if gpa >= bottom:
                return gpa
    reach = min(max(end for _, end in ram), limit)
    free = max(0, reach - image.top)
    raise BadInput(
        str(initrd.path), "size", f"at most {free >> 10} KiB, which lie free between the kernel and {reach:#x}",
        f"{initrd.size + 1023 >> 10} KiB",
    )  # fmt: skip


def build_zero_page(image: LinuxImage, memory: Sequence[MemoryRow], ram: Sequence[tuple[int, int]]) -> BootParams:
    """boot_params: the file's header, the memory map, a colour text screen."""
    assert len(memory) <= E820_MAX_ENTRIES, f"{len(memory)} rows of memory"
    page = BootParams()
    page.hdr = image.header
    page.hdr.type_of_loader = LOADER_UNKNOWN
    page.hdr.code32_start = image.entry
    page.screen_info = TEXT_MODE_3
    extended_kib = max((end - start >> 10 for start, end in ram if start == LOAD_HIGH), default=0)
    page.screen_info.ext_mem_k = min(extended_kib, EXT_MEM_K_MAX)
    page.alt_mem_k = extended_kib
    page.e820_entries = len(memory)
    for index, (address, length, kind) in enumerate(memory):
        page.e820_table[index] = E820Entry(address, length, int(kind))
    return page


def enter_linux(state: VcpuState, memory: Memory, layout: LinuxPlan) -> None:
    """Write what was planned, and set the vCPU up for it, from its reset state. [boot: 32-bit Boot Protocol]

    Raises BadInput when the initrd is no longer what it was.
    """
    for piece in layout.pieces:
        memory.write(piece.gpa, piece.data)
        for gpa in range(piece.gpa + len(piece.data), piece.gpa + piece.size, len(ZEROES)):
            memory.write(gpa, ZEROES[: piece.gpa + piece.size - gpa])
    if layout.initrd is not None:
        read_into(memory, layout.initrd_gpa, layout.initrd)
    flat_protected_mode(state)
    for index in range(6):
        state.seg[index].selector = BOOT_CS if index == lib.CS else BOOT_DS
    state.gdtr.base, state.gdtr.limit = GDT, len(BOOT_GDT) * 8 - 1
    for register in range(8):
        state.r[register] = 0  # "%ebp, %edi and %ebx must be zero"
    state.r[lib.ESI] = ZERO_PAGE
    state.r[lib.ESP] = ZERO_PAGE
    state.eip = layout.entry


def read_into(memory: Memory, gpa: int, initrd: Initrd) -> None:
    """From the file straight into guest memory."""
    where = str(initrd.path)
    try:
        descriptor = os.open(initrd.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadInput(where, "cannot read", "a file with an initrd", str(error.strerror)) from error
    try:
        with memory.dma(gpa, initrd.size, True) as views:
            done = 0
            for view in views:
                at = 0
                while at < len(view):
                    count = os.preadv(descriptor, [view[at:]], done)
                    if not count:
                        raise BadInput(where, "size (the file has changed)", f"{initrd.size} bytes", f"{done}")
                    at, done = at + count, done + count
    except OSError as error:
        raise BadInput(where, "cannot read", f"{initrd.size} bytes", str(error.strerror)) from error
    finally:
        os.close(descriptor)
