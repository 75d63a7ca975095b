"""SeaBIOS, which nobody here wrote, boots from a diskette in our controllers, and reads and writes it for a program."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from vmx import roms, runner
from vmx.attachments import Attachments
from vmx.floppy_slot import FloppySlot
from vmx.machine import Machine
from vmx.machine_config import BootDevice, MachineConfig
from vmx.stop import StopKind

SECTOR, PER_TRACK = 512, 18
LIMIT_S = 60
WRITE_PROTECTED = 3  # INT 13h's status

# Read the track at cylinder 3, head 1; say its first 16 bytes on the debug port; write its first 3 sectors to
# cylinder 79, head 1, sector 2. Ends with status 0 or INT 13h's.
BOOT_SECTOR = """
.code16
.globl _start
_start:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    mov $0x0212, %ax
    mov $0x0301, %cx
    mov $0x0100, %dx
    mov $0x2000, %bx
    int $0x13
    jc 2f
    mov $0x2000, %si
    mov $16, %cx
    mov $0x402, %dx
    rep outsb
    mov $0x0303, %ax
    mov $0x4f02, %cx
    mov $0x0100, %dx
    mov $0x2000, %bx
    int $0x13
    jc 2f
    xor %ah, %ah
2:  mov %ah, %al
    mov $0xf4, %dx
    out %al, %dx
1:  hlt
    jmp 1b
.org 510
.word 0xaa55
"""


def at(cylinder: int, head: int, sector: int) -> int:
    return ((cylinder * 2 + head) * PER_TRACK + sector - 1) * SECTOR


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A diskette with the boot sector, and with a track that can be told from others."""
    raw = tmp_path / "boot.bin"
    command = ["gcc", "-m32", "-nostdlib", "-Wl,--build-id=none,-Ttext=0x7c00,--oformat=binary"]
    subprocess.run(
        [*command, "-x", "assembler", "-", "-o", str(raw)], input=BOOT_SECTOR, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    content = bytearray(80 * 2 * PER_TRACK * SECTOR)
    content[:SECTOR] = raw.read_bytes()[:SECTOR]
    content[at(3, 1, 1) : at(3, 1, 1) + 3 * SECTOR] = b"sixteen letters." * (3 * SECTOR // 16)
    path = tmp_path / "diskette"
    path.write_bytes(content)
    return path


def boot(image: Path, *, read_only: bool = False) -> tuple[int, bytes]:
    """The program's status, and what firmware and program said."""
    if roms.find(roms.BIOS) is None:
        if os.environ.get("CI"):
            pytest.fail("SeaBIOS is not installed")
        pytest.skip("SeaBIOS is not installed, so nothing boots from a diskette")
    said = bytearray()
    slot = FloppySlot("floppy0", image, read_only=read_only)
    attached = Attachments(
        floppy=slot, firmware=roms.system_firmware(), video_rom=roms.video_rom(), debug_sink=said.append
    )
    machine = Machine(MachineConfig(memory_mib=16, boot_order=(BootDevice.FLOPPY,)), attached)
    try:
        machine.limit_time(LIMIT_S)
        machine.start()
        stop = runner.run(machine)
        assert stop.kind is StopKind.EXITED, f"{stop.line()}: {bytes(said[-500:])!r}"
    finally:
        machine.close()
    return stop.status, bytes(said)


def test_seabios_boots_reads_and_writes_a_diskette(image: Path) -> None:
    before = image.read_bytes()
    status, said = boot(image)
    assert status == 0
    assert said.endswith(b"Booting from 0000:7c00\nsixteen letters.")
    after = bytearray(before)
    after[at(79, 1, 2) : at(79, 1, 2) + 3 * SECTOR] = before[at(3, 1, 1) : at(3, 1, 1) + 3 * SECTOR]
    assert image.read_bytes() == after


def test_seabios_learns_of_write_protection(image: Path) -> None:
    before = image.read_bytes()
    status, said = boot(image, read_only=True)
    assert said.endswith(b"sixteen letters.") and status == WRITE_PROTECTED
    assert image.read_bytes() == before
