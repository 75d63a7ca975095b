"""What a virtual disk tells of itself: INQUIRY, capacity, LUNs, defects, diagnostics, buffer.

Each takes a CDB of 16 bytes and gives what it asks for, cut to the allocation length, or raises Refused.
Source: SPC-3 (T10 1416D), SBC-2 (T10 1417D), SCSI-2 (X3.131-1994), by the commands' names.
"""

from __future__ import annotations

from hw.scsi.disk_cdb import number
from hw.scsi.disk_spec import (
    BLOCK_BYTES,
    BUFFER_MODE_MASK,
    BUFFER_REPLY_BYTES,
    COMMAND_DATA,
    DEFECT_LISTS,
    DESIGNATOR,
    DIAGNOSTIC_PAGES,
    ENABLE_VPD,
    PAGE_CODE_VALID,
    PARTIAL_MEDIUM,
    PHYSICAL_SECTORS,
    READ_CAPACITY_16,
    READ_CAPACITY_16_BYTES,
    READ_CAPACITY_LAST,
    RELATIVE_ADDRESS,
    REPORT_LUNS_SELECT_MAX,
    SERVICE_ACTION_MASK,
    BufferMode,
    VpdPage,
)
from hw.scsi.scsi_spec import LUN_LIST
from hw.scsi.sense import invalid_field


def inquiry(cdb: bytes, standard: bytes, uuid: bytes | None) -> bytes:
    """A SCSI-2 disk without a UUID has no vital product data: EVPD itself is then the invalid field."""
    allocation = number(cdb, 3, 2)
    if cdb[1] & COMMAND_DATA:
        raise invalid_field(1, 1)
    if not cdb[1] & ENABLE_VPD:
        if cdb[2]:
            raise invalid_field(2)
        return standard[:allocation]
    if uuid is None:
        raise invalid_field(1, 0)
    return vital_product_data(cdb[2], uuid)[:allocation]


def vital_product_data(page: int, uuid: bytes) -> bytes:
    pages = {
        VpdPage.SUPPORTED: bytes(sorted(VpdPage)),
        VpdPage.SERIAL: uuid.hex().encode(),
        VpdPage.IDENTIFICATION: DESIGNATOR + uuid,
    }
    if page not in pages:
        raise invalid_field(2)
    data = pages[VpdPage(page)]
    return bytes([0, page]) + len(data).to_bytes(2, "big") + data


def report_luns(cdb: bytes) -> bytes:
    allocation = number(cdb, 6, 4)
    if cdb[2] > REPORT_LUNS_SELECT_MAX:
        raise invalid_field(2)
    if allocation < len(LUN_LIST):
        raise invalid_field(6)
    return LUN_LIST


def read_capacity_10(cdb: bytes, blocks: int) -> bytes:
    if cdb[1] & RELATIVE_ADDRESS:
        raise invalid_field(1, 0)
    if not cdb[8] & PARTIAL_MEDIUM and number(cdb, 2, 4):
        raise invalid_field(2)
    last = min(max(blocks - 1, 0), READ_CAPACITY_LAST)
    return last.to_bytes(4, "big") + BLOCK_BYTES.to_bytes(4, "big")


def read_capacity_16(cdb: bytes, blocks: int) -> bytes:
    """The only service action of its operation code."""
    if cdb[1] & SERVICE_ACTION_MASK != READ_CAPACITY_16:
        raise invalid_field(1, 4)
    if not cdb[14] & PARTIAL_MEDIUM and number(cdb, 2, 8):
        raise invalid_field(2)
    data = max(blocks - 1, 0).to_bytes(8, "big") + BLOCK_BYTES.to_bytes(4, "big")
    return data.ljust(READ_CAPACITY_16_BYTES, b"\0")[: number(cdb, 10, 4)]


def read_defect_data(cdb: bytes) -> bytes:
    """Both lists are empty."""
    return bytes([0, cdb[2] & DEFECT_LISTS | PHYSICAL_SECTORS, 0, 0])[: number(cdb, 7, 2)]


def receive_diagnostic(cdb: bytes) -> bytes:
    if cdb[1] & PAGE_CODE_VALID and cdb[2]:
        raise invalid_field(2)
    return DIAGNOSTIC_PAGES[: number(cdb, 3, 2)]


def read_buffer(cdb: bytes) -> bytes:
    """Its size is 0, so a driver leaves out those tests of domain validation that write."""
    mode, allocation = cdb[1] & BUFFER_MODE_MASK, number(cdb, 6, 3)
    if mode not in list(BufferMode):
        raise invalid_field(1, 4)
    if mode in (BufferMode.HEADER_AND_DATA, BufferMode.DATA) and allocation > BUFFER_REPLY_BYTES:
        raise invalid_field(6)
    return bytes(min(allocation, BUFFER_REPLY_BYTES))
