"""`ringfence vm` with a real guest: a .vmx file, processes of their own, SeaBIOS, a boot CD, Linux."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.realguests.guest import PROMPT

MakeIso = Callable[..., Path]
TIMEOUT_S = 120
READ_BYTES = 4096
VMX = """\
config.version = "8"
displayName = "{name}"
memsize = "128"
numvcpus = "{vcpus}"
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-image"
ide1:0.fileName = "{iso}"
serial0.present = "TRUE"
serial0.fileType = "pipe"
serial0.fileName = "com1"
"""


class Vm:
    """A machine's folder, and the commands that are typed for it."""

    def __init__(self, folder: Path, iso: Path, seabios: Path, vcpus: int) -> None:
        self.folder, self.path = folder, folder / "lab.vmx"
        self.path.write_text(VMX.format(name="lab", vcpus=vcpus, iso=iso))
        self.environment = os.environ | {
            "XDG_RUNTIME_DIR": str(folder), "XDG_STATE_HOME": str(folder), "RINGFENCE_FIRMWARE": str(seabios.parent),
        }  # fmt: skip

    def run(self, *words: str, status: int = 0) -> str:
        """`ringfence vm ...`: what it prints."""
        command = [sys.executable, "-m", "tools.ringfence", "vm", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=self.environment
        )
        assert done.returncode == status, f"{words}: {done.stderr}{self.log()}"
        return done.stdout

    def status(self) -> dict[str, object]:
        found = json.loads(self.run("lab", "status", "--json"))
        assert isinstance(found, dict)
        return found

    def power_state(self) -> str:
        return str(self.status()["power_state"])

    def log(self) -> str:
        path = self.folder / "vmware.log"
        return path.read_text() if path.exists() else "no vmware.log"


class Serial:
    """The far end of the machine's serial port."""

    def __init__(self, vm: Vm) -> None:
        self.vm, self.said = vm, b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(str(vm.folder / "com1"))

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def expect(self, text: str) -> str:
        """What comes up to this text."""
        while text.encode() not in self.said:
            received = self.socket.recv(READ_BYTES)
            assert received, f"{text!r} never came; COM1 said\n{self.said[-2000:]!r}\n{self.vm.log()}"
            self.said += received
        before, _, self.said = self.said.partition(text.encode())
        return before.decode("latin-1")

    def ask(self, command: str) -> str:
        """What it prints at a shell's prompt."""
        self.socket.sendall(f"{command}\n".encode())
        self.expect(f"{command}\r\n")
        return self.expect(f"\r\n{PROMPT}")


@pytest.fixture(params=[1, pytest.param(4, marks=pytest.mark.long)], ids=["1 vCPU", "4 vCPUs"])
def vm(request: pytest.FixtureRequest, isolinux_iso: MakeIso, seabios: Path, tmp_path: Path) -> Iterator[Vm]:
    iso = isolinux_iso("686", "mods=ata_piix,sr_mod,isofs settle=0 checks=none end=shell")
    made = Vm(tmp_path, iso, seabios, request.param)
    yield made
    if made.power_state() == "poweredOn":
        made.run("lab", "stop", "--hard")


def test_a_machine_is_switched_on_suspended_resumed_and_powers_itself_off(vm: Vm, tmp_path: Path) -> None:
    vm.run(str(vm.path), "start")
    first = vm.status()
    assert first["power_state"] == "poweredOn"
    with Serial(vm) as serial:
        serial.expect(PROMPT)
        serial.ask("echo kept >/tmp/file; mount -t iso9660 -o ro /dev/sr0 /mnt; echo done")
        vm.run("lab", "send-keys", "x")
        vm.run("lab", "suspend")
    assert vm.power_state() == "suspended"
    (saved,) = tmp_path.glob("*.vmss")
    assert f'checkpoint.vmState = "{saved.name}"' in vm.path.read_text()
    vm.run("lab", "resume")
    second = vm.status()
    assert second["power_state"] == "poweredOn" and second["pid"] != first["pid"]
    assert not saved.exists()
    with Serial(vm) as serial:
        assert serial.ask("cat /tmp/file") == "kept"
        assert "isolinux.bin" in serial.ask("ls /mnt/isolinux")
        vm.run("lab", "screenshot", str(tmp_path / "screen.png"))
        with Image.open(tmp_path / "screen.png") as picture:
            assert picture.size == (720, 400)
        serial.socket.sendall(b"poweroff -f\n")
        serial.expect("reboot: Power down")
    deadline = time.monotonic() + TIMEOUT_S
    while vm.power_state() != "poweredOff":
        assert time.monotonic() < deadline, vm.log()
    log = vm.log()
    assert "the guest switched the machine off" in log and "RESUME" in log
