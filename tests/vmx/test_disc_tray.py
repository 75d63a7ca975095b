"""Discs that come and go, as the guest's driver sees them: no disc, then a changed one, then its contents."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hw.scsi.cdrom import Cdrom, CdromState
from hw.scsi.wiring import BlocksIn, CheckCondition
from ringfence.errors import BadInput, HostRefused, RingfenceError
from vmx import disc_tray
from vmx.disc_tray import DiscTray, DriveLocked, Look, first_host_drive

BLOCK = 2048
NO_DISC, NO_DISC_OPEN, CHANGED, POWER_ON = (2, 0x3A, 0), (2, 0x3A, 2), (6, 0x28, 0), (6, 0x29, 1)
LOCK, UNLOCK, EJECT, LOAD = "1E 00 00 00 01", "1E 00 00 00 00", "1B 00 00 00 02", "1B 00 00 00 03"
EVENT = "4A 01 00 00 10 00 00 00 08 00"
EJECT_REQUEST, NEW, REMOVAL = 1, 2, 3


class Guest:
    """The drive and who uses it. `run_posted` is what the machine does between two instructions."""

    def __init__(self, path: Path | None, *, connected: bool = True) -> None:
        self.said: list[str] = []
        self.posted: deque[Callable[[], None]] = deque()
        self.tray = DiscTray("ide1:0", path, self.said.append, connected=connected)
        self.cdrom = Cdrom(CdromState(), self.tray, self.tray.medium)
        self.tray.attach(self.cdrom)
        self.cdrom.reset()
        self.tray.start(self)
        assert self.run("00") == POWER_ON

    def post(self, action: Callable[[], None]) -> None:
        self.posted.append(action)

    def run_posted(self) -> None:
        while self.posted:
            self.posted.popleft()()

    def run(self, cdb: str) -> object:
        outcome = self.cdrom.execute(bytes.fromhex(cdb).ljust(12, b"\0"))
        if isinstance(outcome, CheckCondition):
            data = self.cdrom.take_sense()
            return (data[2] & 0xF, data[12], data[13])
        return getattr(outcome, "data", b"")

    def ready(self) -> object:
        return self.run("00")

    def event(self) -> int:
        data = self.run(EVENT)
        assert isinstance(data, bytes)
        return data[4] & 0xF

    def first_byte(self) -> bytes:
        assert isinstance(self.cdrom.execute(bytes.fromhex("28 00 00000000 00 0001 00 0000")), BlocksIn)
        buffer = bytearray(BLOCK)
        assert self.cdrom.read_blocks(0, 1, [memoryview(buffer)]) == 1
        return bytes(buffer[:1])

    def until(self, answer: object, cdb: str = "00") -> None:
        """What is posted is done until the drive gives this answer."""
        deadline = time.monotonic() + 5
        while (found := self.run(cdb)) != answer:
            assert time.monotonic() < deadline, f"expected {answer}, found {found}"
            self.run_posted()
            time.sleep(0.002)


@pytest.fixture
def discs(tmp_path: Path) -> tuple[Path, Path]:
    paths = (tmp_path / "a.iso", tmp_path / "b.iso")
    for path in paths:
        path.write_bytes(path.stem.encode() * (BLOCK * 20))
    return paths


@pytest.fixture
def guest(discs: tuple[Path, Path]) -> Iterator[Guest]:
    made = Guest(discs[0])
    yield made
    made.tray.close()


def test_a_disc_is_in_from_the_start(guest: Guest) -> None:
    assert guest.ready() == b""
    assert guest.first_byte() == b"a"


def test_a_drive_can_start_empty_and_get_a_disc(discs: tuple[Path, Path]) -> None:
    guest = Guest(discs[0], connected=False)
    assert guest.ready() == NO_DISC and not guest.tray.connected
    guest.tray.connect()
    assert [guest.ready(), guest.ready()] == [CHANGED, b""]
    assert guest.tray.connected
    guest.tray.close()


def test_another_disc_is_seen_as_none_then_as_changed(guest: Guest, discs: tuple[Path, Path]) -> None:
    guest.tray.connect(discs[1])
    assert [guest.ready(), guest.ready(), guest.ready()] == [NO_DISC, CHANGED, b""]
    assert guest.first_byte() == b"b"
    guest.tray.disconnect()
    guest.tray.connect()
    assert guest.tray.path == discs[1], "the last one is connected again"


def test_a_bad_image_leaves_the_old_disc_in(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path, error in ((tmp_path / "missing", HostRefused), (tmp_path / "empty", BadInput)):
        with pytest.raises(error):
            guest.tray.connect(path)
    assert guest.ready() == b"" and guest.first_byte() == b"a"


def test_disconnect_takes_it_out(guest: Guest) -> None:
    guest.tray.disconnect()
    assert guest.event() == REMOVAL
    assert guest.ready() == NO_DISC
    guest.tray.disconnect()


def test_nothing_to_connect_is_one_line() -> None:
    guest = Guest(None)
    with pytest.raises(RingfenceError, match="ide1:0: no image"):
        guest.tray.connect()
    guest.tray.close()


def test_a_locked_disc_is_asked_for_and_comes_when_the_guest_ejects(guest: Guest) -> None:
    guest.run(LOCK)
    with pytest.raises(DriveLocked, match="ide1:0: the guest has locked"):
        guest.tray.disconnect()
    assert guest.ready() == b"" and guest.event() == EJECT_REQUEST
    guest.run(UNLOCK)
    guest.run(EJECT)
    assert not guest.tray.connected
    guest.run(LOAD)
    assert guest.ready() == NO_DISC


def test_a_locked_disc_is_not_replaced(guest: Guest, discs: tuple[Path, Path]) -> None:
    guest.run(LOCK)
    with pytest.raises(DriveLocked):
        guest.tray.connect(discs[1])
    assert guest.first_byte() == b"a"


def test_force_overrides_the_lock(guest: Guest) -> None:
    guest.run(LOCK)
    guest.tray.eject(force=True)
    assert guest.ready() == NO_DISC and not guest.tray.connected


def test_what_the_guest_ejects_it_can_load_again(guest: Guest) -> None:
    guest.run(EJECT)
    assert guest.ready() == NO_DISC_OPEN
    guest.run(LOAD)
    assert [guest.ready(), guest.ready()] == [CHANGED, b""]
    assert guest.first_byte() == b"a"


def test_everything_is_given_back(discs: tuple[Path, Path]) -> None:
    before = os.listdir("/proc/self/fd")
    guest = Guest(discs[0])
    guest.tray.connect(discs[1])
    guest.tray.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_short_image_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "short.iso"
    descriptor = b"\x01CD001" + bytes(74) + (1000).to_bytes(4, "little")
    path.write_bytes(bytes(16 * BLOCK) + descriptor.ljust(BLOCK, b"\0"))
    guest = Guest(path)
    assert guest.said == [f"ide1:0: {path}: its volume has 1000 blocks, the file only 17"]
    guest.tray.close()


# a drive of the host


class FakeDrive:
    """What a drive of the host does, with the person in front of it; its discs are files."""

    def __init__(self, path: Path, disc: Path) -> None:
        self.path, self.disc = path, disc
        self.path.write_bytes(disc.read_bytes())
        self.now = Look(present=True)
        self.ejections = 0
        self.lock = threading.Lock()

    def look(self, fd: int) -> Look:
        with self.lock:
            seen, self.now = self.now, Look(self.now.present)
            return seen

    def take_out(self) -> None:
        with self.lock:
            self.now = Look(present=False, changed=True)

    def put_in(self, disc: Path) -> None:
        with self.lock:
            self.path.write_bytes(disc.read_bytes())
            self.now = Look(present=True, changed=True)

    def eject(self) -> None:
        self.ejections += 1
        self.take_out()


@pytest.fixture
def drive(tmp_path: Path, discs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> FakeDrive:
    made = FakeDrive(tmp_path / "sr0", discs[0])
    monkeypatch.setattr(disc_tray, "look_into", made.look)
    monkeypatch.setattr(disc_tray, "is_host_drive", lambda path: path == made.path)
    monkeypatch.setattr(disc_tray.HostDrive, "eject", lambda drive: made.eject())
    monkeypatch.setattr(disc_tray, "WATCH_S", 0.005)
    return made


def test_a_disc_changed_by_hand_is_noticed(drive: FakeDrive, discs: tuple[Path, Path]) -> None:
    guest = Guest(drive.path)
    assert guest.first_byte() == b"a"
    drive.take_out()
    guest.until(NO_DISC)
    assert guest.tray.connected, "the drive is still ours"
    drive.put_in(discs[1])
    guest.until(CHANGED)
    assert guest.first_byte() == b"b"
    drive.put_in(discs[0])
    guest.until(NO_DISC)
    guest.until(CHANGED)
    assert guest.first_byte() == b"a"
    guest.tray.close()


def test_the_guests_eject_opens_the_real_tray(drive: FakeDrive, discs: tuple[Path, Path]) -> None:
    guest = Guest(drive.path)
    guest.run(EJECT)
    guest.until(NO_DISC_OPEN)
    deadline = time.monotonic() + 5
    while guest.tray.medium is not None and time.monotonic() < deadline:
        guest.run_posted()
        time.sleep(0.002)
    assert drive.ejections == 1
    drive.put_in(discs[1])
    guest.until(CHANGED)
    guest.tray.close()


def test_the_hosts_eject_keeps_the_drive(drive: FakeDrive) -> None:
    guest = Guest(drive.path)
    guest.tray.eject()
    guest.until(NO_DISC)
    deadline = time.monotonic() + 5
    while not drive.ejections and time.monotonic() < deadline:
        time.sleep(0.002)
    assert drive.ejections == 1 and guest.tray.connected
    guest.tray.disconnect()
    assert not guest.tray.connected
    guest.tray.close()


def test_a_disc_that_cannot_be_read_is_reported_once(drive: FakeDrive, tmp_path: Path) -> None:
    (tmp_path / "audio").touch()
    guest = Guest(drive.path)
    drive.put_in(tmp_path / "audio")
    guest.until(NO_DISC)
    for _ in range(20):
        guest.run_posted()
        time.sleep(0.002)
    assert len(guest.said) == 1 and "an empty file" in guest.said[0]
    guest.tray.close()


def test_a_block_device_of_the_host(discs: tuple[Path, Path]) -> None:
    """A loop device: a real block device that no CD-ROM request works on."""
    try:
        done = subprocess.run(
            ["losetup", "--read-only", "--find", "--show", str(discs[0])], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("losetup is not installed, so there is no block device to use")
    if done.returncode:
        pytest.skip(f"the host lets us have no loop device: {done.stderr.strip()}")
    device = Path(done.stdout.strip())
    try:
        guest = Guest(device)
        assert disc_tray.is_host_drive(device)
        guest.run_posted()
        assert guest.ready() == b"" and guest.first_byte() == b"a"
        guest.run(EJECT)
        guest.tray.close()
    finally:
        subprocess.run(["losetup", "--detach", str(device)])


def test_the_first_drive_of_the_host(tmp_path: Path) -> None:
    listing = tmp_path / "info"
    listing.write_text("CD-ROM information, Id: cdrom.c 3.20\n\ndrive name:\t\tsr1\tsr0\ndrive speed:\t\t48\t24\n")
    assert first_host_drive(listing) == Path("/dev/sr0")
    for text in ("drive name:\n", ""):
        listing.write_text(text)
        with pytest.raises(HostRefused, match="no CD-ROM drive"):
            first_host_drive(listing)
    with pytest.raises(HostRefused):
        first_host_drive(tmp_path / "missing")
