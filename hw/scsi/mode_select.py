"""A MODE SELECT parameter list, checked against the pages that there are.

A mistake is pointed at, and nothing is changed by a list that has one.
Source: SPC-3 (T10 1416D), MODE SELECT, mode parameter lists.
"""

from __future__ import annotations

from collections.abc import Mapping

from hw.scsi.scsi_spec import LIST_LENGTH
from hw.scsi.sense import Refused, invalid_parameter

HEADER_6_BYTES, HEADER_10_BYTES = 4, 8
PAGE_HEADER_BYTES = 2
PAGE_MASK, SUBPAGE_FORMAT = 0x3F, 0x40  # of a page's byte 0
BLOCK_DESCRIPTOR_BYTES = 8
BLOCK_LENGTH_AT = 5  # of a block descriptor


def selected_pages(
    data: bytes, header_bytes: int, block_bytes: int, pages: Mapping[int, bytes], masks: Mapping[int, bytes]
) -> dict[int, bytes]:
    """The list's pages by code. `pages` are as they are now; a 1 in a page's mask is a bit that may differ.

    Raises Refused.
    """
    if len(data) < header_bytes:
        raise Refused(LIST_LENGTH)
    at = header_bytes + descriptor_bytes(data, header_bytes, block_bytes)
    found: dict[int, bytes] = {}
    while at < len(data):
        code = data[at] & PAGE_MASK
        if data[at] & SUBPAGE_FORMAT or code not in pages:
            raise invalid_parameter(at)
        page = checked_page(data, at, pages[code], masks[code])
        found[code] = page
        at += len(page)
    return found


def descriptor_bytes(data: bytes, header_bytes: int, block_bytes: int) -> int:
    """The block descriptor's length. If there is one, it must name the block length that there is."""
    length_at = 3 if header_bytes == HEADER_6_BYTES else 6
    length = int.from_bytes(data[length_at:header_bytes], "big")
    if length == 0:
        return 0
    if length != BLOCK_DESCRIPTOR_BYTES:
        raise invalid_parameter(length_at)
    end = header_bytes + length
    if len(data) < end:
        raise Refused(LIST_LENGTH)
    if int.from_bytes(data[header_bytes + BLOCK_LENGTH_AT : end], "big") != block_bytes:
        raise invalid_parameter(header_bytes + BLOCK_LENGTH_AT)
    return length


def checked_page(data: bytes, at: int, now: bytes, mask: bytes) -> bytes:
    if len(data) < at + PAGE_HEADER_BYTES:
        raise Refused(LIST_LENGTH)
    if data[at + 1] != now[1]:
        raise invalid_parameter(at + 1)
    page = data[at : at + len(now)]
    if len(page) < len(now):
        raise Refused(LIST_LENGTH)
    for index in range(PAGE_HEADER_BYTES, len(now)):
        if (page[index] ^ now[index]) & ~mask[index] & 0xFF:
            raise invalid_parameter(at + index)
    return page
