"""The Linux loader: what a kernel finds, by the documented offsets, and the one line for each bad file.

Offsets in hex are those of the kernel's boot.rst and zero-page.rst, so the layouts under test are not their own oracle.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from hw.fw_cfg_spec import E820Type
from ringfence.errors import BadInput, BadOption, RingfenceError
from tests.vmx.machines import machine, run
from tests.vmx.programs import elf
from vmm._core import lib
from vmm.layout_spec import VcpuState
from vmm.memory import GuestMemory
from vmx.linux import Initrd, LinuxImage, enter_linux, plan, read_bzimage
from vmx.stop import StopKind

MIB = 1 << 20
SETUP_BYTES = 1024
ROWS = [(0, 0x9FC00, E820Type.RAM), (0xF0000, 0x10000, E820Type.RESERVED), (MIB, 63 * MIB, E820Type.RAM)]


def bzimage(
    code: bytes = b"\xf4" * 64, *, version: int = 0x20F, loadflags: int = 1, code32_start: int = MIB,
    initrd_addr_max: int = 0x7FFFFFFF, kernel_alignment: int = 0x1000000, relocatable: int = 1, xloadflags: int = 0,
    cmdline_size: int = 2047, pref_address: int = 16 * MIB, init_size: int = 0x100000, jump: int = 0x6A,
    setup_sects: int = 1, syssize: int | None = None, boot_flag: int = 0xAA55, magic: bytes = b"HdrS",
) -> bytes:  # fmt: skip
    """A kernel file with one setup sector behind the boot sector; every field can be set wrong."""
    image = bytearray(SETUP_BYTES)
    paragraphs = -(-len(code) // 16)
    for offset, layout, value in (
        (0x1F1, "<B", setup_sects), (0x1F4, "<I", paragraphs if syssize is None else syssize), (0x1FE, "<H", boot_flag),
        (0x200, "<B", 0xEB), (0x201, "<B", jump), (0x202, "<4s", magic), (0x206, "<H", version),
        (0x211, "<B", loadflags), (0x214, "<I", code32_start), (0x22C, "<I", initrd_addr_max),
        (0x230, "<I", kernel_alignment), (0x234, "<B", relocatable), (0x236, "<H", xloadflags),
        (0x238, "<I", cmdline_size), (0x258, "<Q", pref_address), (0x260, "<I", init_size), (0x264, "<I", 0x190),
        (0x26C, "<4s", b"code"),
    ):  # fmt: skip
        struct.pack_into(layout, image, offset, value)
    return bytes(image) + code.ljust(paragraphs * 16, b"\0")


def read(tmp_path: Path, content: bytes) -> LinuxImage:
    path = tmp_path / "kernel"
    path.write_bytes(content)
    return LinuxImage.read(path)


def initrd(tmp_path: Path, content: bytes) -> Initrd:
    path = tmp_path / "initrd"
    path.write_bytes(content)
    return Initrd.find(path)


def loaded(image: LinuxImage, command_line: str = "", ramdisk: Initrd | None = None, rsdp: int = 0) -> dict[int, bytes]:
    """The planned pieces by address."""
    return {piece.gpa: piece.data for piece in plan(image, command_line, ROWS, ramdisk, rsdp).pieces}


def zero_page(image: LinuxImage, command_line: str = "", ramdisk: Initrd | None = None, rsdp: int = 0) -> bytes:
    (page,) = [data for data in loaded(image, command_line, ramdisk, rsdp).values() if len(data) == 4096]
    return page


def field(page: bytes, offset: int, layout: str) -> int:
    return int(struct.unpack_from("<" + layout, page, offset)[0])


def test_a_relocatable_kernel_goes_where_it_prefers_to_be(tmp_path: Path) -> None:
    code = os.urandom(1000)
    image = read(tmp_path, bzimage(code))
    assert (image.entry, image.top) == (16 * MIB, 17 * MIB)
    assert loaded(image)[16 * MIB].rstrip(b"\0") == code.rstrip(b"\0")


def test_another_goes_to_1_mib_and_is_entered_at_code32_start(tmp_path: Path) -> None:
    image = read(tmp_path, bzimage(relocatable=0, code32_start=MIB + 16))
    assert (image.entry, image.top) == (MIB + 16, 17 * MIB)
    assert MIB in loaded(image)


def test_fields_count_from_the_version_that_brought_them(tmp_path: Path) -> None:
    image = read(tmp_path, bzimage(version=0x202, xloadflags=1, syssize=7))
    assert (image.entry, image.cmdline_size, image.initrd_addr_max) == (MIB, 255, 0x37FFFFFF)
    image = read(tmp_path, bzimage(version=0x206, cmdline_size=300, initrd_addr_max=0x12345678))
    assert (image.cmdline_size, image.initrd_addr_max) == (300, 0x12345678)
    assert image.entry == 16 * MIB, "no pref_address yet: the first place that is aligned"


def test_the_setup_header_is_copied_to_its_end_and_no_further(tmp_path: Path) -> None:
    content = bzimage()
    page = zero_page(read(tmp_path, content))
    told = {*range(0x210, 0x211), *range(0x214, 0x220), *range(0x228, 0x22C)}  # what the loader fills in
    kept = [offset for offset in range(0x1F1, 0x26C) if offset not in told]
    assert all(page[offset] == content[offset] for offset in kept)
    assert page[0x26C:0x2D0] == bytes(0x2D0 - 0x26C)
    assert field(zero_page(read(tmp_path, bzimage(jump=0x62))), 0x264, "I") == 0, "header ends before"


def test_the_zero_page_tells_what_a_boot_loader_tells(tmp_path: Path) -> None:
    ramdisk = initrd(tmp_path, b"x" * 5000)
    image = read(tmp_path, bzimage())
    page = zero_page(image, "console=ttyS0", ramdisk, rsdp=0xF0010)
    assert page[0x210] == 0xFF, "type_of_loader"
    assert field(page, 0x214, "I") == image.entry
    assert field(page, 0x1FE, "H") == 0xAA55 and page[0x202:0x206] == b"HdrS"
    assert page[0x1EF] == 0, "sentinel"
    assert field(page, 0x70, "Q") == 0xF0010, "acpi_rsdp_addr"
    assert loaded(image, "console=ttyS0")[field(page, 0x228, "I")] == b"console=ttyS0\0"
    assert field(page, 0x21C, "I") == 5000
    assert field(page, 0x218, "I") == 64 * MIB - 8192
    rows = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * index) for index in range(page[0x1E8])]
    assert rows == [(start, length, int(kind)) for start, length, kind in ROWS]
    assert field(page, 0x1E0, "I") == 63 << 10, "alt_mem_k"


def test_the_screen_is_80_by_25_text(tmp_path: Path) -> None:
    page = zero_page(read(tmp_path, bzimage()))
    assert (page[0x06], page[0x07], page[0x0E], page[0x0F]) == (3, 80, 25, 1)
    assert field(page, 0x10, "H") == 16, "scan lines of a character"


def test_the_initrd_is_as_high_as_the_kernel_allows(tmp_path: Path) -> None:
    ramdisk = initrd(tmp_path, bytes(10000))
    below = plan(read(tmp_path, bzimage(initrd_addr_max=32 * MIB - 1)), "", ROWS, ramdisk)
    assert below.initrd_gpa == 32 * MIB - 12288
    # Nothing is free above the kernel: below it, then.
    tight = plan(read(tmp_path, bzimage(init_size=48 * MIB - 4096)), "", ROWS, ramdisk)
    assert tight.initrd_gpa == 16 * MIB - 12288


def test_the_initrd_reaches_memory_whole(tmp_path: Path) -> None:
    content = os.urandom(3 * MIB + 17)
    layout = plan(read(tmp_path, bzimage()), "", ROWS, initrd(tmp_path, content))
    with GuestMemory(64 * MIB >> 12) as memory:
        memory.map_ram(0, 64 * MIB >> 12)
        enter_linux(VcpuState(), memory, layout)
        assert memory.read(layout.initrd_gpa, len(content)) == content


def test_memory_behind_a_segment_is_cleared_again(tmp_path: Path) -> None:
    layout = plan(read(tmp_path, elf(b"\xf4" * 16, memsz=3 * MIB)), "", ROWS)
    with GuestMemory(64 * MIB >> 12) as memory:
        memory.map_ram(0, 64 * MIB >> 12)
        memory.write(MIB, b"\xcc" * 4 * MIB)
        enter_linux(VcpuState(), memory, layout)
        assert memory.read(MIB, 4 * MIB) == b"\xf4" * 16 + bytes(3 * MIB - 16) + b"\xcc" * MIB


def test_the_processor_is_as_the_32_bit_protocol_says(tmp_path: Path) -> None:
    layout = plan(read(tmp_path, bzimage()), "", ROWS)
    state = VcpuState()
    state.r[lib.EBX] = state.r[lib.EBP] = state.r[lib.EDI] = 0xDEADBEEF
    with GuestMemory(64 * MIB >> 12) as memory:
        memory.map_ram(0, 64 * MIB >> 12)
        enter_linux(state, memory, layout)
        page = memory.read(state.r[lib.ESI], 4096)
        table = memory.read(state.gdtr.base, state.gdtr.limit + 1)
    assert page[0x202:0x206] == b"HdrS"
    assert (state.r[lib.EBX], state.r[lib.EBP], state.r[lib.EDI], state.eip) == (0, 0, 0, 16 * MIB)
    assert state.cr0 & 0x80000001 == 1 and not state.eflags & lib.FL_IF
    assert [state.seg[index].selector for index in (lib.CS, lib.DS, lib.ES, lib.SS)] == [0x10, 0x18, 0x18, 0x18]
    assert all((s.base, s.limit) == (0, 0xFFFFFFFF) for s in state.seg[:6])
    # Present, ring 0, 32-bit, 4 GiB; the one executable and readable, the other writable, both accessed.
    assert table[0x10:0x18] == bytes.fromhex("ffff0000009bcf00")
    assert table[0x18:0x20] == bytes.fromhex("ffff00000093cf00")


def test_a_kernel_runs_with_what_it_was_given(tmp_path: Path) -> None:
    source = """
        mov $0x18, %eax             # __BOOT_DS and __BOOT_CS are in the GDT
        mov %ax, %ds
        ljmp $0x10, $4f + 0x200000
    4:
        mov 0x228(%esi), %ebx       # cmd_line_ptr
        mov $0x3f8, %dx
    1:  mov (%ebx), %al
        test %al, %al
        jz 2f
        out %al, (%dx)
        inc %ebx
        jmp 1b
    2:  mov 0x218(%esi), %ebx       # ramdisk_image
        mov (%ebx), %al
        out %al, $0xf4
    3:  jmp 3b
    """
    objects = tmp_path / "kernel.o"
    flat = tmp_path / "kernel.bin"
    subprocess.run(["gcc", "-m32", "-c", "-x", "assembler", "-", "-o", objects], input=source, text=True, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", objects, flat], check=True)
    image = read(tmp_path, bzimage(flat.read_bytes(), pref_address=2 * MIB, kernel_alignment=MIB))
    with machine() as made:
        rows = [(0, 0x9FC00, E820Type.RAM), (MIB, 15 * MIB, E820Type.RAM)]
        layout = plan(image, "root=none quiet", rows, initrd(tmp_path, b"\x2a" + bytes(99)))
        enter_linux(made.vcpu.state, made.memory, layout)
        stop = run(made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 42)
        assert made.serial.output == b"root=none quiet"  # type: ignore[attr-defined]


def test_a_vmlinux_is_entered_at_its_entry_point(tmp_path: Path) -> None:
    image = read(tmp_path, elf(b"\x90\xf4", paddr=16 * MIB, entry=16 * MIB + 1, memsz=2 * MIB))
    assert (image.entry, image.first, image.top) == (16 * MIB + 1, 16 * MIB, 18 * MIB)
    page = zero_page(image, "quiet")
    assert page[0x202:0x206] == b"HdrS"
    assert field(page, 0x206, "H") >= 0x20C
    assert page[0x211] & 1, "LOADED_HIGH"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "setup header: expected at least 620 bytes, found a file of 0"),
        (b"MZ" + bytes(2000), "magic: expected a bzImage .*, found 0000h"),
        (bzimage(boot_flag=0), "magic: expected a bzImage"),
        (bzimage(magic=b"HdrX"), "magic: .*found aa55h and 48 64 72 58"),
        (bzimage(version=0x201), "boot protocol: expected 2.02 or later, found 2.01"),
        (bzimage(loadflags=0), "loadflags: expected a bzImage, .*found a zImage"),
        (bzimage(xloadflags=1), "kernel: expected one for i386, found a 64-bit kernel"),
        (bzimage(b"\xf4" * 4096)[:3000], r"kernel \(truncated file\): expected 5120 bytes \(1024 of setup"),
        (bzimage(syssize=0), r"kernel \(truncated file\)"),
        (bzimage(setup_sects=64), r"kernel \(truncated file\)"),
        (bzimage(version=0x202)[:SETUP_BYTES], r"kernel \(truncated file\): expected more than 1024 bytes"),
        (bzimage(relocatable=0, code32_start=0x90000), "code32_start: expected inside the kernel"),
        (bzimage(pref_address=0), "kernel's memory: expected a range from 1 MiB"),
        (bzimage(pref_address=1 << 40), "kernel's memory"),
        (bzimage(kernel_alignment=0xFFFFFFFF), "kernel's memory: .*found 0xffffffff to 0x1000fffff"),
        (bzimage(init_size=0xFFFFFFFF), "kernel's memory"),
        (elf(bits=2), "ELF class: expected 32-bit, found 64-bit"),
        (elf(paddr=0x1000), "segments: expected from 0x100000 up"),
        (elf(entry=MIB - 1), "entry point: expected inside a loaded segment"),
    ],
)
def test_a_bad_kernel_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(tmp_path, content)


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    image = read(tmp_path, bzimage(init_size=100 * MIB))
    with pytest.raises(BadInput, match=r"memory: expected at least 116 MiB \(--mem\), found 64 MiB"):
        plan(image, "", ROWS)
    image = read(tmp_path, bzimage(initrd_addr_max=20 * MIB - 1))
    with pytest.raises(BadInput, match=r"initrd: size: expected at most 3072 KiB.*0x1400000, found 16385 KiB"):
        plan(image, "", ROWS, initrd(tmp_path, bytes(16 * MIB + 1)))
    with pytest.raises(BadOption, match="--append: length: expected at most 2047 bytes, found 2048"):
        plan(image, "x" * 2048, ROWS)
    plan(image, "x" * 2047, ROWS)
    with pytest.raises(BadOption, match="NUL"):
        plan(image, "quiet\0", ROWS)


def test_a_bad_initrd_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="missing: cannot read: expected a file with an initrd, found No such file"):
        Initrd.find(tmp_path / "missing")
    with pytest.raises(BadInput, match="file type: expected a regular file"):
        Initrd.find(tmp_path)
    with pytest.raises(BadInput, match="empty file"):
        initrd(tmp_path, b"")
    ramdisk = initrd(tmp_path, bytes(9000))
    layout = plan(read(tmp_path, bzimage()), "", ROWS, ramdisk)
    ramdisk.path.write_bytes(bytes(5000))
    with GuestMemory(64 * MIB >> 12) as memory:
        memory.map_ram(0, 64 * MIB >> 12)
        with pytest.raises(BadInput, match=r"size \(the file has changed\): expected 9000 bytes, found 5000"):
            enter_linux(VcpuState(), memory, layout)


def test_no_header_makes_the_loader_stumble(tmp_path: Path) -> None:
    rng = random.Random(11)
    good = bzimage()
    ramdisk = initrd(tmp_path, bytes(5000))
    for _ in range(1500):
        content = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            content[rng.randrange(0x1F1, 0x26C)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        with suppress(RingfenceError):
            image = read_bzimage("kernel", bytes(content))
            layout = plan(image, "quiet", ROWS, ramdisk)
            assert all(any(start <= p.gpa and p.gpa + p.size <= start + length for start, length, kind in ROWS
                           if kind == E820Type.RAM) for p in layout.pieces)  # fmt: skip
