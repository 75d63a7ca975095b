"""Devices that come and go, as a guest's tools ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hw.scsi.cdrom import Cdrom, CdromState
from vmx.attachments import Attachments, Disc
from vmx.disc_tray import DiscTray
from vmx.floppy_slot import FloppySlot
from vmx.removable import RemovableBackends
from vmx.serial import SerialCable


@pytest.fixture
def attached(tmp_path: Path) -> Iterator[Attachments]:
    disc, diskette = tmp_path / "a.iso", tmp_path / "diskette"
    disc.write_bytes(bytes(64 << 11))
    diskette.write_bytes(bytes(1440 << 10))
    tray = DiscTray("ide1:0", disc)
    tray.attach(Cdrom(CdromState(), tray, tray.medium))
    cable = SerialCable(f"file:{tmp_path / 'serial'}", lambda text: None)
    made = Attachments((cable,), floppy=FloppySlot("floppy0", diskette), drives={(1, 0): Disc(tray)})
    yield made
    made.close()


def test_all_of_a_machine_are_listed(attached: Attachments) -> None:
    rows = RemovableBackends(attached).devices()
    assert [(row.name, row.uid, row.connected) for row in rows] == [
        ("serial0", 0, True), ("floppy0", 1, True), ("ide1:0", 2, True),
    ]  # fmt: skip


@pytest.mark.parametrize("uid", [0, 1, 2])
def test_a_guest_disconnects_and_connects(attached: Attachments, uid: int) -> None:
    backends = RemovableBackends(attached)
    for on in (False, False, True, True):
        assert backends.connect(uid, on)
        assert backends.devices()[uid].connected is on


def test_what_cannot_be_is_not_done(attached: Attachments, tmp_path: Path) -> None:
    backends = RemovableBackends(attached)
    assert not backends.connect(3, True)
    assert backends.connect(2, False)
    (tmp_path / "a.iso").unlink()
    assert not backends.connect(2, True)
    assert not backends.devices()[2].connected
