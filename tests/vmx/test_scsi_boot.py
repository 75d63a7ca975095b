"""SeaBIOS, which nobody here wrote, boots from a VMDK on either adapter, and reads and writes it for a program.

For the LSI Logic adapter it has a driver; the BusLogic adapter's disks are those of our option ROM.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.vmx.scsi_machine import adapter, config_of, make_disk
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create_child
from vmx import roms, runner
from vmx.machine import Machine
from vmx.machine_config import AdapterKind
from vmx.plug import plug_in
from vmx.stop import StopKind

SECTOR = 512
READ_AT, WRITE_AT, COUNT = 1234, 15000, 3
LIMIT_S = 60

# Read COUNT sectors at READ_AT, say their first 16 bytes on the debug port, write them to WRITE_AT. Ends with status 0
# or INT 13h's.
BOOT_SECTOR = f"""
.code16
.globl _start
_start:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    mov $packet, %si
    mov $0x42, %ah
    int $0x13
    jc 2f
    mov $0x2000, %si
    mov $16, %cx
    push %dx
    mov $0x402, %dx
    rep outsb
    pop %dx
    movl ${WRITE_AT}, packet + 8
    mov $packet, %si
    mov $0x4300, %ax
    int $0x13
    jc 2f
    xor %ah, %ah
2:  mov %ah, %al
    mov $0xf4, %dx
    out %al, %dx
1:  hlt
    jmp 1b
.align 4
packet:
    .byte 16, 0
    .word {COUNT}, 0x2000, 0
    .long {READ_AT}, 0
.org 510
.word 0xaa55
"""


def boot_sector(folder: Path) -> bytes:
    raw = folder / "boot.bin"
    command = ["gcc", "-m32", "-nostdlib", "-Wl,--build-id=none,-Ttext=0x7c00,--oformat=binary"]
    subprocess.run(
        [*command, "-x", "assembler", "-", "-o", str(raw)], input=BOOT_SECTOR, text=True, check=True,
        capture_output=True,
    )  # fmt: skip
    return raw.read_bytes()[:SECTOR]


def text(sectors: int) -> bytes:
    return b"sixteen letters." * (sectors * SECTOR // 16)


@pytest.fixture(params=["disk", "chain"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A disk with the boot sector, and with sectors that can be told from others; or a redo log over it."""
    path = make_disk(tmp_path / "disk.vmdk", Kind.MONOLITHIC_SPARSE)
    with open_disk(path, writable=True) as chain:
        chain.write(0, [memoryview(boot_sector(tmp_path))])
        chain.write(READ_AT * SECTOR, [memoryview(text(COUNT))])
    if request.param == "disk":
        return path
    child = tmp_path / "disk-000001.vmdk"
    create_child(child, path)
    return child


@pytest.mark.parametrize("kind", AdapterKind)
def test_firmware_boots_from_a_scsi_disk(kind: AdapterKind, disk: Path, tmp_path: Path) -> None:
    if roms.find(roms.BIOS) is None:
        if os.environ.get("CI"):
            pytest.fail("SeaBIOS is not installed")
        pytest.skip("SeaBIOS is not installed, so nothing boots from a disk")
    said = bytearray()
    config = config_of({0: adapter(kind, disk)}, tmp_path)
    attached = plug_in(config, lambda line: None, said.append, firmware=True)
    machine = Machine(config, attached)
    try:
        machine.limit_time(LIMIT_S)
        machine.start()
        stop = runner.run(machine)
    finally:
        machine.close()
    assert (stop.kind, stop.status) == (StopKind.EXITED, 0), said.decode("latin-1")
    assert text(1)[:16] in said
    written = memoryview(bytearray(COUNT * SECTOR))
    with open_disk(disk) as chain:
        chain.read(WRITE_AT * SECTOR, [written])
    assert bytes(written) == text(COUNT)
