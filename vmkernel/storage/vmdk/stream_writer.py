"""Writes a disk as a stream (streamOptimized), to a file or a pipe: nothing is written twice, and nothing is sought.

Grains in rising order, each behind its marker, those that are all zeros left out; behind every table's worth of grains
the table, at the end the directory, the footer and the end-of-stream marker. Several threads compress.
Source: VMware Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents".
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np

from vmkernel.storage.disk import SECTOR_BYTES, Disk
from vmkernel.storage.errors import OutOfSpace
from vmkernel.storage.vmdk import deflate
from vmkernel.storage.vmdk.descriptor import ExtentLine, build
from vmkernel.storage.vmdk.descriptor_spec import Access, Adapter, CreateType, ExtentType
from vmkernel.storage.vmdk.grain_tables import GTE
from vmkernel.storage.vmdk.link import new_cid
from vmkernel.storage.vmdk.sparse_header import new_header
from vmkernel.storage.vmdk.sparse_spec import (
    DESCRIPTOR_SECTORS,
    GD_AT_END,
    GRAIN_SECTORS_DEFAULT,
    MARKER,
    SECTOR_LIMIT,
    STREAM_OVER_HEAD,
    VERSION_STREAM,
    Flags,
    GrainMarker,
    Marker,
)
from vmkernel.storage.vmdk.stream_pipe import keep_order

BATCH_GRAINS = 64
Progress = Callable[[int, int], None]


class Sink(Protocol):
    """A file open for writing, a pipe, a socket."""

    def write(self, data: bytes, /) -> object: ...


def write_stream(
    disk: Disk,
    out: Sink,
    name: str,
    adapter: Adapter = Adapter.LSILOGIC,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> int:
    """The whole disk; the bytes written. The descriptor has `name` for the file; `progress(done, all)` in bytes."""
    keep_order(disk)
    writer = StreamWriter(out, disk.size_bytes // SECTOR_BYTES, name, adapter)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        waiting: deque[tuple[int, Future[list[bytes]]]] = deque()
        for first, grains in batches(disk):
            waiting.append((first, pool.submit(pack_all, grains)))
            if len(waiting) > 2 * (workers or os.cpu_count() or 1):
                writer.grains(*finished(waiting.popleft()))
            if progress is not None:
                progress(first * GRAIN_SECTORS_DEFAULT * SECTOR_BYTES, disk.size_bytes)
        while waiting:
            writer.grains(*finished(waiting.popleft()))
    if progress is not None:
        progress(disk.size_bytes, disk.size_bytes)
    return writer.finish()


def finished(batch: tuple[int, Future[list[bytes]]]) -> tuple[int, list[bytes]]:
    return batch[0], batch[1].result()


def pack_all(grains: list[memoryview]) -> list[bytes]:
    """Compressed grains; empty where all is zeros."""
    return [deflate.pack(grain) if np.frombuffer(grain, np.uint64).any() else b"" for grain in grains]


def batches(disk: Disk) -> Iterator[tuple[int, list[memoryview]]]:
    """(number of the first grain, grains) wherever a disk has data."""
    size = GRAIN_SECTORS_DEFAULT * SECTOR_BYTES
    done = 0
    for piece in disk.runs(0, disk.size_bytes):
        if piece.file is None:
            continue
        at = max(piece.start // size, done)
        end = -(-(piece.start + piece.length) // size)
        while at < end:
            count = min(end - at, BATCH_GRAINS)
            data = memoryview(bytearray(count * size))
            disk.read(at * size, [data[: min(count * size, disk.size_bytes - at * size)]])
            yield at, [data[index * size : (index + 1) * size] for index in range(count)]
            at += count
        done = max(done, end)


class StreamWriter:
    """The stream's state: where it is, and what the tables will say."""

    def __init__(self, out: Sink, sectors: int, name: str, adapter: Adapter) -> None:
        self.out, self.at = out, 0  # sectors
        flags = Flags.COMPRESSED | Flags.MARKERS
        header = new_header(sectors, GRAIN_SECTORS_DEFAULT, flags, VERSION_STREAM, DESCRIPTOR_SECTORS)
        self.header = replace(header, gd_offset=GD_AT_END, over_head=STREAM_OVER_HEAD)
        self.directory = np.zeros(header.tables, GTE)
        self.table = np.zeros(header.gtes_per_gt, GTE)
        self.index = 0  # of the table that is being filled
        extent = ExtentLine(Access.RW, sectors, ExtentType.SPARSE, name)
        text = build([extent], CreateType.STREAM_OPTIMIZED, adapter, cid=new_cid(0)).encode()
        self._put(self.header.build())
        self._put(text.ljust((STREAM_OVER_HEAD - 1) * SECTOR_BYTES, b"\0"))

    def _put(self, data: bytes) -> None:
        """Padded to whole sectors."""
        padding = -len(data) % SECTOR_BYTES
        self.at += (len(data) + padding) // SECTOR_BYTES
        self.out.write(data + bytes(padding) if padding else data)

    def grains(self, first: int, packed: list[bytes]) -> None:
        """Compressed grains in a row, in rising order; an empty one is all zeros."""
        pieces: list[bytes] = []
        for grain, data in enumerate(packed, first):
            if not data:
                continue
            index, slot = divmod(grain, self.header.gtes_per_gt)
            if index != self.index:
                self._put(b"".join(pieces))
                pieces.clear()
                self._end_table()
                self.index = index
            marker = bytes(GrainMarker(grain * self.header.grain_size, len(data)))
            at = self.at + sum(len(piece) for piece in pieces) // SECTOR_BYTES
            if at + 2 * self.header.grain_size > SECTOR_LIMIT:
                raise OutOfSpace("stream", at * SECTOR_BYTES, f"a grain must begin below sector {SECTOR_LIMIT}")
            self.table[slot] = at
            length = len(marker) + len(data)
            pieces += [marker, data, bytes(-length % SECTOR_BYTES)]
        self._put(b"".join(pieces))

    def _end_table(self) -> None:
        if not self.table.any():
            return
        self._marker(Marker.TABLE, self.header.table_sectors)
        self.directory[self.index] = self.at
        self._put(self.table.tobytes())
        self.table[:] = 0

    def _marker(self, kind: Marker, sectors: int) -> None:
        self._put(MARKER.build({"value": sectors, "size": 0, "type": int(kind), "pad": bytes(496)}))

    def finish(self) -> int:
        """Everything behind the last grain; the stream's length in bytes."""
        self._end_table()
        self._marker(Marker.DIRECTORY, self.header.directory_sectors)
        footer = replace(self.header, gd_offset=self.at)
        self._put(self.directory.tobytes())
        self._marker(Marker.FOOTER, 1)
        self._put(footer.build())
        self._marker(Marker.END, 0)
        return self.at * SECTOR_BYTES
