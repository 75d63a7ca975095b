"""`ringfence vmfs undelete` and `extract`: out of a volume that is read only, whatever its state."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ringfence.errors import BadOption, HostRefused
from tools.disk_words import add_json, progress, size_text
from tools.vmfs_words import add_place, add_volume, answer, place, reading, shown, warn, whole

STATUS_WRONG = 1


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    undelete = subparsers.add_parser("undelete", help="list deleted files whose descriptors survive, and recover them")
    add_volume(undelete)
    undelete.add_argument("descriptor", metavar="CLUSTER/RESOURCE", nargs="*", help="which ones; without: a list")
    undelete.add_argument("--all", dest="everything", action="store_true", help="all that are complete")
    undelete.add_argument("--to", metavar="FOLDER", type=Path, help="a folder of the host that they are written to")
    undelete.set_defaults(run=undelete_run)

    extract = subparsers.add_parser("extract", help="copy all that can be read to the host, passing over damage")
    add_place(extract)
    extract.add_argument("folder", metavar="FOLDER", type=Path, help="a new folder of the host")
    add_json(extract)
    extract.set_defaults(run=extract_run)


def undelete_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3 import addresses
    from vmkernel.storage.vmfs3.tree_copy import TreeCopy
    from vmkernel.storage.vmfs3.tree_ends import HostFolder
    from vmkernel.storage.vmfs3.undelete import Deleted, DeletedNode, deleted

    if bool(options.everything or options.descriptor) != (options.to is not None):
        raise BadOption("undelete: expected --to FOLDER with descriptors or --all, and neither without it")
    with reading(whole(options.volume)) as volume:
        found = deleted(volume)
        if options.to is None:
            show_deleted(found, options)
            return 0
        by_name = {"{}/{}".format(*addresses.place(one.fd.address)): one for one in found}
        wanted: list[Deleted] = [one for one in found if one.is_complete] if options.everything else []
        for name in options.descriptor:
            if name not in by_name:
                known = ", ".join(by_name) or "there is none"
                raise BadOption(f"{name}: expected a deleted file's descriptor: {known}")
            wanted.append(by_name[name])
        if not options.to.is_dir():
            raise HostRefused(f"{options.to}: expected a folder")
        for one in wanted:
            name = file_name(options.to, one)
            TreeCopy().run(DeletedNode(volume, one), HostFolder(options.to), name, recursive=False)
            if not options.json:
                lost = f", {size_text(one.reused_bytes)} lost" if one.reused_bytes else ""
                print(f"{shown(one.title)}: {size_text(one.free_bytes)} recovered{lost}")
        if options.json:
            answer([one.facts() for one in wanted])
    return 0 if all(one.is_complete for one in wanted) else STATUS_WRONG


def file_name(folder: Path, one: Any) -> str:
    """One that is not taken."""
    name = base = str(one.title)
    count = 1
    while (folder / name).exists():
        count += 1
        name = f"{base}-{count}"
    return name


def show_deleted(found: list[Any], options: argparse.Namespace) -> None:
    from vmkernel.storage.vmfs3 import addresses

    if options.json:
        answer([one.facts() for one in found])
        return
    if not found:
        print("no deleted file's descriptor survives")
        return
    print(f"{'descriptor':<12}{'size':>16}{'still there':>16}{'lost':>16}  {'written':<20} name")
    for one in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one.fd.mtime))
        name = shown(one.name) if one.name else "unknown"
        place_of = "{}/{}".format(*addresses.place(one.fd.address))
        print(f"{place_of:<12}{one.fd.length:>16}{one.free_bytes:>16}{one.reused_bytes:>16}  {when:<20} {name}")


def extract_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.tree_copy import TreeCopy
    from vmkernel.storage.vmfs3.tree_ends import HostFolder, VolumeNode

    where = place(options.place)
    told: list[str] = []
    with reading(where) as volume, progress("extract") as show:
        fd = volume.lookup(where.path, follow=False)
        node = VolumeNode(volume, where.path, where.name, fd, told.append)
        copy = TreeCopy(going_on=True, progress=show)
        target = Path(options.folder)
        report = copy.run(node, HostFolder(target.parent), target.name, recursive=True)
    trouble = list(dict.fromkeys(told + report.skipped))
    for text in trouble:
        warn(text)
    if options.json:
        answer({
            "files": report.files, "folders": report.folders, "links": report.links, "bytes": report.data_bytes,
            "skipped": trouble,
        })  # fmt: skip
    else:
        print(f"{report.files} files, {report.folders} folders, {report.links} links, {size_text(report.data_bytes)}")
    return STATUS_WRONG if trouble else 0
