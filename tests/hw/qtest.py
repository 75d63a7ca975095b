"""QEMU's PC as a board for device tests: its ports and memory through qtest, the processor standing still."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

QEMU = "qemu-system-i386"
ELCR, OCW3_READ_IRR = 0x4D0, 0x0A


class QemuPc:
    """A QEMU that obeys one line at a time."""

    def __init__(self, *options: str) -> None:
        self.child = subprocess.Popen(
            [QEMU, "-M", "pc", "-m", "16", "-nodefaults", "-display", "none", "-S",
             "-qtest", "stdio", "-qtest-log", "none", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def _ask(self, line: str) -> str:
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline().split()
        assert answer and answer[0] == "OK", f"QEMU: {line}: {answer}"
        return answer[-1]

    def inb(self, port: int) -> int:
        return int(self._ask(f"inb {port:#x}"), 16)

    def outb(self, port: int, value: int) -> None:
        self._ask(f"outb {port:#x} {value:#x}")

    def peek(self, gpa: int, length: int) -> bytes:
        return bytes.fromhex(self._ask(f"read {gpa:#x} {length:#x}").removeprefix("0x"))

    def poke(self, gpa: int, data: bytes) -> None:
        self._ask(f"write {gpa:#x} {len(data):#x} 0x{data.hex()}")

    def irq(self, number: int) -> bool:
        """The level of one of IRQ 3 to 7, seen through a level-triggered input of the 8259."""
        self.outb(ELCR, 1 << number)
        self.outb(0x20, OCW3_READ_IRR)
        return bool(self.inb(0x20) >> number & 1)

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def qemu_pc(*options: str) -> Iterator[QemuPc]:
    """Skips without QEMU; where a missing peer would go unnoticed (CI is set), fails."""
    if not shutil.which(QEMU):
        reason = f"{QEMU} is not installed, so the device cannot be compared with another PC's"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    pc = QemuPc(*options)
    try:
        yield pc
    finally:
        pc.close()
