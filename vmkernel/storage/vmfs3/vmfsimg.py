"""VMFSIMG: an image of a device without what is zero, in which VMFS volumes are passed on.

    "VMFSIMG"   and a byte, the version: 1 or 2
    records     00h  one sector. Version 2: a number n, and the n 32-bit words at its start; the rest is zeros
                01h  a number n: n + 1 sectors of zeros
                7Fh  Adler-32 of all sectors so far

A number has 7 bits in a byte, low ones first; bit 7 says that more follow. Little-endian.
Not modelled: making one.
Source: vmfs-tools, imager/imager.c.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.errors import CorruptImage
from vmkernel.storage.vmfs3.errors import NotVmfs

MAGIC = b"VMFSIMG"
VERSIONS = (1, 2)
SECTOR, ZEROS, CHECKSUM = 0x00, 0x01, 0x7F
NUMBER_BYTES_MAX = 5
WORD_BYTES = 4
SIZE_MAX = 64 << 40
ADLER_MODULUS = 65521
READ_BYTES = 1 << 20
GATHERED_MAX = 2048  # sectors that are written at once


class Container:
    """The bytes of a container, from front to back."""

    def __init__(self, file: BlockFile) -> None:
        self.file, self.at = file, 0
        self._buffer, self._start = b"", 0

    def take(self, length: int) -> bytes:
        """Raises CorruptImage where the file ends before."""
        begin = self.at - self._start
        if begin + length > len(self._buffer):
            self._buffer, self._start, begin = self.file.some_at(self.at, READ_BYTES), self.at, 0
        data = self._buffer[begin : begin + length]
        if len(data) < length:
            raise CorruptImage(self.file.path, self.at, "record", f"{length} bytes", f"{len(data)} and the file's end")
        self.at += length
        return data

    @property
    def ended(self) -> bool:
        return self.at >= self.file.size

    def number(self) -> int:
        value = 0
        for index in range(NUMBER_BYTES_MAX):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * index
            if not byte & 0x80:
                return value
        raise CorruptImage(self.file.path, self.at, "number", f"up to {NUMBER_BYTES_MAX} bytes", "more")


def is_container(file: BlockFile) -> bool:
    return file.some_at(0, len(MAGIC)) == MAGIC


def expand(source: Path, target: Path) -> int:
    """A new sparse file with the device's sectors; their number of bytes. Raises NotVmfs, CorruptImage, HostRefused."""
    with BlockFile.open(source) as file:
        if not is_container(file):
            raise NotVmfs(str(source), "magic", MAGIC.decode(), ascii(file.some_at(0, len(MAGIC))))
        container = Container(file)
        version = container.take(len(MAGIC) + 1)[-1]
        if version not in VERSIONS:
            raise CorruptImage(source, len(MAGIC), "version", "1 or 2", str(version))
        with BlockFile.create(target) as out:
            try:
                return copy(container, version, out)
            except BaseException:
                target.unlink()
                raise


def copy(container: Container, version: int, out: BlockFile) -> int:
    """The sectors of all records. Raises CorruptImage."""
    size, checksum = 0, 1
    gathered: list[bytes] = []

    def write() -> None:
        if gathered:
            out.write(size - len(gathered) * SECTOR_BYTES, [b"".join(gathered)])
            gathered.clear()

    while not container.ended:
        at = container.at
        kind = container.take(1)[0]
        if kind == SECTOR:
            data = sector(container, version)
            checksum = zlib.adler32(data, checksum)
            gathered.append(data)
            size += SECTOR_BYTES
            if len(gathered) == GATHERED_MAX:
                write()
        elif kind == ZEROS:
            write()
            length = (container.number() + 1) * SECTOR_BYTES
            checksum = adler_of_zeros(checksum, length)
            size += length
        elif kind == CHECKSUM:
            stored = int.from_bytes(container.take(4), "little")
            if stored != checksum:
                raise CorruptImage(container.file.path, at, "checksum", f"{checksum:#010x}", f"{stored:#010x}")
        else:
            raise CorruptImage(container.file.path, at, "record", "00h, 01h or 7Fh", f"{kind:02x}h")
        if size > SIZE_MAX:
            raise CorruptImage(container.file.path, at, "size of the device", f"up to {SIZE_MAX}", str(size))
    write()
    out.truncate(size)
    return size


def sector(container: Container, version: int) -> bytes:
    if version < VERSIONS[-1]:
        return container.take(SECTOR_BYTES)
    words = container.number()
    if words * WORD_BYTES > SECTOR_BYTES:
        raise CorruptImage(
            container.file.path, container.at, "words of a sector", f"up to {SECTOR_BYTES // WORD_BYTES}", str(words)
        )
    return container.take(words * WORD_BYTES).ljust(SECTOR_BYTES, b"\0")


def adler_of_zeros(checksum: int, length: int) -> int:
    """Adler-32 goes on over so many zeros."""
    low, high = checksum & 0xFFFF, checksum >> 16
    return low | (high + length * low) % ADLER_MODULUS << 16
