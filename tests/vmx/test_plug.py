"""From a configuration to open files: each in its place, all given back when one of them cannot be had."""

from __future__ import annotations

import gc
import os
import signal
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hw.fdc_spec import BY_BLOCKS
from ringfence.errors import BadInput, BadOption, HostRefused, RingfenceError
from vmx.attachments import Attachments, Disc, Disk
from vmx.ending import EndedBySignal, ending_signals
from vmx.machine import Machine
from vmx.machine_config import DriveKind, DriveSpec, MachineConfig, PortKind, PortSpec
from vmx.plug import plug_in, wanted_by

NO_PORTS = MachineConfig(memory_mib=16, serials=(None, None))


def unheard(byte: int) -> None:
    """The debug port's bytes."""


def plug(config: MachineConfig, *, firmware: bool = False) -> Attachments:
    return plug_in(config, lambda text: None, unheard, firmware=firmware)


def open_files() -> set[str]:
    """What this process has open, by name; mappings go with the last who uses them."""
    gc.collect()
    names = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.add(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    return names


def test_a_signal_right_behind_bind_leaves_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, listen = tmp_path / "socket", socket.socket.listen

    def killed(self: socket.socket, backlog: int) -> None:
        assert place.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", killed)
    with ending_signals(), pytest.raises(EndedBySignal):
        plug(replace(NO_PORTS, serials=(PortSpec.parse(f"unix:{place}"), None)))
    assert not place.exists()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    (tmp_path / "disc.iso").write_bytes(bytes(40960))
    (tmp_path / "floppy.img").write_bytes(bytes(max(BY_BLOCKS) * 512))
    return tmp_path


def everything(folder: Path) -> MachineConfig:
    return replace(
        NO_PORTS,
        serials=(PortSpec(PortKind.FILE, str(folder / "com1")), PortSpec(PortKind.UNIX_SERVER, str(folder / "com2"))),
        parallel=PortSpec(PortKind.FILE, str(folder / "lpt1")),
        floppy=DriveSpec(DriveKind.FLOPPY, folder / "floppy.img"),
        ide={
            (0, 0): DriveSpec(DriveKind.DISK, folder / "disk.img"),
            (1, 0): DriveSpec(DriveKind.CDROM, folder / "disc.iso"),
            (1, 1): DriveSpec(DriveKind.CDROM),
        },
    )


def test_everything_is_in_its_place_and_given_back(images: Path) -> None:
    before = open_files()
    attached = plug(everything(images))
    assert isinstance(attached.drives[0, 0], Disk) and isinstance(attached.drives[1, 0], Disc)
    assert attached.trays[1, 0].medium is not None and attached.trays[1, 1].medium is None
    assert all(attached.serials) and attached.printer is not None and attached.floppy is not None
    machine = Machine(everything(images), attached)
    machine.close()
    machine.close()
    del machine, attached
    assert open_files() == before
    assert not (images / "com2").exists()


def without(config: MachineConfig, place: tuple[int, int], path: Path, kind: DriveKind) -> MachineConfig:
    return replace(config, ide={**config.ide, place: DriveSpec(kind, path, origin="lab.vmx:7: ide")})


def test_when_the_last_cannot_be_had_the_others_are_given_back(images: Path) -> None:
    before = open_files()
    config = without(everything(images), (1, 1), images / "missing.iso", DriveKind.CDROM)
    for _ in range(2):  # a lock or socket that stayed would be in the way of the second
        with pytest.raises(HostRefused, match=r"^lab\.vmx:7: ide: .*missing\.iso: cannot open"):
            plug(config)
    assert open_files() == before and not (images / "com2").exists()


def test_a_machine_that_cannot_be_built_leaves_only_what_was_plugged_in(images: Path) -> None:
    before = open_files()
    attached = plug(replace(everything(images), engine="warp"))
    with_files = open_files()
    with pytest.raises(BadOption, match="--engine warp"):
        Machine(replace(everything(images), engine="warp"), attached)
    assert open_files() == with_files
    attached.close()
    assert open_files() == before


def test_a_failure_late_in_building_leaves_no_memory_and_no_world(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files()

    def fail(machine: Machine) -> None:
        raise HostRefused("no more")

    monkeypatch.setattr(Machine, "power_on", fail)
    config = replace(NO_PORTS, engine="world", vcpus=2)
    attached = plug(config)
    with suppress(HostRefused):
        Machine(config, attached)
        pytest.fail("it was built")
    attached.close()
    assert open_files() == before


def test_closing_gives_everything_back_though_one_of_it_fails(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    attached = plug(everything(images))
    (com1, _) = attached.serials
    assert com1 is not None
    close = com1.close

    def close_and_fail() -> None:
        close()
        raise OSError("the file system has gone")

    monkeypatch.setattr(com1, "close", close_and_fail)
    machine = Machine(everything(images), attached)
    try:
        machine.close()
        pytest.fail("the failure went unheard")
    except OSError as error:
        assert "has gone" in str(error)
    monkeypatch.undo()
    del machine, attached, com1
    assert open_files() == before


@pytest.mark.parametrize(
    "error", [BadInput("x.iso", "size", "more", "0"), HostRefused("x.iso: in use"), BadOption("x.iso: no")]
)
def test_who_asked_for_it_is_said_before_what_is_wrong(error: RingfenceError) -> None:
    with pytest.raises(type(error)) as raised, wanted_by("lab.vmx:7: ide1:0.fileName"):
        raise error
    assert str(raised.value) == f"lab.vmx:7: ide1:0.fileName: {error}"
    with pytest.raises(type(error)) as raised, wanted_by(""):
        raise error
    assert str(raised.value) == str(error)
