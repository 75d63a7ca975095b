"""Sense data in the fixed format, made from what was wrong."""

from __future__ import annotations

from hw.scsi.scsi_spec import (
    ADDITIONAL_LENGTH,
    BIT_VALID,
    FIELD_IN_CDB,
    FIELD_IN_LIST,
    INVALID_FIELD,
    INVALID_PARAMETER,
    RESPONSE_CURRENT,
    VALID,
    Sense,
    SenseData,
)

INFORMATION_MAX = 0xFFFFFFFF


def sense_data(sense: Sense, information: int | None = None) -> bytes:
    """18 bytes. Information that does not fit in its field is left out. [spc: fixed format sense data]"""
    data = SenseData(
        response=RESPONSE_CURRENT, key=sense.key & 0xF, additional_length=ADDITIONAL_LENGTH, asc=sense.asc,
        ascq=sense.ascq,
    )  # fmt: skip
    if information is not None and 0 <= information <= INFORMATION_MAX:
        data.response |= VALID
        data.information = information
    return bytes(data)


def pointed_at(sense: Sense, byte: int, bit: int | None = None, *, in_list: bool = False) -> bytes:
    """Sense data for a field of the CDB or of a parameter list, by its first byte and highest bit."""
    data = SenseData.from_buffer_copy(sense_data(sense))
    data.key_specific = FIELD_IN_LIST if in_list else FIELD_IN_CDB
    if bit is not None:
        data.key_specific |= BIT_VALID | bit & 7
    data.field_pointer = byte & 0xFFFF
    return bytes(data)


class Refused(Exception):
    """CHECK CONDITION, with this sense data, from whatever part of a command notices."""

    def __init__(self, sense: Sense, data: bytes | None = None) -> None:
        super().__init__(sense)
        self.sense = sense
        self.data = data or sense_data(sense)


def invalid_field(byte: int, bit: int | None = None) -> Refused:
    """A field of the CDB, by its first byte and, if it is less than a byte, its highest bit."""
    return Refused(INVALID_FIELD, pointed_at(INVALID_FIELD, byte, bit))


def invalid_parameter(byte: int) -> Refused:
    """A field of a parameter list, by its first byte."""
    return Refused(INVALID_PARAMETER, pointed_at(INVALID_PARAMETER, byte, in_list=True))
