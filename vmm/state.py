"""The state file: every byte of guest-visible state that is not guest memory, in one file that others may map too.

    0       header         magic, version, number of sections, total size
    64      directory      one entry per section: name, layout hash, offset, length
    ...     sections       each at a multiple of SECTION_ALIGN, in the order of the directory

A section is one ctypes structure: a vCPU, the interrupt page, a device. Little-endian; offsets and lengths in bytes.
A directory whose names, hashes or lengths are not those this machine would write is refused: nothing is converted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
from collections.abc import Mapping
from ctypes import LittleEndianStructure, c_char, c_uint8, c_uint32, c_uint64, sizeof
from pathlib import Path

from ringfence.errors import BadInput, HostRefused, LayoutMismatch
from ringfence.layout import LAYOUT_HASH_BYTES, layout_hash

MAGIC = b"RNGFSTAT"
VERSION = 1
SECTION_ALIGN = 4096  # a section may be mapped on its own, and FXSAVE images in it stay aligned
NAME_BYTES = 32
MAX_SECTIONS = 256

Sections = Mapping[str, type[ctypes.Structure]]


class Header(LittleEndianStructure):
    """At offset 0."""

    _fields_ = [
        ("magic", c_char * 8),
        ("version", c_uint32),
        ("sections", c_uint32),
        ("bytes", c_uint64),
        ("reserved", c_uint64 * 5),
    ]


class Entry(LittleEndianStructure):
    """One row of the directory."""

    _fields_ = [
        ("name", c_char * NAME_BYTES),
        ("layout", c_uint8 * LAYOUT_HASH_BYTES),
        ("offset", c_uint64),
        ("length", c_uint64),
    ]


assert sizeof(Header) == 64
assert sizeof(Entry) == 64


class StateFile:
    """A mapped state file. `file["uart0"]` is the structure itself, over the mapping: assigning to it is saving it."""

    def __init__(self, fd: int, mapping: mmap.mmap, sections: Sections) -> None:
        """Takes over `fd` and `mapping`, which hold a directory of exactly these sections."""
        self.fd, self.mapping, self.sections = fd, mapping, dict(sections)
        self.offsets, self.size = place(sections)
        self.states = {name: kind.from_buffer(mapping, self.offsets[name]) for name, kind in sections.items()}

    @classmethod
    def create(cls, sections: Sections, path: Path | None = None) -> StateFile:
        """A new file, all sections zero; without a path, one that only lives as long as its descriptor."""
        offsets, size = place(sections)
        fd = _open_new(path)
        try:
            os.ftruncate(fd, size)
            mapping = mmap.mmap(fd, size)
        except OSError as error:
            os.close(fd)
            raise HostRefused(f"the state file needs {size} bytes: {os.strerror(error.errno or 0)}") from error
        header = Header(MAGIC, VERSION, len(sections), size)
        mapping[: sizeof(Header)] = bytes(header)
        for index, (name, kind) in enumerate(sections.items()):
            layout = (c_uint8 * LAYOUT_HASH_BYTES)(*layout_hash(kind))
            row = Entry(name.encode(), layout, offsets[name], sizeof(kind))
            start = sizeof(Header) + index * sizeof(Entry)
            mapping[start : start + sizeof(Entry)] = bytes(row)
        return cls(fd, mapping, sections)

    @classmethod
    def open(cls, path: Path, sections: Sections) -> StateFile:
        """Map a file that was written earlier. Raises BadInput or LayoutMismatch; the file is not changed."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise BadInput(str(path), "cannot open", "a state file", os.strerror(error.errno or 0)) from error
        try:
            check(
                str(path),
                os.pread(fd, sizeof(Header) + MAX_SECTIONS * sizeof(Entry), 0),
                os.fstat(fd).st_size,
                sections,
            )
            return cls(fd, mmap.mmap(fd, place(sections)[1]), sections)
        except BaseException:
            os.close(fd)
            raise

    def __getitem__(self, name: str) -> ctypes.Structure:
        return self.states[name]

    def address(self, name: str) -> int:
        """Where the section lies in this process, for the C core."""
        return ctypes.addressof(self.states[name])

    def close(self) -> None:
        """Unmap. The structures handed out are dead afterwards, so the machine must be off."""
        self.states.clear()
        with contextlib.suppress(BufferError):  # a structure is still referenced: the mapping goes when it does
            self.mapping.close()
        os.close(self.fd)


def place(sections: Sections) -> tuple[dict[str, int], int]:
    """The offset of each section, and the file's size."""
    offset = sizeof(Header) + len(sections) * sizeof(Entry)
    offsets = {}
    for name, kind in sections.items():
        assert len(name.encode()) < NAME_BYTES, f"section name {name!r} is too long"
        offset = -(-offset // SECTION_ALIGN) * SECTION_ALIGN
        offsets[name] = offset
        offset += sizeof(kind)
    assert len(sections) <= MAX_SECTIONS
    return offsets, -(-offset // SECTION_ALIGN) * SECTION_ALIGN


def check(where: str, head: bytes, file_bytes: int, sections: Sections) -> None:
    """Compare a file's header and directory with what these sections would give."""
    if len(head) < sizeof(Header):
        raise BadInput(where, "header", f"{sizeof(Header)} bytes", f"{len(head)}")
    header = Header.from_buffer_copy(head)
    if header.magic != MAGIC:
        raise BadInput(where, "magic at offset 0", repr(MAGIC), repr(header.magic))
    if header.version != VERSION:
        raise LayoutMismatch(f"{where}: state format {header.version}, this build reads {VERSION}")
    offsets, size = place(sections)
    if header.bytes != size or file_bytes < size:
        raise LayoutMismatch(f"{where}: {min(header.bytes, file_bytes)} bytes of state, this machine has {size}")
    if header.sections != len(sections):
        raise LayoutMismatch(f"{where}: {header.sections} sections, this machine has {len(sections)}")
    for index, (name, kind) in enumerate(sections.items()):
        start = sizeof(Header) + index * sizeof(Entry)
        row = Entry.from_buffer_copy(head, start)
        found = head[start : start + NAME_BYTES].rstrip(b"\0").decode("ascii", "backslashreplace")
        if found != name:
            raise LayoutMismatch(f"{where}: section {index} is {found!r}, this machine has {name!r} there")
        if bytes(row.layout) != layout_hash(kind):
            raise LayoutMismatch(f"{where}: section {name!r} was written by a build with another layout of it")
        if (row.offset, row.length) != (offsets[name], sizeof(kind)):
            raise LayoutMismatch(f"{where}: section {name!r} lies at {row.offset}, expected {offsets[name]}")


def _open_new(path: Path | None) -> int:
    try:
        if path is None:
            return os.memfd_create("ringfence-state", os.MFD_CLOEXEC)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise HostRefused(f"{path}: exists already; a new state file is never written over another") from error
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        raise HostRefused(f"{path or 'memfd'}: cannot create a state file: {error.strerror} ({name})") from error
