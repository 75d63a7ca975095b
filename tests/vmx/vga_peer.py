"""QEMU's standard VGA as a peer: a boot sector sets a mode and fills video memory; what QEMU then holds and shows.

QEMU's monitor reads the registers and the memory through the adapter's own ports, so they can be written to ours.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.guests.qemu import QEMU, need_qemu

SECTOR = 512
MARK, MARK_AT = 0x5A, 0x600
PALETTE_AT, PALETTE_BYTES = 0x8000, 768
PLANE_BYTES_COMPARED = 0xA000
FRAMEBUFFER_BYTES_COMPARED = 640 * 480 * 4
LIMIT_S = 30

# Fills the window of the mode in AX, one plane after the other, with numbers of a linear congruence. Bit 15 of each
# word is left out, which would blink. Then reads the DAC into memory, and leaves its mark.
BOOT = """
.code16
.globl _start
_start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7000, %sp
    cld
    movw ${mode}, %ax
    movw ${linear}, %bx
    int $0x10
    movb $1, %ah
    movw $0x2000, %cx
    int $0x10
    movw ${segment}, %ax
    movw %ax, %es
    movw $0x1234, %bx
    movb $1, %ah
plane:
    pushw %ax
    movw $0x3c4, %dx
    movb $2, %al
    outw %ax, %dx
    xorw %di, %di
    movw ${words}, %cx
fill:
    imulw $25173, %bx, %bx
    addw $13849, %bx
    movw %bx, %ax
    andw $0x7fff, %ax
    stosw
    loop fill
    popw %ax
    shlb $1, %ah
    cmpb $0x10, %ah
    jne plane
    movb ${mask}, %ah
    movb $2, %al
    outw %ax, %dx
    movw $0x3c7, %dx
    xorw %ax, %ax
    outb %al, %dx
    movw %ax, %es
    movw $0x3c9, %dx
    movw ${palette_at}, %di
    movw ${palette_bytes}, %cx
    rep insb
    movb ${mark}, {mark_at}
done:
    hlt
    jmp done
"""


FIXED = {"mark": MARK, "mark_at": MARK_AT, "palette_at": PALETTE_AT, "palette_bytes": PALETTE_BYTES}


@dataclass(frozen=True, slots=True)
class Held:
    """What QEMU's adapter holds, and shows as a (height, width, 3) picture."""

    misc: int
    banks: dict[str, bytes]
    palette: bytes
    planes: list[bytes]
    dispi: list[int]
    framebuffer: bytes
    shown: np.ndarray


class Monitor:
    """QEMU's monitor, on its standard input and output."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin and process.stdout
        self.input, self.output = process.stdin, process.stdout
        self._until_prompt()

    def _until_prompt(self) -> str:
        text = bytearray()
        while not text.endswith(b"(qemu) "):
            byte = self.output.read(1)
            assert byte, f"QEMU ended: {bytes(text)!r}"
            text += byte
        return text.decode("ascii", "replace")

    def __call__(self, command: str) -> str:
        self.input.write(command.encode() + b"\n")
        self.input.flush()
        return self._until_prompt()

    def inp(self, port: int, size: str = "b") -> int:
        answer = self(f"i /{size} {port:#x}")
        return int(answer.rsplit("=", 1)[1].split()[0], 0)

    def out(self, port: int, value: int, size: str = "b") -> None:
        self(f"o /{size} {port:#x} {value:#x}")


@contextmanager
def booted(folder: Path, **values: int) -> Iterator[Monitor]:
    """QEMU, once the boot sector has left its mark."""
    need_qemu()
    assert shutil.which("objcopy")
    source = BOOT
    for name, value in {**FIXED, **values}.items():
        source = source.replace(f"{{{name}}}", f"{value:#x}")
    elf, image = folder / "boot.elf", folder / "boot.img"
    command = ["gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,-Ttext=0x7c00", "-x", "assembler"]
    subprocess.run([*command, "-", "-o", str(elf)], input=source, text=True, check=True, capture_output=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", str(elf), str(image)], check=True)
    code = image.read_bytes()
    image.write_bytes(code.ljust(SECTOR - 2, b"\0") + b"\x55\xaa" + bytes(1440 * 1024 - SECTOR))
    options = ["-accel", "tcg", "-display", "none", "-vga", "std", "-nic", "none", "-monitor", "stdio"]
    drive = ["-drive", f"file={image},format=raw,if=floppy", "-boot", "a"]
    process = subprocess.Popen([QEMU, *options, *drive], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        monitor, limit = Monitor(process), time.monotonic() + LIMIT_S
        while f": {MARK:#04x}" not in monitor(f"xp /1bx {MARK_AT:#x}"):
            assert time.monotonic() < limit, "the boot sector did not come to its end"
        monitor("stop")
        yield monitor
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def look(monitor: Monitor, folder: Path) -> Held:
    """Picture first, for reading the planes changes registers."""
    monitor(f"screendump {folder / 'shown.ppm'}")
    misc, banks = monitor.inp(0x3CC), {}
    for name, port, count in (("sequencer", 0x3C4, 5), ("graphics", 0x3CE, 9), ("crt", 0x3D4, 25)):
        values = []
        for index in range(count):
            monitor.out(port, index)
            values.append(monitor.inp(port + 1))
        banks[name] = bytes(values)
    values = []
    for index in range(21):
        monitor.inp(0x3DA)
        monitor.out(0x3C0, index)
        values.append(monitor.inp(0x3C1))
    banks["attribute"] = bytes(values)
    palette = saved(monitor, folder / "palette", PALETTE_AT, PALETTE_BYTES)
    dispi = []
    for index in range(10):
        monitor.out(0x1CE, index, "h")
        dispi.append(monitor.inp(0x1CF, "h"))
    framebuffer = b""
    planes = []
    if dispi[4] & 1:
        answer = monitor("info pci")
        base = int(answer.split("32 bit prefetchable memory at ")[1].split()[0], 0)
        framebuffer = saved(monitor, folder / "framebuffer", base, FRAMEBUFFER_BYTES_COMPARED)
    else:
        monitor.out(0x3C4, 4)
        monitor.out(0x3C5, 6)
        for plane in range(4):
            for index, value in ((4, plane), (5, 0), (6, 5)):
                monitor.out(0x3CE, index)
                monitor.out(0x3CF, value)
            planes.append(saved(monitor, folder / f"plane{plane}", 0xA0000, PLANE_BYTES_COMPARED))
    return Held(misc, banks, palette, planes, dispi, framebuffer, read_ppm(folder / "shown.ppm"))


def saved(monitor: Monitor, path: Path, first: int, size: int) -> bytes:
    """Guest physical memory."""
    monitor(f'pmemsave {first:#x} {size:#x} "{path}"')
    return path.read_bytes()


def read_ppm(path: Path) -> np.ndarray:
    kind, size, most, data = path.read_bytes().split(b"\n", 3)
    assert (kind, most) == (b"P6", b"255")
    width, height = map(int, size.split())
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)
