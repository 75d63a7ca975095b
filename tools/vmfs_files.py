"""`ringfence vmfs cat`, `cp`, `mv`, `rm` and `mkdir`: files of volumes and of the host."""

from __future__ import annotations

import argparse
import posixpath
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption, HostRefused, MediaError
from tools.disk_words import binary_output, progress
from tools.vmfs_words import add_place, place, place_or_host, reading, shown, warn, writing

if TYPE_CHECKING:
    from vmkernel.storage.vmfs3.place_names import PlaceName
    from vmkernel.storage.vmfs3.tree_copy import Folder, Node, TreeCopy

CHUNK_BYTES = 4 << 20
SPARSE = ("auto", "always", "never")
STATUS_WRONG = 1


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    cat = subparsers.add_parser("cat", help="the bytes of files, to standard output")
    add_place(cat, nargs="+", name="places")
    cat.set_defaults(run=cat_run)

    cp = subparsers.add_parser("cp", help="copy into a volume, out of one, or between two; holes stay holes")
    cp.add_argument("sources", metavar="SOURCE", nargs="+", help="a PLACE or a file of the host")
    cp.add_argument("target", metavar="TARGET", help="likewise: a new name, or a folder that is there")
    cp.add_argument("-r", dest="recursive", action="store_true", help="folders with all below them")
    cp.add_argument("--sparse", choices=SPARSE, default="auto", help="which zeros become holes: in a volume, all, none")
    cp.add_argument("--force", action="store_true", help="replace files that are there")
    cp.set_defaults(run=cp_run)

    mv = subparsers.add_parser("mv", help="rename within a volume")
    add_place(mv, "source", "SOURCE")
    mv.add_argument("target", metavar="TARGET", help="a PLACE of the same volume, or its path alone")
    mv.set_defaults(run=mv_run)

    rm = subparsers.add_parser("rm", help="remove files of a volume")
    add_place(rm, nargs="+", name="places")
    rm.add_argument("-r", dest="recursive", action="store_true", help="directories with all below them")
    rm.set_defaults(run=rm_run)

    mkdir = subparsers.add_parser("mkdir", help="make directories in a volume")
    add_place(mkdir, nargs="+", name="places")
    mkdir.add_argument("-p", dest="parents", action="store_true", help="those above them too; no error if there")
    mkdir.set_defaults(run=mkdir_run)


def cat_run(options: argparse.Namespace) -> int:
    for text in options.places:
        where = place(text)
        with reading(where) as volume:
            reader = volume.open_file(volume.lookup(where.path))
            write: Any = binary_output()
            buffer = memoryview(bytearray(min(CHUNK_BYTES, max(reader.size, 1))))
            for offset in range(0, reader.size, len(buffer)):
                piece = buffer[: min(len(buffer), reader.size - offset)]
                try:
                    reader.read(offset, [piece])
                except MediaError as error:
                    raise HostRefused(f"{text}: {error}") from error
                write(piece)
    return 0


# cp


def cp_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.tree_copy import Sparse, TreeCopy

    unread = 0
    ends = [place_or_host(text) for text in options.sources]
    target = place_or_host(options.target)
    if all(isinstance(end, Path) for end in [target, *ends]):
        raise BadOption(f"cp: expected a place in a volume on one side: {options.sources[0]}, {options.target}")
    with ExitStack() as stack:
        folder, is_there = stack.enter_context(target_folder(target, len(options.sources) > 1))
        for text, end in zip(options.sources, ends, strict=True):
            node = stack.enter_context(source_node(end))
            name = node.name if is_there else target.name
            if not name:
                raise BadOption(f"{text}: expected a name for the copy: {options.target} is the root")
            judge_overlap(end, target)
            with progress(shown(node.name) or "copy") as show:
                copy = TreeCopy(options.force, passing_over=True, sparse=Sparse(options.sparse), progress=show)
                unread += report(copy, node, folder, name, options)
    return STATUS_WRONG if unread else 0


def report(copy: TreeCopy, node: Node, folder: Folder, name: str, options: argparse.Namespace) -> int:
    """How many files could not be read."""
    found = copy.run(node, folder, name, recursive=options.recursive)
    for text in found.skipped:
        warn(text)
    for text in found.unread:
        warn(f"not copied: {text}")
    return len(found.unread)


def judge_overlap(source: PlaceName | Path, target: PlaceName | Path) -> None:
    """Raises BadOption for a folder that would be copied into itself."""
    if isinstance(source, Path) or isinstance(target, Path) or set(source.images) != set(target.images):
        return
    above = source.path.rstrip("/") + "/"
    if (target.path.rstrip("/") + "/").startswith(above):
        raise BadOption(f"{source}: expected a target outside of it, found {target}")


@contextmanager
def source_node(end: PlaceName | Path) -> Iterator[Node]:
    """A link at the end of the path is followed, as cp does."""
    from vmkernel.storage.vmfs3.tree_ends import HostNode, VolumeNode

    if isinstance(end, Path):
        yield HostNode(end.resolve() if end.is_symlink() else end)
        return
    with reading(end) as volume:
        yield VolumeNode(volume, end.path, end.name, volume.lookup(end.path))


@contextmanager
def target_folder(end: PlaceName | Path, several: bool) -> Iterator[tuple[Folder, bool]]:
    """Where the copies go, and whether it is the target itself: a folder that is there. Else the one above it."""
    from vmkernel.storage.vmfs3.tree_ends import HostFolder, VolumeFolder

    if isinstance(end, Path):
        if end.is_dir():
            yield HostFolder(end), True
            return
        judge_several(several, end)
        if not end.parent.is_dir():
            raise HostRefused(f"{end.parent}: expected a folder")
        yield HostFolder(end.parent), False
        return
    with writing(end) as volume:
        if volume.exists(end.path) and volume.lookup(end.path).is_directory:
            yield VolumeFolder(volume, end.path), True
        else:
            judge_several(several, end)
            yield VolumeFolder(volume, posixpath.dirname(end.path)), False


def judge_several(several: bool, end: object) -> None:
    if several:
        raise BadOption(f"{end}: expected a folder for several copies")


# names


def mv_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.place_names import normal

    source, target = place(options.source), place_or_host(options.target)
    if isinstance(target, Path) and not target.is_absolute():
        raise BadOption(f"{options.target}: expected a PLACE of the same volume, or a path that begins with a slash")
    if not isinstance(target, Path) and set(target.images) != set(source.images):
        raise BadOption(f"mv: expected names in one volume, found {options.source} and {options.target}: use cp and rm")
    path = normal(str(target)) if isinstance(target, Path) else target.path
    with writing(source) as volume:
        if volume.exists(path) and volume.lookup(path).is_directory:
            path = posixpath.join(path, source.name)
        volume.rename(source.path, path)
    return 0


def rm_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.errors import IsADirectory
    from vmkernel.storage.vmfs3.walk import walk

    for text in options.places:
        where = place(text)
        with writing(where) as volume:
            fd = volume.lookup(where.path, follow=False)
            if not fd.is_directory:
                volume.remove(where.path)
                continue
            if not options.recursive:
                raise IsADirectory(where.path, "a directory: expected a file, or -r")
            if where.path == "/":
                raise BadOption(f"{text}: expected something below the root")
            for item in reversed(list(walk(volume, where.path, fd))):
                if item.fd.is_directory:
                    volume.rmdir(item.path)
                else:
                    volume.remove(item.path)
    return 0


def mkdir_run(options: argparse.Namespace) -> int:
    for text in options.places:
        where = place(text)
        with writing(where) as volume:
            paths = [where.path]
            while options.parents and paths[-1] != "/":
                paths.append(posixpath.dirname(paths[-1]))
            for path in reversed(paths):
                if options.parents and volume.exists(path) and volume.lookup(path).is_directory:
                    continue
                volume.mkdir(path)
    return 0
