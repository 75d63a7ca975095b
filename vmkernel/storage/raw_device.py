"""Raw device mappings: a descriptor whose one extent is a device (or a file that stands for one).

On a directory of the host a mapping is a symbolic link to the device. On a volume none is made or opened: there it is a
file that names a LUN, and which device of the host that is only its owner knows.
Not modelled: commands that pass through to the device; vml names.
Source: vmkfstools manual, "Raw Device Mapping".
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from ringfence.errors import BadInput, HostRefused
from vmkernel.storage.block_file import BlockFile, replace_file
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.place import Place, elsewhere
from vmkernel.storage.vmdk.descriptor import ExtentLine, build
from vmkernel.storage.vmdk.descriptor_spec import Access, Adapter, CreateType, ExtentType
from vmkernel.storage.vmdk.link import find, new_cid, open_link

SUFFIXES = {False: "rdm", True: "rdmp"}
KINDS = {False: CreateType.VMFS_RDM, True: CreateType.VMFS_RDMP}


class Mapping(NamedTuple):
    """What a mapping stands for."""

    is_passthrough: bool
    device: Place


def create_mapping(path: Place, device: Place, *, passthrough: bool, adapter: Adapter = Adapter.LSILOGIC) -> None:
    """Raises HostRefused, or BadInput for a device of no sectors."""
    if elsewhere(path) is not None:
        raise Unsupported(str(path), "raw device mapping", "a place on a directory of the host", "one on a volume")
    with BlockFile.open(device) as file:
        sectors = file.size // SECTOR_BYTES
    if not sectors:
        raise BadInput(str(device), "size of the device", "at least one sector", f"{file.size} bytes")
    link = path.with_name(f"{path.name.removesuffix('.vmdk')}-{SUFFIXES[passthrough]}.vmdk")
    try:
        if path.exists():
            raise FileExistsError(17, "it is there already")
        link.symlink_to(device.resolve())
    except OSError as error:
        raise HostRefused(f"{path if path.exists() else link}: cannot create: {error.strerror}") from error
    try:
        line = ExtentLine(Access.RW, sectors, ExtentType.VMFSRDM, link.name)
        replace_file(path, build([line], KINDS[passthrough], adapter, cid=new_cid(0)).encode())
    except BaseException:
        with contextlib.suppress(OSError):
            link.unlink()
        raise


def mapping(path: Place) -> Mapping | None:
    """None for a disk that is no mapping."""
    link = open_link(path, lock=False)
    link.abandon()
    text = link.descriptor
    if text is None or not text.extents or text.extents[0].type is not ExtentType.VMFSRDM:
        return None
    device = find(path, text.extents[0].name, str(path)).resolve()
    return Mapping(text.create_type is CreateType.VMFS_RDMP, device)
