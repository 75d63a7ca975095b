"""Copies files and whole trees: into a volume, out of one, from one to another, and on the host.

    source (a Node)  ->  copy_tree  ->  target (a Folder)

Holes of the source are holes of the copy, and so are zeros that are found while it is copied (see Sparse). Modes and
modification times are kept, owners are not. Nothing that is there already is written over, unless that is asked for,
and then only a file by a file. Symbolic links are copied, never followed. What cannot be read ends the copying, or is
reported: with `passing_over` such a file is left out, with `going_on` it has zeros there.
Not modelled: hard links, which VMFS-3 does not have; access times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from ringfence.errors import BadInput, MediaError, RingfenceError
from vmkernel.storage.errors import OutOfSpace

CHUNK_BYTES = 4 << 20
DEPTH_MAX = 512  # folders within folders: a path of the host is not much longer
Segment = tuple[int, int]  # offset, length: data, where the rest is a hole
Progress = Callable[[int, int], None]


class Kind(StrEnum):
    """What can be in a tree."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    OTHER = "other"  # a raw device mapping, a socket, a device: there is nothing to copy


class Sparse(StrEnum):
    """Which zeros take up no space in a copy."""

    AUTO = "auto"  # holes of the source; in a volume also whole blocks of zeros
    ALWAYS = "always"  # both, wherever the copy is
    NEVER = "never"


class Content(Protocol):
    """A file that is open for reading."""

    size: int

    def segments(self) -> Iterator[Segment]: ...

    def read(self, offset: int, view: memoryview) -> None: ...


class Node(Protocol):
    """Something that is copied. `identity` tells whether two are one."""

    name: str
    mode: int
    mtime_s: int
    identity: object

    @property
    def kind(self) -> Kind: ...

    def children(self) -> list[Node]: ...

    def target(self) -> str: ...

    def content(self) -> AbstractContextManager[Content]: ...

    def data_bytes(self) -> int: ...

    def __str__(self) -> str: ...


class Output(Protocol):
    """A new file that is open for writing, of blocks of `grain` bytes. `seeks_zeros`: zeros are left out unasked."""

    grain: int
    seeks_zeros: bool

    def write(self, offset: int, view: memoryview) -> None: ...

    def finish(self, size: int) -> None: ...


class Folder(Protocol):
    """Where copies are put."""

    def make_folder(self, name: str) -> Folder: ...

    def make_link(self, name: str, target: str, node: Node) -> None: ...

    def make_file(self, name: str, node: Node, *, replace: bool) -> AbstractContextManager[Output]: ...

    def finish(self, node: Node) -> None: ...

    def __str__(self) -> str: ...


class IsAFolder(BadInput):
    """A folder where `-r` was not said."""


@dataclass(slots=True)
class Report:
    """What was copied, what has nothing to copy or has zeros instead, and what could not be read."""

    files: int = 0
    folders: int = 0
    links: int = 0
    data_bytes: int = 0
    skipped: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


@dataclass(slots=True)
class TreeCopy:
    """One copying. `progress` is given bytes of data done and in all."""

    replace: bool = False
    going_on: bool = False
    passing_over: bool = False
    sparse: Sparse = Sparse.AUTO
    progress: Progress | None = None
    whole_bytes: int = 0
    report: Report = field(default_factory=Report)
    _buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(CHUNK_BYTES)))

    def run(self, node: Node, folder: Folder, name: str, *, recursive: bool) -> Report:
        """Copy `node` into `folder` as `name`. Raises what reading and writing do."""
        if node.kind is Kind.FOLDER and not recursive:
            raise IsAFolder(str(node), "what is copied", "a file, or -r", "a folder")
        if self.progress is not None:
            self.whole_bytes = measure(node)
        waiting: list[tuple[Node, Folder, str, tuple[object, ...]]] = [(node, folder, name, ())]
        made: list[tuple[Folder, Node]] = []
        while waiting:
            one, where, called, above = waiting.pop()
            with self._excusing(one):
                self._check(one, above)
                inner = self._make(one, where, called)
                if inner is not None:
                    made.append((inner, one))
                    below = (*above, one.identity)
                    waiting += [(child, inner, child.name, below) for child in reversed(one.children())]
        for inner, one in reversed(made):  # what is made in a folder changes its time
            with self._excusing(one):
                inner.finish(one)
        return self.report

    @property
    def has_begun(self) -> bool:
        return bool(self.report.folders or self.report.files or self.report.links)

    def _excusing(self, node: Node) -> AbstractContextManager[None]:
        return Excuse(self, node)

    @staticmethod
    def _check(node: Node, above: tuple[object, ...]) -> None:
        if node.identity in above:
            raise BadInput(str(node), "folder", "one that is not within itself", "a loop")
        if len(above) > DEPTH_MAX:
            raise BadInput(str(node), "folders within folders", f"at most {DEPTH_MAX}", "more")

    def _make(self, node: Node, folder: Folder, name: str) -> Folder | None:
        """The new folder, where it is one."""
        if node.kind is Kind.FOLDER:
            made = folder.make_folder(name)
            self.report.folders += 1
            return made
        if node.kind is Kind.LINK:
            folder.make_link(name, node.target(), node)
            self.report.links += 1
        elif node.kind is Kind.FILE:
            with node.content() as content, folder.make_file(name, node, replace=self.replace) as output:
                self._move(content, output)
                output.finish(content.size)
            self.report.files += 1
        else:
            self.report.skipped.append(f"{node}: {node.kind}: it has no contents to copy")
        return None

    def _move(self, content: Content, output: Output) -> None:
        seeks = self.sparse is Sparse.ALWAYS or (self.sparse is Sparse.AUTO and output.seeks_zeros)
        whole = [(0, content.size)] if content.size else []
        for start, length in whole if self.sparse is Sparse.NEVER else content.segments():
            for offset in range(start, start + length, CHUNK_BYTES):
                view = self._buffer[: min(CHUNK_BYTES, start + length - offset)]
                try:
                    content.read(offset, view)
                except (BadInput, MediaError) as error:
                    if not self.going_on:
                        raise
                    self.report.skipped.append(f"bytes {offset} to {offset + len(view)} read as zeros: {error}")
                    continue
                if seeks:
                    write_filled(output, offset, view)
                else:
                    output.write(offset, view)
                self.report.data_bytes += len(view)
                if self.progress is not None:
                    self.progress(self.report.data_bytes, max(self.whole_bytes, self.report.data_bytes))


def write_filled(output: Output, offset: int, view: memoryview) -> None:
    """Without the blocks that are zeros; those between are written together."""
    begun, at = -1, 0
    while at < len(view):
        step = min(output.grain - (offset + at) % output.grain, len(view) - at)
        if np.frombuffer(view[at : at + step], np.uint8).any():
            begun = at if begun < 0 else begun
        elif begun >= 0:
            output.write(offset + begun, view[begun:at])
            begun = -1
        at += step
    if begun >= 0:
        output.write(offset + begun, view[begun:])


class Excuse:
    """Where the copying goes on, an error becomes a line of its report: but not the first one, nor want of room."""

    def __init__(self, copy: TreeCopy, node: Node) -> None:
        self._copy, self._node = copy, node

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        copy = self._copy
        if not copy.has_begun or not isinstance(error, RingfenceError) or isinstance(error, OutOfSpace):
            return False
        if copy.going_on:
            copy.report.skipped.append(f"{self._node}: {error}")
        elif copy.passing_over and isinstance(error, BadInput | MediaError):
            copy.report.unread.append(f"{self._node}: {error}")
        else:
            return False
        return True


def measure(node: Node) -> int:
    """Bytes of data in a tree; what cannot be read does not count."""
    total, waiting, seen = 0, [node], set[object]()
    while waiting:
        one = waiting.pop()
        try:
            if one.kind is Kind.FOLDER and one.identity not in seen:
                seen.add(one.identity)
                waiting += one.children()
            elif one.kind is Kind.FILE:
                total += one.data_bytes()
        except (BadInput, MediaError, OSError):
            continue
    return total
