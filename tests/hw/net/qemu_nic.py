"""QEMU's Am79C970A as a peer: its registers and memory through qtest, its cable as a Unix datagram socket."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hw.net.nic_rig import ADDRESS
from tests.hw.qtest import QEMU, QemuPc

CONFIG_ADDRESS, CONFIG_DATA, SLOT = 0xCF8, 0xCFC, 5
PORTS = 0xC000
HALT = bytes.fromhex("fa f4 eb fd")  # CLI; HLT; JMP back to it
BIOS_BYTES, RESET_VECTOR = 0x10000, 0xFFF0
FRAME_MAX = 65536
PATIENCE_S = 60
LOOK_S = 0.002


class QemuNic(QemuPc):
    """A PC whose processor is halted, but which runs: otherwise QEMU would hold frames back."""

    def __init__(self, folder: Path) -> None:
        ours, theirs, bios = folder / "ours", folder / "theirs", folder / "bios"
        bios.write_bytes(bytes(RESET_VECTOR) + HALT.ljust(BIOS_BYTES - RESET_VECTOR, b"\0"))
        self.cable = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.cable.bind(str(ours))
        self.cable.settimeout(PATIENCE_S)
        self._theirs = str(theirs)
        mac = ADDRESS.hex(":")
        self.child = subprocess.Popen(
            [QEMU, "-M", "pc", "-bios", str(bios), "-m", "16", "-nodefaults", "-display", "none",
             "-qtest", "stdio", "-qtest-log", "none",
             "-netdev", f"dgram,id=n0,local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours}",
             "-device", f"pcnet,netdev=n0,mac={mac},addr={SLOT},romfile="],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def config(self, register: int, value: int) -> None:
        self.write(CONFIG_ADDRESS, 0x80000000 | SLOT << 11 | register, 4)
        self.write(CONFIG_DATA, value, 4)

    def read(self, port: int, width: int) -> int:
        return int(self._ask(f"in{'bwl'[width // 2]} {port:#x}"), 16)

    def write(self, port: int, value: int, width: int) -> None:
        self._ask(f"out{'bwl'[width // 2]} {port:#x} {value:#x}")

    def send(self, frame: bytes) -> None:
        """Towards QEMU."""
        self.cable.sendto(frame, self._theirs)

    def sent(self) -> bytes:
        """The next frame from QEMU."""
        return self.cable.recv(FRAME_MAX)

    def wait_for(self, port: int, bits: int) -> None:
        """Frames come in when QEMU looks."""
        self.wait_until(lambda: bool(self.read(port, 2) & bits), f"QEMU has not set {bits:#x}")

    def wait_until(self, condition: Callable[[], bool], otherwise: str) -> None:
        limit = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < limit, f"{otherwise} in {PATIENCE_S} s"
            time.sleep(LOOK_S)

    def close(self) -> None:
        super().close()
        self.cable.close()


@contextmanager
def qemu_nic() -> Iterator[QemuNic]:
    """Skips without QEMU; where a missing peer would go unnoticed (CI is set), fails."""
    if not shutil.which(QEMU):
        reason = f"{QEMU} is not installed, so the adapter cannot be compared with another's"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="nic") as folder:  # a socket's path has to be short
        nic = QemuNic(Path(folder))
        try:
            nic.config(0x10, PORTS)
            nic.config(0x04, 7)
            yield nic
        finally:
            nic.close()
