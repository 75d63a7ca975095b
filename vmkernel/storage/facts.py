"""All that descriptors, headers and the host say about a disk, for people and for JSON; nothing is judged here.

A link that does not open ends the list, and its error is told; what is wrong beyond that is for `repair.check`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, is_dataclass
from enum import IntFlag
from typing import Any

import numpy as np

from ringfence.errors import BadInput, HostRefused, RingfenceError
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.chain import LINKS_MAX, file_id, open_parent, parent_path
from vmkernel.storage.disk import SECTOR_BYTES, Absent, Extent, Zeros
from vmkernel.storage.errors import DamagedGrain, Locked
from vmkernel.storage.place import Place
from vmkernel.storage.vmdk.descriptor import Descriptor, ExtentLine
from vmkernel.storage.vmdk.flat import FlatExtent
from vmkernel.storage.vmdk.grain_extent import GrainExtent
from vmkernel.storage.vmdk.grain_tables import ABSENT, ZERO
from vmkernel.storage.vmdk.link import Link, open_link
from vmkernel.storage.vmdk.sesparse import SeSparseExtent
from vmkernel.storage.vmdk.sparse import SparseExtent
from vmkernel.storage.vmdk.stream import StreamExtent

Facts = dict[str, Any]
IN_DESCRIPTOR = ("cid", "parentcid", "createtype", "parentfilenamehint", "version", "encoding")
HEADER_UNSHOWN = ("pad",)


def disk_facts(path: Place, *, recover: bool = False) -> Facts:
    """Raises BadInput or HostRefused when not even the youngest link opens."""
    links: list[Facts] = []
    error = ""
    link: Link | None = open_link(path, lock=False, recover=recover)
    sectors = 0 if link is None else link.sectors
    seen = {file_id(path)}
    while link is not None:
        try:
            links.append(link_facts(link))
            parent = parent_path(link) if link.has_parent else None
            if parent is not None and (file_id(parent) in seen or len(seen) >= LINKS_MAX):
                error, parent = f"{link.path}: its parent {parent} is its own ancestor", None
            following = None
            if parent is not None:
                seen.add(file_id(parent))
                following = open_parent(link, parent, lock=False, recover=recover)
        except (BadInput, HostRefused) as problem:
            error, following = str(problem), None
        finally:
            link.abandon()
        link = following
    return {
        "path": str(path), "bytes": sectors * SECTOR_BYTES, "sectors": sectors,
        "host_bytes": sum(one["host_bytes"] for one in links), "use": use(path), "links": links, "error": error,
    }  # fmt: skip


def raw_facts(path: Place) -> Facts:
    """Of a file of bare sectors."""
    with BlockFile.open(path, lock=False) as file:
        return {
            "path": str(path), "bytes": file.size, "sectors": file.size // SECTOR_BYTES,
            "host_bytes": file.allocated(), "use": use(path), "links": [], "error": "",
        }  # fmt: skip


def use(path: Place) -> str:
    """What locks say: `free`, `read` by somebody, or `written`."""
    with suppress(RingfenceError):
        link = open_link(path, lock=False)
        link.abandon()
        files = {path, *link.files}
        for state, writable in (("written", False), ("read", True)):
            for file in files:
                try:
                    with BlockFile.open(file, lock=False) as held:
                        held.lock(writable=writable)
                except Locked:
                    return state
        return "free"
    return "unknown"


def link_facts(link: Link) -> Facts:
    text = link.descriptor
    extents = [
        extent_facts(extent, text.extents[number] if text is not None and number < len(text.extents) else None)
        for number, extent in enumerate(link.extents)
    ]
    sizes = [file_size(link.path), *(file_size(path) for path in link.files if path != link.path.resolve())]
    facts: Facts = {"path": str(link.path), "sectors": link.sectors, "host_bytes": sum(sizes)}
    facts |= described(text) if text is not None else {"create_type": "", "parent_name": link.parent_name}
    return {**facts, "extents": extents}


def described(text: Descriptor) -> Facts:
    settings = {key: value for key, value in text.settings() if not key.lower().startswith("ddb.")}
    return {
        "create_type": text.get("createType") or "", "version": text.get("version") or "",
        "encoding": text.encoding_name, "cid": f"{text.cid:08x}", "parent_cid": f"{text.parent_cid:08x}",
        "parent_name": text.parent_hint,
        "settings": {key: value for key, value in settings.items() if key.lower() not in IN_DESCRIPTOR},
        "ddb": text.ddb(),
    }  # fmt: skip


def file_size(path: Place) -> int:
    """What it takes up on the host."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


def extent_facts(extent: Extent, line: ExtentLine | None) -> Facts:
    facts: Facts = {"type": getattr(extent, "NAME", type(extent).__name__), "access": "", "sectors": extent.sectors}
    if line is not None:
        facts |= {"type": str(line.type), "access": str(line.access), "name": line.name, "offset": line.offset}
    if isinstance(extent, StreamExtent) and line is None:
        facts["type"] = "SPARSE"
    if extent.file is not None:
        facts |= {
            "path": str(extent.file.path), "file_bytes": extent.file.size, "host_bytes": extent.file.allocated(),
        }  # fmt: skip
    header = getattr(extent, "header", None)
    if header is not None and is_dataclass(header) and not isinstance(header, type):
        facts["header"] = {name: plain(value) for name, value in asdict(header).items() if name not in HEADER_UNSHOWN}
    try:
        return facts | content(extent)
    except DamagedGrain as error:
        return facts | {"error": str(error)}


def plain(value: object) -> object:
    """Flags by their names."""
    if isinstance(value, IntFlag):
        return {"value": int(value), "names": [str(flag.name) for flag in type(value) if flag in value]}
    return int(value) if isinstance(value, bool) else value


def content(extent: Extent) -> Facts:
    """How much data an extent has, in grains where it has those. Raises DamagedGrain."""
    if isinstance(extent, FlatExtent):
        held = extent.holes(0, extent.sectors - extent.missing_sectors)
        data = sum(run.sectors for run in held if not isinstance(run, Zeros))
        return {"data_bytes": data * SECTOR_BYTES, "missing_bytes": extent.missing_sectors * SECTOR_BYTES}
    if isinstance(extent, GrainExtent | StreamExtent):
        return grains(extent)
    if isinstance(extent, SeSparseExtent):
        return {"data_bytes": se_sparse_sectors(extent) * SECTOR_BYTES}
    return {"data_bytes": 0}


def grains(extent: GrainExtent | StreamExtent) -> Facts:
    size = extent.grain_sectors if isinstance(extent, GrainExtent) else extent.header.grain_size
    allocated = zeroed = tables = 0
    for _, table in extent.tables.scan():
        tables += 1
        present = int(np.count_nonzero(table != ABSENT))
        zero = int(np.count_nonzero(table == ZERO)) if extent.has_zero_entry else 0
        allocated, zeroed = allocated + present - zero, zeroed + zero
    facts: Facts = {
        "data_bytes": allocated * size * SECTOR_BYTES, "grain_bytes": size * SECTOR_BYTES, "grains": allocated,
        "zero_grains": zeroed, "grains_of_disk": -(-extent.sectors // size), "tables": tables,
    }  # fmt: skip
    if isinstance(extent, SparseExtent):
        facts["redundant_tables"] = extent.redundant is not None
    return facts


def se_sparse_sectors(extent: SeSparseExtent) -> int:
    sector = found = 0
    while sector < extent.sectors:
        step = min(extent.stretch(sector), extent.sectors - sector)
        found += sum(run.sectors for run in extent.resolve(sector, step) if not isinstance(run, Zeros | Absent))
        sector += step
    return found
