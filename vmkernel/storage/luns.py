"""Which device of this host a LUN is, that a raw device mapping on a volume names.

A volume comes from elsewhere, so it is not believed: a LUN is a device only where the user of this host has said so.
The names are symbolic links in $XDG_CONFIG_HOME/ringfence/luns (else ~/.config), one for each LUN. Who makes a mapping
to a device gives the device a name. For a mapping that was made elsewhere, ESX among them, a link is made by hand.

    lab-disk-3f9a12cc04d1e7b8          a name of ours, or of ESX as it stands: vmhba0:C0:T0:L0
    scsi-1a6000...                     the identifier of a SCSI device, in hexadecimal

Not modelled: finding a device by its serial number.
Source: ESX Server 3, SAN Configuration Guide, "Raw Device Mapping"; vmfs-tools, libvmfs/vmfs_lvm.h (disk id).
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ringfence.errors import HostRefused
from vmkernel.storage.datastores import config_folder
from vmkernel.storage.errors import MissingLink
from vmkernel.storage.vmfs3.lvm_spec import DISK_ID, DISK_ID_TEXT_BYTES, DiskIdType

SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]*")
UNSAFE = re.compile(r"[^A-Za-z0-9_.:+-]")
STEM_MAX = 24
LINKS_MAX = 4096
VENDOR, MODEL, REVISION = b"VMware  ", b"Raw device      ", b"1.0 "


class Luns:
    """The folder of links."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> Luns:
        """Raises HostRefused where the user has no home."""
        return cls(config_folder(environment) / "luns")

    def name(self, device: Path) -> str:
        """That of a device, which gets one if it has none yet. Raises HostRefused."""
        try:
            target = device.resolve(strict=True)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for link in sorted(self.folder.iterdir())[:LINKS_MAX]:
                if SAFE.fullmatch(link.name) and link.is_symlink() and link.readlink() == target:
                    return link.name
            stem = UNSAFE.sub("_", target.name)[:STEM_MAX] or "lun"
            name = f"{stem.lstrip('.:+-') or 'lun'}-{secrets.token_hex(8)}"
            (self.folder / name).symlink_to(target)
        except (OSError, RuntimeError) as error:
            raise HostRefused(f"{device}: cannot be given a name in {self.folder}: {reason(error)}") from error
        return name

    def device(self, disk_id: Any, where: object) -> Path:
        """`where` is the mapping. Raises MissingLink, or HostRefused for what is no file or block device."""
        name = lun_name(disk_id)
        link = self.folder / name
        try:
            return link.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            what = f"device of LUN {name!r}"
            found = "none of this name" if not link.is_symlink() else f"one to {os.readlink(link)}, {reason(error)}"
            raise MissingLink(str(where), what, f"a link to it in {self.folder}", found) from error


def reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "which is not there"
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else os.strerror(errno.ELOOP)


def disk_id(name: str) -> bytes:
    """The record that names a LUN in a mapping."""
    raw = name.encode("ascii")
    return bytes(DISK_ID.build({
        "type": DiskIdType.NAME, "id_length": len(raw), "lun": 0, "device_type": 0, "scsi_level": 3, "vendor": VENDOR,
        "model": MODEL, "revision": REVISION, "id": raw.ljust(DISK_ID_TEXT_BYTES, b"\0"),
    }))  # fmt: skip


def lun_name(record: Any) -> str:
    """What a parsed DISK_ID is called here: always a good name for a file."""
    used = bytes(record.id[: record.id_length]).rstrip(b"\0")
    text = used.decode("ascii", "replace")
    if record.type == DiskIdType.NAME and SAFE.fullmatch(text):
        return text
    return f"{'name' if record.type == DiskIdType.NAME else 'scsi'}-{used.hex() or '0'}"
