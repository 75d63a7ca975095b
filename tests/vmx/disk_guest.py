"""A guest in a boot sector that keeps a number in memory and on its disk, and answers one-letter commands on COM1.

SeaBIOS boots it from an IDE disk or from one on the LSI Logic adapter. When it listens it says "ready". Commands:

    i  adds one to the number in memory, and writes that to the disk: "I" and the number
    p  "P", the number in memory, and the one on the disk, as it is read now
    q  ends with status 0
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.vmx.lab import Lab, Talk
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create
from vmx import roms

SECTOR = 512
NUMBER_AT = 40_000  # the sector
DISK_BYTES = 32 << 20

SOURCE = f"""
.code16
.globl _start
_start:
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    sti
    mov %dl, drive
    mov $0x3fb, %dx
    mov $3, %al
    out %al, (%dx)
    mov $0x3fa, %dx
    mov $1, %al
    out %al, (%dx)
    mov $0x3fc, %dx
    mov $3, %al
    out %al, (%dx)
    mov $ready, %si
1:  lodsb
    test %al, %al
    jz again
    call putc
    jmp 1b
again:
    mov $0x3fd, %dx
    in (%dx), %al
    test $1, %al
    jz again
    mov $0x3f8, %dx
    in (%dx), %al
    cmp $'i', %al
    je increase
    cmp $'p', %al
    je show
    cmp $'q', %al
    jne again
    xor %al, %al
    out %al, $0xf4
    jmp again
increase:
    incb number
    mov $'I', %al
    call putc
    mov number, %al
    mov %al, 0x2000
    call hex
    mov $0x4300, %ax
    call disk
    jmp newline
show:
    mov $'P', %al
    call putc
    mov number, %al
    call hex
    mov $0x4200, %ax
    call disk
    mov 0x2000, %al
    call hex
newline:
    mov $'\\n', %al
    call putc
    jmp again
disk:
    mov $packet, %si
    mov drive, %dl
    int $0x13
    jnc 1f
    mov $'!', %al
    call putc
1:  ret
hex:
    push %ax
    shr $4, %al
    call 1f
    pop %ax
1:  and $15, %al
    cmp $10, %al
    jb putdigit
    add $'a' - '0' - 10, %al
putdigit:
    add $'0', %al
putc:
    push %dx
    push %ax
    mov $0x3fd, %dx
1:  in (%dx), %al
    test $0x20, %al
    jz 1b
    pop %ax
    mov $0x3f8, %dx
    out %al, (%dx)
    pop %dx
    ret
drive: .byte 0
number: .byte 0
ready: .asciz "ready\\n"
.align 4
packet:
    .byte 16, 0
    .word 1, 0x2000, 0
    .long {NUMBER_AT}, 0
.org 510
.word 0xaa55
"""


def boot_sector(folder: Path) -> bytes:
    raw = folder / "boot.bin"
    command = ["gcc", "-m32", "-nostdlib", "-Wl,--build-id=none,-Ttext=0x7c00,--oformat=binary"]
    subprocess.run(
        [*command, "-x", "assembler", "-", "-o", str(raw)], input=SOURCE, text=True, check=True, capture_output=True
    )
    return raw.read_bytes()[:SECTOR]


def make_disk(path: Path, kind: Kind = Kind.THIN) -> Path:
    """A disk with the guest on it."""
    create(path, kind, DISK_BYTES)
    with open_disk(path, writable=True) as disk:
        disk.write(0, [memoryview(boot_sector(path.parent))])
    return path


def number_on(path: Path, *, lock: bool = True) -> int:
    """What a disk has been written last."""
    data = memoryview(bytearray(SECTOR))
    with open_disk(path, lock=lock) as disk:
        disk.read(NUMBER_AT * SECTOR, [data])
    return data[0]


def keys(node: str, disk: str, **more: str) -> dict[str, str]:
    """What a .vmx file says of a machine that boots from it, beside the usual; `more` is of the disk."""
    found = {"bios440.filename": "", "floppy0.present": "FALSE", f"{node}.present": "TRUE", f"{node}.fileName": disk}
    if node.startswith("scsi"):
        adapter = node.partition(":")[0]
        found |= {f"{adapter}.present": "TRUE", f"{adapter}.virtualDev": "lsilogic"}
    return found | {f"{node}.{key}": value for key, value in more.items()}


def need_firmware() -> None:
    if roms.find(roms.BIOS) is None:
        if os.environ.get("CI"):
            pytest.fail("SeaBIOS is not installed")
        pytest.skip("SeaBIOS is not installed, so nothing boots from a disk")


def count(talk: Talk, *numbers: str) -> None:
    for number in numbers:
        talk.expect(f"I{number}", asked="i")


class DiskLab(Lab):
    """The lab, with a machine that boots from its disk."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, node: str = "ide0:0") -> None:
        self.node = node
        super().__init__(folder, monkeypatch)
        self.disk = make_disk(folder / "disk.vmdk")

    def describe_disk(self, mode: str, **more: str) -> None:
        self.describe(**(keys(self.node, "disk.vmdk", mode=mode) | more))

    def boot(self) -> Talk:
        self.vm("start")
        talk = self.talk()
        talk.expect("ready")
        return talk
