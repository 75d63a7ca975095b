"""`ringfence vmfs mkfs`, `label` and `grow`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ringfence.errors import HostRefused
from tools.disk_words import size
from tools.vmfs_words import add_volume, whole, writing

MIB = 1 << 20
PLACEMENTS = ("new", "whole", "existing")


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    mkfs = subparsers.add_parser("mkfs", help="make a VMFS-3 volume on an image or a device, or several")
    mkfs.add_argument("volume", metavar="VOLUME", help="IMAGE, or IMAGE+IMAGE; the first one holds all metadata")
    mkfs.add_argument("--label", metavar="NAME", default="", help="the volume's name")
    mkfs.add_argument("--block-size", metavar="SIZE", type=size, default=MIB, help="1M (default), 2M, 4M or 8M")
    mkfs.add_argument("--size", metavar="SIZE", type=size, help="make new image files, each of this size")
    mkfs.add_argument(
        "--partition", choices=PLACEMENTS, default="new",
        help="new: a partition table with one partition (default); existing: the one of type fb; whole: none",
    )  # fmt: skip
    mkfs.add_argument("--esx3", action="store_true", help="leave a byte zero that newer readers need, ESX 3 not")
    mkfs.add_argument("--force", action="store_true", help="even where something else is there already")
    mkfs.set_defaults(run=mkfs_run)

    label = subparsers.add_parser("label", help="the volume's name, or a new one")
    add_volume(label, as_json=False)
    label.add_argument("name", metavar="NAME", nargs="?", help="the new name")
    label.set_defaults(run=label_run)

    grow = subparsers.add_parser("grow", help="add devices to a volume")
    add_volume(grow, as_json=False)
    grow.add_argument("devices", metavar="IMAGE", nargs="+", type=Path, help="an image or device for a further extent")
    grow.add_argument("--size", metavar="SIZE", type=size, help="make new image files, each of this size")
    grow.set_defaults(run=grow_run)


def new_images(paths: tuple[Path, ...], length: int | None) -> list[Path]:
    """Make sparse image files, where a size was given. Raises HostRefused."""
    made: list[Path] = []
    if length is None:
        return made
    try:
        for path in paths:
            with open(path, "xb") as file:
                made.append(path)
                file.truncate(length)
    except OSError as error:
        remove(made)
        raise HostRefused(f"{path}: cannot make it: {error.strerror}") from error
    return made


def remove(paths: list[Path]) -> None:
    for path in paths:
        os.unlink(path)


def mkfs_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.mkfs import Placement, format_volume

    where = whole(options.volume)
    made = new_images(where.images, options.size)
    try:
        format_volume(
            where.images, label=options.label, block_size=options.block_size, reader_shift=not options.esx3,
            placement=Placement(options.partition), force=options.force,
        )  # fmt: skip
    except BaseException:
        remove(made)
        raise
    return 0


def label_run(options: argparse.Namespace) -> int:
    from tools.vmfs_words import reading, shown

    where = whole(options.volume)
    if options.name is None:
        with reading(where) as volume:
            print(shown(volume.label))
        return 0
    with writing(where) as volume:
        volume.set_label(options.name)
    return 0


def grow_run(options: argparse.Namespace) -> int:
    with writing(whole(options.volume)) as volume:
        new_images(tuple(options.devices), options.size)  # they stay: the volume may be on them, whatever comes
        volume.extend(options.devices)
    return 0
