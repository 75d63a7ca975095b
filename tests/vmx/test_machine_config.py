"""What a machine is made of, and the one way to write a port."""

from __future__ import annotations

import pytest

from ringfence.errors import BadOption
from vmx.machine_config import BootDevice, DriveKind, DriveSpec, MachineConfig, PortKind, PortSpec, VncSpec

PORTS = {
    "none": PortKind.NONE, "stdio": PortKind.STDIO, "pty": PortKind.PTY, "file:/a:b": PortKind.FILE,
    "unix:s": PortKind.UNIX_SERVER, "unix-client:s": PortKind.UNIX_CLIENT, "tcp:localhost:0": PortKind.TCP_SERVER,
    "tcp-client:[::1]:65535": PortKind.TCP_CLIENT, "pipe:/p": PortKind.PIPE,
}  # fmt: skip


@pytest.mark.parametrize("text", PORTS)
def test_a_port_is_read_as_it_is_written(text: str) -> None:
    port = PortSpec.parse(text)
    assert (port.kind, port.text()) == (PORTS[text], text)


@pytest.mark.parametrize(
    "text",
    ["", "modem", "stdio:", "stdio:x", "file", "file:", "unix:", "tcp:", "tcp:1", "tcp:h:", "tcp-client:h:0",
     "tcp:h:65536", "tcp:h:x", "tcp-client::1", "file:\0"],
)  # fmt: skip
def test_a_port_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(BadOption, match=r"^--serial") as refused:
        PortSpec.parse(text)
    assert "expected" in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"memory_mib": 1}, "--mem 1"),
        ({"memory_mib": 3073}, "--mem 3073"),
        ({"vcpus": 0}, "--vcpus 0"),
        ({"vcpus": 5}, "--vcpus 5"),
        ({"uuid": b"x"}, "16 bytes"),
        ({"serials": (None, None, None)}, "at most 2"),
        ({"serials": (PortSpec(PortKind.PIPE, "/p"),)}, "not a pipe"),
        ({"serials": (PortSpec(PortKind.STDIO), PortSpec(PortKind.STDIO))}, "one serial port only"),
        ({"serials": (PortSpec(PortKind.TCP_SERVER, "x"),)}, "tcp:HOST:PORT"),
        ({"parallel": PortSpec(PortKind.PTY)}, "file:PATH, pipe:PATH or none"),
        ({"ide": {(2, 0): DriveSpec(DriveKind.DISK)}}, "ide2:0"),
        ({"ide": {(0, 0): DriveSpec(DriveKind.FLOPPY)}}, "floppy"),
        ({"boot_order": (BootDevice.DISK, BootDevice.DISK)}, "at most once"),
        ({"vnc": VncSpec(70000)}, "VNC port"),
    ],
)
def test_what_no_machine_can_have_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        MachineConfig(**fields).check()  # type: ignore[arg-type]


def test_the_default_machine_can_be() -> None:
    MachineConfig().check()


def test_a_password_is_not_printed() -> None:
    assert "secret" not in repr(MachineConfig(vnc=VncSpec(5901, "secret")))
