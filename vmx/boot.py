"""The state in which a program begins to run.

A program is entered as Multiboot 1 says: flat 32-bit segments, paging off, interrupts off, A20 open, EAX = 2BADB002h,
EBX = the information structure. A plain ELF gets the same processor state with EAX = EBX = 0. Beyond what Multiboot
promises, ESP is the top of a 4 KiB stack in conventional memory, and the selectors are those of a GDT that does not
exist: GDTR and IDTR are empty, so a segment load before LGDT faults.
Source: Multiboot Specification 0.6.96, section 3.2.
"""

from __future__ import annotations

import os
from ctypes import sizeof
from typing import Protocol

from ringfence.errors import BadInput
from vmm._core import lib
from vmm.layout_spec import VcpuState
from vmx.loader import Image
from vmx.multiboot_spec import LOADED_MAGIC, MEMORY_RESERVED, MEMORY_USABLE, Info, InfoFlag, MemoryMapEntry

LOADER_NAME = b"Ringfence"
ZEROES = 1 << 20  # written at a time
CONVENTIONAL_TOP = 0x9FC00
CONVENTIONAL_BASE = 0x1000
HIGH_MEMORY = 0x100000
SYSTEM_ROM = 0xF0000
STACK_BYTES = 0x1000
COMMAND_LINE_BYTES_MAX = 0x4000
CODE_SELECTOR, DATA_SELECTOR = 0x08, 0x10


class Memory(Protocol):
    """Guest physical memory."""

    @property
    def ram_pages(self) -> int: ...

    def write(self, gpa: int, data: bytes) -> None: ...


def enter_program(state: VcpuState, memory: Memory, image: Image, command_line: str) -> None:
    """Load the image and set the vCPU up for it. Raises BadInput when no room is left for what it is told."""
    for piece in image.pieces:
        memory.write(piece.gpa, piece.data)
        for at in range(piece.gpa + len(piece.data), piece.gpa + piece.size, ZEROES):  # a reset leaves memory as it was
            memory.write(at, bytes(min(ZEROES, piece.gpa + piece.size - at)))
    text = os.fsencode(f"{image.name} {command_line}".strip())
    if len(text) > COMMAND_LINE_BYTES_MAX:
        raise BadInput("--append", "length", f"at most {COMMAND_LINE_BYTES_MAX} bytes", f"{len(text)}")
    memory_bytes = memory.ram_pages << 12
    info_bytes = len(build_info(0, text, memory_bytes))
    info_gpa = free_conventional(image, info_bytes + STACK_BYTES)
    memory.write(info_gpa, build_info(info_gpa, text, memory_bytes))
    flat_protected_mode(state)
    state.r[lib.ESP] = (info_gpa + info_bytes + STACK_BYTES) & ~0xF
    state.eip = image.entry
    state.r[lib.EAX] = LOADED_MAGIC if image.multiboot else 0
    state.r[lib.EBX] = info_gpa if image.multiboot else 0


def free_conventional(image: Image, size: int) -> int:
    """The highest 16-byte aligned place of `size` bytes in conventional memory that the image leaves free."""
    ends = [CONVENTIONAL_TOP, *(piece.gpa for piece in image.pieces if piece.gpa < CONVENTIONAL_TOP)]
    for end in sorted(ends, reverse=True):
        start = end - size & ~0xF
        if start >= CONVENTIONAL_BASE and not image.overlaps(start, size):
            return start
    raise BadInput(image.name, "segments", f"{size} bytes free below {CONVENTIONAL_TOP:#x}", "none")


def memory_map(memory_bytes: int) -> list[tuple[int, int, int]]:
    """(base, length, kind) of a PC with this much RAM."""
    return [
        (0, CONVENTIONAL_TOP, MEMORY_USABLE),
        (CONVENTIONAL_TOP, 0xA0000 - CONVENTIONAL_TOP, MEMORY_RESERVED),
        (SYSTEM_ROM, HIGH_MEMORY - SYSTEM_ROM, MEMORY_RESERVED),
        (HIGH_MEMORY, memory_bytes - HIGH_MEMORY, MEMORY_USABLE),
    ]


def build_info(gpa: int, command_line: bytes, memory_bytes: int) -> bytes:
    """The information structure at `gpa`, followed by all that it points to."""
    rows = b"".join(
        bytes(MemoryMapEntry(sizeof(MemoryMapEntry) - 4, base, length, kind))
        for base, length, kind in memory_map(memory_bytes)
    )
    map_gpa = gpa + sizeof(Info)
    text_gpa = map_gpa + len(rows)
    info = Info(
        flags=int(InfoFlag.MEMORY | InfoFlag.CMDLINE | InfoFlag.MODULES | InfoFlag.MEMORY_MAP | InfoFlag.LOADER_NAME),
        mem_lower=CONVENTIONAL_TOP >> 10, mem_upper=memory_bytes - HIGH_MEMORY >> 10,
        cmdline=text_gpa, mods_count=0, mods_addr=0, mmap_length=len(rows), mmap_addr=map_gpa,
        boot_loader_name=text_gpa + len(command_line) + 1,
    )  # fmt: skip
    return bytes(info) + rows + command_line + b"\0" + LOADER_NAME + b"\0"


def flat_protected_mode(state: VcpuState) -> None:
    """From the reset state to 32-bit protected mode with 4 GiB segments, paging off."""
    state.cr0 = lib.CR0_PE | lib.CR0_ET
    data = lib.SEG_P | lib.SEG_S | lib.SEG_W | lib.SEG_A | lib.SEG_DB | lib.SEG_G
    for index in range(6):
        segment = state.seg[index]
        code = index == lib.CS
        segment.selector = CODE_SELECTOR if code else DATA_SELECTOR
        segment.base, segment.limit = 0, 0xFFFFFFFF
        segment.attr = data | (lib.SEG_CODE if code else 0)
    state.gdtr.base = state.gdtr.limit = state.idtr.base = state.idtr.limit = 0
    state.eflags = lib.FL_1
    state.cpl = 0
    state.a20_mask = 0xFFFFFFFF
