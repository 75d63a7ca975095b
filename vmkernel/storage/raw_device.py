"""Raw device mappings: a descriptor whose one extent is a device (or a file that stands for one).

On a directory of the host a mapping is a symbolic link to the device. On a volume it is a file that names a LUN; which
device of the host that is, its user says (see luns.py). In physical compatibility (`rdmp`) the guest has the device for
its own, so it has no snapshots; in virtual compatibility (`rdm`) it is a disk like another.
Not modelled: commands that pass through to the device; vml names.
Source: vmkfstools manual, "Raw Device Mapping"; ESX Server 3 configuration guide, "Compatibility Modes".
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import NamedTuple, cast

from ringfence.errors import BadInput, HostRefused
from vmkernel.storage.block_file import BlockFile, replace_file
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.luns import Luns, disk_id
from vmkernel.storage.place import Place, elsewhere, is_taken
from vmkernel.storage.vmdk.descriptor import Descriptor, ExtentLine, build
from vmkernel.storage.vmdk.descriptor_spec import TEXT_BYTES_MAX, Access, Adapter, CreateType, ExtentType
from vmkernel.storage.vmdk.link import find, is_binary, new_cid

SUFFIXES = {False: "rdm", True: "rdmp"}
KINDS = {False: CreateType.VMFS_RDM, True: CreateType.VMFS_RDMP}


class Mapping(NamedTuple):
    """What a mapping stands for. `device` is None where this host does not know the LUN of this name."""

    is_passthrough: bool
    device: Place | None
    lun: str = ""


def create_mapping(path: Place, device: Place, *, passthrough: bool, adapter: Adapter = Adapter.LSILOGIC) -> None:
    """Raises HostRefused, or BadInput for a device of no sectors."""
    with BlockFile.open(device) as file:
        sectors = file.size // SECTOR_BYTES
    if not sectors:
        raise BadInput(str(device), "size of the device", "at least one sector", f"{file.size} bytes")
    link = path.with_name(f"{path.name.removesuffix('.vmdk')}-{SUFFIXES[passthrough]}.vmdk")
    try:
        if is_taken(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        map_device(link, device, sectors * SECTOR_BYTES)
    except OSError as error:
        raise HostRefused(f"{path if is_taken(path) else link}: cannot create: {error.strerror}") from error
    try:
        line = ExtentLine(Access.RW, sectors, ExtentType.VMFSRDM, link.name)
        replace_file(path, build([line], KINDS[passthrough], adapter, cid=new_cid(0)).encode())
    except BaseException:
        with contextlib.suppress(OSError):
            link.unlink()
        raise


def map_device(link: Place, device: Place, size: int) -> None:
    """The file that stands for a device. Raises OSError, HostRefused."""
    other = elsewhere(link)
    if other is None:
        link.symlink_to(device.resolve())
    elif not isinstance(device, Path):
        raise HostRefused(f"{device}: cannot be mapped on a volume: expected a device of the host")
    else:
        other.map_device(disk_id(Luns.of_user().name(device)), size)


def mapping(path: Place) -> Mapping | None:
    """None for a disk that is no mapping. The device need not be there. Raises what opening the descriptor does."""
    with BlockFile.open(path, lock=False) as file:
        data = file.some_at(0, TEXT_BYTES_MAX + 1)
    if is_binary(data):
        return None
    text = Descriptor.parse(data.partition(b"\0")[0], path)
    if not text.extents or text.extents[0].type is not ExtentType.VMFSRDM:
        return None
    passthrough = text.create_type is CreateType.VMFS_RDMP
    if elsewhere(path) is None:
        return Mapping(passthrough, find(path, text.extents[0].name, str(path)).resolve())
    link = elsewhere(find(path, text.extents[0].name, str(path)))
    lun = None if link is None else link.mapped_lun()
    if lun is None:
        return Mapping(passthrough, cast(Place, link))
    known = Luns.of_user().folder / lun
    return Mapping(passthrough, known.resolve() if known.exists() else None, lun)
