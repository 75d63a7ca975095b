"""`vmkfstools -C`, `-Z` and `-P`: make a VMFS-3 volume, add a device to one, say what one is.

On ESX a device is named vmhbaA:T:L:P, and the partition is there already. Here it is an image or a block device: its
partition of type FBh is taken, and where it has no partition table, one is made.
Source: ESX Server 3 configuration guide, "Using vmkfstools"; public output of `vmkfstools -P`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption
from tools.vmfs_words import place, reading, writing

if TYPE_CHECKING:
    from vmkernel.storage.vmfs3.volume import Volume

FILE_SYSTEMS = ("vmfs3",)
DEFAULT_BLOCK_BYTES = 1 << 20
UNITS = ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"))


def add_options(top: argparse.ArgumentParser, what: Any, size: Any) -> None:
    """`what` is the group of which one option is given."""
    what.add_argument("-C", "--createfs", dest="make", metavar="vmfs3", choices=FILE_SYSTEMS, help="make a volume")
    what.add_argument("-Z", "--extendfs", dest="span", metavar="DEVICE", help="add a device to the volume TARGET")
    what.add_argument("-P", "--queryfs", dest="query_volume", action="store_true", help="what the volume TARGET is")
    top.add_argument("-b", "--blocksize", dest="block", metavar="SIZE", type=size, help="with -C: 1m, 2m, 4m or 8m")
    top.add_argument("-S", "--setfsname", dest="label", metavar="NAME", help="with -C: the volume's name")
    top.add_argument("-h", "--human-readable", dest="human", action="store_true", help="with -P: sizes for people")


def judge(options: argparse.Namespace) -> None:
    """Raises BadOption for options that go with others only."""
    for flag, given in (("-b", options.block is not None), ("-S", options.label is not None)):
        if given and options.make is None:
            raise BadOption(f"{flag}: expected with -C only")


def make(options: argparse.Namespace) -> None:
    from vmkernel.storage.vmfs3.identity import uuid_text
    from vmkernel.storage.vmfs3.mkfs import format_volume

    where = place(options.target)
    block, label = options.block or DEFAULT_BLOCK_BYTES, options.label or ""
    with_label = f'blockSize {block} and volume label "{label or "none"}"'
    print(f'Creating vmfs3 file system on "{options.target}" with {with_label}.')
    format_volume(where.images, label=label, block_size=block, placement=placement(where.images[0]))
    with reading(where) as volume:
        print(f"Successfully created new volume: {uuid_text(volume.uuid)}")


def placement(device: Path) -> Any:
    """The partition that is there for it, else a new one."""
    from vmkernel.storage.block_file import BlockFile
    from vmkernel.storage.vmfs3.lun import MBR_KIND, table_of
    from vmkernel.storage.vmfs3.mkfs import Placement

    file = BlockFile.open(device, lock=False)
    try:
        has_one = any(entry.kind == MBR_KIND for entry in table_of(file))
    finally:
        file.close()
    return Placement.EXISTING_PARTITION if has_one else Placement.NEW_PARTITION


def span(options: argparse.Namespace) -> None:
    device = Path(options.span)
    kind = placement(device)
    with writing(place(options.target)) as volume:
        volume.extend([device], placement=kind)


def query(options: argparse.Namespace) -> None:
    with reading(place(options.target)) as volume:
        for line in lines(volume, human=options.human):
            print(line)


def lines(volume: Volume, *, human: bool) -> Iterator[str]:
    from vmkernel.storage.vmfs3.identity import uuid_text
    from vmkernel.storage.vmfs3.volume_spec import Config

    superblock, size = volume.superblock, volume.block_size
    total, free = volume.statistics()["file_block"]
    yield f"VMFS-{superblock.version}.{superblock.minor} file system spanning {len(volume.lv.luns)} partitions."
    yield f"File system label (if any): {volume.label}"
    mode = superblock.config & (Config.MODE_SHARED | Config.MODE_PUBLIC)
    yield f"Mode: {'private' if not mode else 'public' if mode == Config.MODE_PUBLIC else 'shared'}"
    if human:
        yield f"Capacity {short(total * size)}, {short(free * size)} available, file block size {short(size)}"
    else:
        yield f"Capacity {total * size} ({total} file blocks * {size}), {free * size} ({free} blocks) avail"
    yield f"UUID: {uuid_text(volume.uuid)}"
    yield 'Partitions spanned (on "lvm"):'
    for lun in volume.lv.luns:
        yield f"\t{lun}"


def short(count: int) -> str:
    """`1.5G`."""
    unit, name = next((one for one in UNITS if count >= one[0]), UNITS[-1])
    return f"{count / unit:.1f}{name}"
