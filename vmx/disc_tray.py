"""The host's side of a CD-ROM drive: discs come and go while the machine runs, from files and from a drive of the host.

A guest that has locked the tray is asked before its disc goes away (it sees an eject request), unless forced. With a
drive of the host, a thread watches for discs that people put in and take out; the guest's eject opens the real tray.
Not modelled: the guest's lock does not lock the door of the host's drive; audio discs (nothing of them can be read).
Source: Linux include/uapi/linux/cdrom.h.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Protocol

from hw.scsi.cdrom import Cdrom
from ringfence.errors import HostRefused, RingfenceError
from vmkernel.storage.place import Place
from vmx.media import HostBlocks, open_disc, open_host

WATCH_S = 1.0
DRIVE_LIST = Path("/proc/sys/dev/cdrom/info")


class Ioctl(IntEnum):
    """Requests to a CD-ROM drive."""

    EJECT = 0x5309
    MEDIA_CHANGED = 0x5325
    DRIVE_STATUS = 0x5326


CURRENT_SLOT = (1 << 31) - 1
DISC_OK = 4
NO_INFO = 0


class DriveLocked(RingfenceError):
    """The guest has locked the tray. It has been asked to let the disc go."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: the guest has locked the disc in; it has been asked for it")


class DiscHost(Protocol):
    """What a tray needs of the machine."""

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called soon, under the machine's lock. Any thread."""


@dataclass(frozen=True, slots=True)
class Look:
    """A look into a drive of the host: is a disc in, and was it changed since the last look?"""

    present: bool
    changed: bool = False


def look_into(fd: int) -> Look:
    """What the drive says; a block device that is no CD-ROM drive always has its disc."""
    try:
        status = fcntl.ioctl(fd, Ioctl.DRIVE_STATUS, CURRENT_SLOT)
        changed = fcntl.ioctl(fd, Ioctl.MEDIA_CHANGED, CURRENT_SLOT) == 1
    except OSError:
        return Look(present=True)
    return Look(status in {DISC_OK, NO_INFO}, changed)


def first_host_drive(listing: Path = DRIVE_LIST) -> Path:
    """The device of the host's first CD-ROM drive. Raises HostRefused."""
    try:
        rows = listing.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        rows = []
    names = next((row.split()[2:] for row in rows if row.startswith("drive name:")), [])
    if not names:
        raise HostRefused("the host has no CD-ROM drive")
    return Path("/dev") / names[-1]  # the list begins with the newest


class HostDrive:
    """A drive of the host. Its discs are opened one by one: only a new descriptor sees a new disc's size."""

    def __init__(self, path: Place) -> None:
        self.path = path
        self.fd, _ = open_host(path, os.O_RDONLY, "CD-ROM drive")

    def look(self) -> Look:
        return look_into(self.fd)

    def eject(self) -> None:
        """Open the tray, if it is a drive with one and nobody else keeps it shut."""
        try:
            fcntl.ioctl(self.fd, Ioctl.EJECT)
        except OSError:
            return  # the guest's tray is open all the same

    def close(self) -> None:
        os.close(self.fd)


def is_host_drive(path: Place) -> bool:
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except (OSError, ValueError):
        return False


class DiscTray:
    """One drive's tray: a hw.scsi.cdrom.Tray. Give `medium` to the Cdrom, then the Cdrom to `attach`.

    All but `start` and `close` are called under the machine's lock. `say` gets a line for the machine's log.
    """

    def __init__(
        self, name: str, path: Place | None, say: Callable[[str], None] = lambda text: None, *, connected: bool = True
    ) -> None:
        """Opens the disc, if it is to be connected. Raises HostRefused or BadInput."""
        self.name, self.path, self._say = name, path, say
        self.medium: HostBlocks | None = None
        self._cdrom: Cdrom | None = None
        self._drive: HostDrive | None = None
        self._wanted_out = False
        self._closing, self._wake = False, threading.Event()
        self._eject_asked = self._unreadable = False
        self._thread: threading.Thread | None = None
        self._host: DiscHost | None = None
        if path is not None and connected:
            self._open(path)

    def attach(self, cdrom: Cdrom) -> None:
        self._cdrom = cdrom

    def start(self, host: DiscHost) -> None:
        """The machine runs: watch the host's drive, if it is one."""
        self._host = host
        self._watch()

    def close(self) -> None:
        """Give everything back. Called once, the machine's lock not held."""
        self._stop_watching()
        self._drop()
        if self._drive is not None:
            self._drive.close()
            self._drive = None

    # from the host's side

    @property
    def connected(self) -> bool:
        return self.medium is not None or self._drive is not None

    def connect(self, path: Place | None = None, *, force: bool = False) -> None:
        """Put in another disc, or the same again. The old one stays if this raises."""
        target = path or self.path
        if target is None:
            raise HostRefused(f"{self.name}: no image or drive is configured to connect")
        if not is_host_drive(target):
            open_disc(target).close()  # while the old disc is still in
        self.disconnect(force=force)
        self._open(target)
        self.path = target
        if self.medium is not None:
            self._the_cdrom().connect(self.medium)
        self._watch()

    def disconnect(self, *, force: bool = False) -> None:
        """Take the disc out, and let go of the host's drive. Raises DriveLocked."""
        cdrom = self._the_cdrom()
        if force:
            cdrom.state.locked = 0  # as the emergency hole of a real drive does
        if not cdrom.disconnect():
            self._wanted_out = True
            raise DriveLocked(self.name)
        self._gone()

    def eject(self, *, force: bool = False) -> None:
        """As `disconnect`; a drive of the host opens its tray and stays connected."""
        if self._drive is None:
            self.disconnect(force=force)
            return
        cdrom = self._the_cdrom()
        if force:
            cdrom.state.locked = 0
        if not cdrom.disconnect():
            self._wanted_out = True
            raise DriveLocked(self.name)
        self._drop()
        self._ask_eject()

    # from the guest

    def ejected(self) -> None:
        """The tray is open. The disc lies in it, unless someone here has been waiting for it."""
        if self._drive is not None:
            self._ask_eject()
        elif self._wanted_out and self._the_cdrom().disconnect():
            self._gone()

    # inside

    def _the_cdrom(self) -> Cdrom:
        assert self._cdrom is not None, f"{self.name}: no drive is attached"
        return self._cdrom

    def _open(self, path: Place) -> None:
        if is_host_drive(path):
            self._drive = HostDrive(path)
            if self._drive.look().present:
                self.medium = self._open_host_disc(self._drive)
            return
        self.medium = open_disc(path)
        if self.medium.notice:
            self._say(f"{self.name}: {self.medium.notice}")

    def _open_host_disc(self, drive: HostDrive) -> HostBlocks | None:
        """A disc that cannot be read is as good as none, until it is changed."""
        try:
            return open_disc(drive.path)
        except RingfenceError as error:
            self._say(f"{self.name}: {error}")
            self._unreadable = True
            return None

    def _drop(self) -> None:
        medium, self.medium = self.medium, None
        self._wanted_out = False
        if medium is not None:
            medium.close()

    def _gone(self) -> None:
        self._drop()
        drive, self._drive = self._drive, None
        if drive is not None:
            self._stop_watching()
            drive.close()

    def _ask_eject(self) -> None:
        self._eject_asked = True
        self._wake.set()

    # watching the host's drive

    def _watch(self) -> None:
        if self._drive is not None and self._host is not None and self._thread is None:
            self._closing = False
            self._thread = threading.Thread(
                target=self._watch_loop, args=(self._drive, self._host), name=self.name, daemon=True
            )
            self._thread.start()

    def _stop_watching(self) -> None:
        """The thread waits for nothing that its caller holds; only the drive itself can keep it."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._closing = True
            self._wake.set()
            thread.join()

    def _watch_loop(self, drive: HostDrive, host: DiscHost) -> None:
        last: Look | None = None
        while not self._closing:
            if self._eject_asked:
                drive.eject()
                self._eject_asked, last = False, None
            look = drive.look()
            if look.changed or look != last:
                host.post(partial(self._seen, drive, look))
            last = look
            self._wake.wait(WATCH_S)
            self._wake.clear()

    def _seen(self, drive: HostDrive, look: Look) -> None:
        """Under the machine's lock: tell the guest of a disc that came or went. Nobody can lock a hand out."""
        if drive is not self._drive or self._eject_asked:
            return
        cdrom = self._the_cdrom()
        if look.changed or not look.present:
            self._unreadable = False
            if self.medium is not None:
                cdrom.state.locked = 0
                cdrom.disconnect()
                self._drop()
        if self.medium is None and look.present and not self._unreadable:
            self.medium = self._open_host_disc(drive)
            if self.medium is not None:
                cdrom.connect(self.medium)
