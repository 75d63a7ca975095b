"""The state a program is entered in, read back as a multiboot kernel would."""

from __future__ import annotations

from ctypes import sizeof

import pytest

from ringfence.errors import BadInput
from vmm._core import lib
from vmm.layout_spec import VcpuState
from vmx.boot import CONVENTIONAL_BASE, CONVENTIONAL_TOP, STACK_BYTES, enter_program, free_conventional
from vmx.loader import Image, Piece
from vmx.multiboot_spec import Info, MemoryMapEntry

MIB = 1 << 20


class Memory:
    ram_pages = 32 * MIB >> 12

    def __init__(self) -> None:
        self.bytes = bytearray(32 * MIB)

    def write(self, gpa: int, data: bytes) -> None:
        self.bytes[gpa : gpa + len(data)] = data

    def text(self, gpa: int) -> bytes:
        return bytes(self.bytes[gpa : self.bytes.index(0, gpa)])


def image(*pieces: Piece, multiboot: bool = True) -> Image:
    return Image("kernel", pieces or (Piece(MIB, b"\xf4", 4096),), MIB, multiboot)


def test_a_multiboot_kernel_finds_what_it_was_promised() -> None:
    memory, state = Memory(), VcpuState()
    enter_program(state, memory, image(), "one two=3")
    info = Info.from_buffer_copy(memory.bytes, state.r[lib.EBX])
    assert (state.r[lib.EAX], state.eip) == (0x2BADB002, MIB)
    assert memory.text(info.cmdline) == b"kernel one two=3"
    assert memory.text(info.boot_loader_name) == b"Ringfence"
    assert (info.mem_lower, info.mem_upper, info.mods_count) == (639, 31 * 1024, 0)
    rows = []
    at = info.mmap_addr
    while at < info.mmap_addr + info.mmap_length:
        row = MemoryMapEntry.from_buffer_copy(memory.bytes, at)
        rows.append((row.base, row.length, row.kind))
        at += row.size + 4
    assert (0, CONVENTIONAL_TOP, 1) in rows
    assert (MIB, 31 * MIB, 1) in rows
    assert sizeof(MemoryMapEntry) == 24


def test_a_program_that_is_entered_again_finds_its_bss_clear() -> None:
    memory = Memory()
    memory.write(MIB, b"\xff" * 3 * MIB)
    enter_program(VcpuState(), memory, image(Piece(MIB, b"\xf4", 2 * MIB + 1)), "")
    assert memory.bytes[MIB : 3 * MIB + 2] == b"\xf4" + bytes(2 * MIB) + b"\xff"


def test_the_processor_is_in_flat_protected_mode_with_interrupts_off() -> None:
    state = VcpuState()
    enter_program(state, Memory(), image(), "")
    assert state.cr0 & 0x80000001 == 1
    assert state.eflags & (lib.FL_IF | lib.FL_VM) == 0
    for index in range(6):
        segment = state.seg[index]
        assert (segment.base, segment.limit) == (0, 0xFFFFFFFF)
        assert bool(segment.attr & lib.SEG_CODE) == (index == lib.CS)
        assert segment.attr & (lib.SEG_P | lib.SEG_DB) == lib.SEG_P | lib.SEG_DB


def test_a_plain_elf_gets_no_information() -> None:
    state = VcpuState()
    enter_program(state, Memory(), image(multiboot=False), "")
    assert (state.r[lib.EAX], state.r[lib.EBX]) == (0, 0)
    assert CONVENTIONAL_BASE < state.r[lib.ESP] <= CONVENTIONAL_TOP


def test_what_the_loader_writes_never_overlaps_the_image() -> None:
    for gpa in range(0, CONVENTIONAL_TOP, 0x5000):
        program = image(Piece(gpa, b"x", 0x9000), Piece(0x80000, b"", CONVENTIONAL_TOP - 0x80000))
        start = free_conventional(program, 0x3000)
        assert not program.overlaps(start, 0x3000)


def test_an_image_that_fills_conventional_memory_leaves_no_room() -> None:
    with pytest.raises(BadInput, match="free below"):
        enter_program(VcpuState(), Memory(), image(Piece(0x2000, b"", MIB)), "")


def test_a_command_line_has_a_limit() -> None:
    with pytest.raises(BadInput, match="--append"):
        enter_program(VcpuState(), Memory(), image(), "x" * 20000)
    state = VcpuState()
    enter_program(state, Memory(), image(), "x" * 16000)
    assert state.r[lib.ESP] - state.r[lib.EBX] >= STACK_BYTES
