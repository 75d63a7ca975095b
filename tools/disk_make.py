"""`ringfence disk create` and `resize`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption
from tools.disk_words import add_format, place, size

if TYPE_CHECKING:
    from vmkernel.storage.create import Kind
    from vmkernel.storage.formats import Target
    from vmkernel.storage.place import Place

ADAPTERS = ("ide", "buslogic", "lsilogic", "legacyESX")
KIND_HELP = (
    "monolithicSparse (default), monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, thick, zeroedthick, "
    "eagerzeroedthick, thin, vmfsSparse, streamOptimized or raw"
)


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    create = subparsers.add_parser("create", help="make a disk, or a child of one")
    create.add_argument("disk", metavar="DISK", type=place, help="the descriptor to make")
    create.add_argument("size", metavar="SIZE", nargs="?", type=size, help="such as 10G; a child has its parent's")
    create.add_argument("--kind", metavar="KIND", help=KIND_HELP)
    add_adapter(create)
    create.add_argument("--grain", metavar="SIZE", type=size, help="size of a grain, of the sparse kinds")
    create.add_argument("--parent", metavar="DISK", type=place, help="make a child of this disk, which is empty yet")
    create.add_argument("--redo", action="store_true", help="make an ESX 2 redo log, DISK.REDO, beside DISK")
    create.set_defaults(run=create_run)

    resize = subparsers.add_parser("resize", help="make a disk larger, or smaller where it ends in zeros")
    resize.add_argument("disk", metavar="DISK", type=place, help="a disk without parent and children")
    resize.add_argument("size", metavar="SIZE", help="the new size, such as 20G, or +5G for so much more")
    resize.add_argument("--shrink", action="store_true", help="a smaller size is meant; what goes must be zeros")
    add_format(resize)
    resize.set_defaults(run=resize_run)


def add_adapter(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--adapter", choices=ADAPTERS, default="lsilogic", help="for the geometry (default %(default)s)")


def create_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.convert import create_plain
    from vmkernel.storage.create import create
    from vmkernel.storage.formats import Plain, grain_sectors, target, target_for
    from vmkernel.storage.vmdk.descriptor_spec import Adapter

    if options.redo or options.parent is not None:
        return create_over(options)
    if options.size is None:
        raise BadOption("disk create: expected DISK and SIZE")
    kind = target(options.kind) if options.kind else target_for(options.disk.name)
    grain = grain_sectors(kind, options.grain)
    if isinstance(kind, Plain):
        create_plain(options.disk, kind, options.size, Adapter(options.adapter))
    else:
        create(options.disk, kind, options.size, Adapter(options.adapter), grain_sectors=grain)
    return 0


def create_over(options: argparse.Namespace) -> int:
    """A link with a parent."""
    from vmkernel.storage.create import Kind, create_child, create_redo
    from vmkernel.storage.formats import Format, grain_sectors, judge_format, target

    if options.size is not None:
        raise BadOption("disk create: expected no SIZE: the parent has it")
    if options.redo:
        if options.kind or options.grain or options.parent is not None:
            raise BadOption("--redo: expected without --kind, --grain and --parent")
        named_raw = not options.disk.name.endswith(".REDO") and not described(options.disk)
        create_redo(options.disk, bare=named_raw)
        return 0
    kind: Target = target(options.kind) if options.kind else Kind.VMFS_SPARSE
    judge_format(options.parent, Format.VMDK)
    create_child(options.disk, options.parent, as_kind(kind), grain_sectors=grain_sectors(kind, options.grain))
    return 0


def described(path: Place) -> bool:
    """Is there a descriptor or a sparse header, and not bare sectors as ESX 2 has under the same name?"""
    from vmkernel.storage.formats import holds_vmdk

    return holds_vmdk(path)


def as_kind(kind: Target) -> Kind:
    from vmkernel.storage.create import Kind

    if not isinstance(kind, Kind):
        raise BadOption(f"--kind: a link with a parent is not {kind}")
    return kind


def resize_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.formats import Format, judge_format, open_image
    from vmkernel.storage.resize import resize, resize_raw

    form = judge_format(options.disk, Format(options.format))
    try:
        wanted = size(options.size.removeprefix("+"))
    except argparse.ArgumentTypeError as error:
        raise BadOption(f"SIZE: {error}") from error
    if options.size.startswith("+"):
        with open_image(options.disk, form, lock=False) as disk:
            wanted += disk.size_bytes
    change = resize_raw if form is Format.RAW else resize
    change(options.disk, wanted, shrink=options.shrink)
    return 0
