"""Configuration pages of the 53C1030: what its flash and its bus hold about board, port and targets.

Each page is a row: type, number, version, attributes, content. Content that software can write lies in the device's
state; what it may change of it is the row's business. A write "to NVRAM" is one to the current page, and no page has a
saved copy besides. The speed that a target is said to have been negotiated to is what was requested for it, as far as
the port can: nothing is slower for it.
Not modelled: BIOS, RAID and Fibre Channel pages, the pages of extended types.
Source: Fusion-MPT Message Passing Interface specification, "Configuration Messages", and its header mpi_cnfg.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint32, sizeof
from dataclasses import dataclass
from enum import IntEnum

from hw.scsi.lsilogic_sgl import segments_of
from hw.scsi.lsilogic_spec import (
    HOST_ID,
    IDS,
    MAX_DEVICES,
    ConfigReply,
    ConfigRequest,
    Function,
    IocStatus,
    PageHeader,
)
from hw.scsi.parallel_bus import gather
from hw.scsi.scsi_spec import Direction
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError

HEADER_BYTES = 4
KIND, ATTRIBUTES = 0x0F, 0xF0
READ_ONLY, CHANGEABLE, PERSISTENT = 0x00, 0x10, 0x20
CAPABILITIES = 0x207F0A00  # wide, offset 127, 25 ns: Fast-40
NEGOTIABLE = 0x20FF0000  # of a request: wide, offset
PERIOD_SHIFT, PERIOD_MASK, OFFSET_MASK = 8, 0xFF00, 0xFF0000
LVD = 3
RESPONSE_AND_OWN_ID = 1 << 16 + HOST_ID | HOST_ID
BOTH_INIT_HBA = 0x30
NEGOTIATED = 1
DEVICE_SETTINGS = bytes([0, 0x0A, 0x0F, 0])  # Fast-40; disconnect, id scan, LUN scan, tags
SLOT_UNKNOWN = 0xFF
SINGLE_FUNCTION = 1


class Action(IntEnum):
    """What a CONFIG request wants."""

    HEADER = 0
    READ_CURRENT = 1
    WRITE_CURRENT = 2
    DEFAULT = 3
    WRITE_NVRAM = 4
    READ_DEFAULT = 5
    READ_NVRAM = 6


class PageType(IntEnum):
    """Page types, the lower half of a header's last byte."""

    IO_UNIT = 0
    IOC = 1
    BIOS = 2
    SCSI_PORT = 3
    SCSI_DEVICE = 4
    RAID_VOLUME = 8
    MANUFACTURING = 9
    RAID_PHYSICAL_DISK = 10


class PagesState(LittleEndianStructure):
    """The contents, without headers, of the pages that can be written."""

    _pack_ = 1
    _fields_ = [
        ("unit_1", c_uint8 * 4),
        ("unit_2", c_uint8 * 28),
        ("ioc_1", c_uint8 * 12),
        ("port_1", c_uint8 * 12),
        ("port_2", c_uint8 * 72),
        ("requested", c_uint32 * MAX_DEVICES),
        ("configured", c_uint32 * MAX_DEVICES),
    ]


assert sizeof(PagesState) == 4 + 28 + 12 + 12 + 72 + 128

DEFAULTS: dict[str, bytes] = {
    "unit_1": struct.pack("<I", SINGLE_FUNCTION),
    "unit_2": bytes(28),
    "ioc_1": struct.pack("<IIBBH", 0, 0, 0, SLOT_UNKNOWN, 0),
    "port_1": struct.pack("<III", RESPONSE_AND_OWN_ID, 0, 0),
    "port_2": struct.pack("<II", 0, BOTH_INIT_HBA | HOST_ID) + DEVICE_SETTINGS * MAX_DEVICES,
}


def reset_pages(state: PagesState) -> None:
    """As the board leaves the factory, and nothing negotiated."""
    for name, content in DEFAULTS.items():
        getattr(state, name)[:] = content
    state.requested[:] = [CAPABILITIES] * MAX_DEVICES
    state.configured[:] = [0] * MAX_DEVICES


Content = Callable[[PagesState, int], bytes]
Store = Callable[[PagesState, int, bytes], None]


@dataclass(frozen=True, slots=True)
class Page:
    """One page: `content` gives what follows the header, for an address; `write` stores it, if it can be."""

    kind: PageType
    number: int
    version: int
    content: Content
    write: Store | None = None
    addresses: int = 1  # the page address is a target's id, or a port's number
    attributes: int = READ_ONLY


def stored(name: str) -> tuple[Content, Store]:
    """Content that is kept as it was written."""

    def write(state: PagesState, address: int, content: bytes) -> None:
        getattr(state, name)[: len(content)] = content

    return lambda state, address: bytes(getattr(state, name)), write


def constant(content: bytes) -> Content:
    return lambda state, address: content


def negotiated(requested: int) -> int:
    """What comes of a request, by what the port can: the slower of both."""
    period = max(requested & PERIOD_MASK, CAPABILITIES & PERIOD_MASK)
    offset = min(requested & OFFSET_MASK, CAPABILITIES & OFFSET_MASK)
    if not offset or not requested & PERIOD_MASK:
        period = offset = 0
    return requested & CAPABILITIES & ~(PERIOD_MASK | OFFSET_MASK) | period | offset


def device_0(state: PagesState, address: int) -> bytes:
    return struct.pack("<II", negotiated(state.requested[address]), NEGOTIATED)


def device_1(state: PagesState, address: int) -> bytes:
    return struct.pack("<III", state.requested[address], 0, state.configured[address])


def write_device_1(state: PagesState, address: int, content: bytes) -> None:
    state.requested[address], _, state.configured[address] = struct.unpack("<III", content)


def text(value: str, size: int) -> bytes:
    return value.encode("ascii").ljust(size, b"\0")


BOARD = text("LSI53C1030", 16) + text("B0", 8) + text("LSI53C1030", 16) + bytes(32)
IDENTITY = struct.pack("<IIHHB3xIHH", 0, 0, IDS.vendor, IDS.device, IDS.revision, IDS.class_code << 8, 0, 0)

PAGES = {
    (page.kind, page.number): page for page in (
        #    type                  number version  content
        Page(PageType.MANUFACTURING, 0, 0x00, constant(BOARD)),
        Page(PageType.IO_UNIT,       0, 0x00, constant(bytes(8))),
        Page(PageType.IO_UNIT,       1, 0x02, *stored("unit_1"), attributes=PERSISTENT),
        Page(PageType.IO_UNIT,       2, 0x02, *stored("unit_2"), attributes=PERSISTENT),
        Page(PageType.IOC,           0, 0x01, constant(IDENTITY)),
        Page(PageType.IOC,           1, 0x03, *stored("ioc_1"), attributes=PERSISTENT),
        Page(PageType.IOC,           2, 0x04, constant(bytes(16))),
        Page(PageType.IOC,           3, 0x00, constant(bytes(4))),
        Page(PageType.IOC,           4, 0x00, constant(bytes(4))),
        Page(PageType.SCSI_PORT,     0, 0x02, constant(struct.pack("<II", CAPABILITIES, LVD))),
        Page(PageType.SCSI_PORT,     1, 0x03, *stored("port_1"), attributes=PERSISTENT),
        Page(PageType.SCSI_PORT,     2, 0x02, *stored("port_2"), attributes=PERSISTENT),
        Page(PageType.SCSI_DEVICE,   0, 0x04, device_0, addresses=MAX_DEVICES),
        Page(PageType.SCSI_DEVICE,   1, 0x05, device_1, write_device_1, MAX_DEVICES, CHANGEABLE),
        Page(PageType.SCSI_DEVICE,   2, 0x01, constant(bytes(12)), addresses=MAX_DEVICES),
        Page(PageType.SCSI_DEVICE,   3, 0x00, constant(bytes(8)), addresses=MAX_DEVICES),
    )
}  # fmt: skip
READS = (Action.READ_CURRENT, Action.READ_DEFAULT, Action.READ_NVRAM)
WRITES = (Action.WRITE_CURRENT, Action.WRITE_NVRAM)


def configure(state: PagesState, memory: GuestMemory, frame: bytes) -> bytes:
    """Carry out a CONFIG request; its reply."""
    request = ConfigRequest.from_buffer_copy(frame)
    reply = ConfigReply(
        action=request.action, length=sizeof(ConfigReply) // 4, function=Function.CONFIG, flags=request.flags,
        context=request.context, header=request.header,
    )  # fmt: skip
    reply.ioc_status = _configure(state, memory, frame, request, reply.header)
    return bytes(reply)


def _configure(
    state: PagesState, memory: GuestMemory, frame: bytes, request: ConfigRequest, header: PageHeader
) -> IocStatus:
    """Fills in the header of the reply."""
    if request.action not in tuple(Action):
        return IocStatus.CONFIG_INVALID_ACTION
    kind = request.header.kind & KIND
    if kind not in tuple(PageType):
        return IocStatus.CONFIG_INVALID_TYPE
    page = PAGES.get((PageType(kind), request.header.number))
    if page is None or (request.action != Action.HEADER and request.page_address & 0xFFFF >= page.addresses):
        return IocStatus.CONFIG_INVALID_PAGE
    address = request.page_address & 0xFFFF if page.addresses > request.page_address & 0xFFFF else 0
    content = page.content(state, address)
    header.version, header.length = page.version, (HEADER_BYTES + len(content)) // 4
    header.kind = page.attributes | page.kind
    try:
        if request.action in READS:
            if request.action == Action.READ_DEFAULT:
                content = default_of(page, address)
            _move(memory, frame, bytes(header) + content)
        elif request.action in WRITES:
            if page.write is None:
                return IocStatus.CONFIG_CANT_COMMIT
            page.write(state, address, _fetch(memory, frame, bytes(header) + content)[HEADER_BYTES:])
        elif request.action == Action.DEFAULT and page.write is not None:
            page.write(state, address, default_of(page, address))
    except RingfenceError:
        return IocStatus.CONFIG_INVALID_DATA
    return IocStatus.SUCCESS


def default_of(page: Page, address: int) -> bytes:
    factory = PagesState()
    reset_pages(factory)
    return page.content(factory, address)


def _move(memory: GuestMemory, frame: bytes, data: bytes) -> None:
    """Into the request's buffer, as much as it takes."""
    segments = segments_of(memory, frame, sizeof(ConfigRequest), 0)
    buffer = gather(memory, segments, len(data), Direction.IN)
    try:
        at = 0
        for view in buffer.views:
            view[:] = data[at : at + len(view)]
            at += len(view)
    finally:
        buffer.release()


def _fetch(memory: GuestMemory, frame: bytes, current: bytes) -> bytes:
    """The page as the request's buffer has it; where that ends early, as it is now."""
    segments = segments_of(memory, frame, sizeof(ConfigRequest), 0)
    buffer = gather(memory, segments, len(current), Direction.OUT)
    try:
        sent = b"".join(buffer.views)
    finally:
        buffer.release()
    return sent + current[len(sent) :]
