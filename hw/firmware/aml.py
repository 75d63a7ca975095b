"""An encoder for ACPI Machine Language: each function gives the bytes of one construct of ASL.

Names of more than one segment are written with dots, as in ASL; segments are filled up with underscores.
Not here: whatever the board's tables do not use (strings, mutexes, events, integers of 64 bits, most operators).
Source: ACPI Specification 1.0b, chapter 16.
"""

from __future__ import annotations

from hw.firmware.aml_spec import (
    DUAL_NAME_PREFIX,
    EXTENDED,
    METHOD_SERIALIZED,
    MULTI_NAME_PREFIX,
    NAME_SEGMENT_BYTES,
    PARENT_CHARACTER,
    ROOT_CHARACTER,
    Extended,
    FieldAccess,
    Op,
    RegionSpace,
)

NO_TARGET = bytes([Op.ZERO])  # of an operator whose result is only its value


def name_string(path: str) -> bytes:
    r"""A name as it is referred to, or declared: `\_SB.PCI0`, `^LNKA`, `_HID`."""
    rest = path.lstrip(ROOT_CHARACTER + PARENT_CHARACTER)
    prefix = path[: len(path) - len(rest)].encode("ascii")
    segments = [segment(part) for part in rest.split(".")] if rest else []
    if not segments:
        return prefix + bytes([Op.ZERO])
    if len(segments) == 1:
        return prefix + segments[0]
    marks = [DUAL_NAME_PREFIX] if len(segments) == 2 else [MULTI_NAME_PREFIX, len(segments)]
    return prefix + bytes(marks) + b"".join(segments)


def segment(text: str) -> bytes:
    """One segment of a name."""
    assert 0 < len(text) <= NAME_SEGMENT_BYTES, f"{text!r} is no segment of a name"
    assert not text[0].isdigit(), f"{text!r} begins with a digit"
    assert all(letter == "_" or letter.isdigit() or "A" <= letter <= "Z" for letter in text), f"{text!r} is no name"
    return text.ljust(NAME_SEGMENT_BYTES, "_").encode("ascii")


def measured(body: bytes) -> bytes:
    """The body behind its PkgLength, which counts itself: bits 7:6 of its first byte say how many bytes follow."""
    if len(body) + 1 < 1 << 6:
        return bytes([len(body) + 1]) + body
    for more in range(1, 4):
        total = len(body) + 1 + more
        if total < 1 << 4 + 8 * more:
            return bytes([more << 6 | total & 0xF]) + (total >> 4).to_bytes(more, "little") + body
    raise AssertionError(f"a package of {len(body)} bytes")


# data


def integer(value: int) -> bytes:
    """The shortest constant."""
    if value < 2:
        return bytes([Op.ONE if value else Op.ZERO])
    for op, size in ((Op.BYTE, 1), (Op.WORD, 2), (Op.DWORD, 4)):
        if value < 1 << 8 * size:
            return bytes([op]) + value.to_bytes(size, "little")
    raise AssertionError(f"{value:#x} has more than 32 bits")


def buffer(data: bytes) -> bytes:
    return bytes([Op.BUFFER]) + measured(integer(len(data)) + data)


def package(*elements: bytes) -> bytes:
    return bytes([Op.PACKAGE]) + measured(bytes([len(elements)]) + b"".join(elements))


def eisa_id(text: str) -> bytes:
    """`PNP0A03` as the compressed EISA type name: three letters of 5 bits, four hexadecimal digits; big-endian."""
    letters = [ord(letter) - ord("@") for letter in text[:3]]
    packed = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(text[3:], 16)
    return bytes([Op.DWORD]) + packed.to_bytes(4, "big")


# declarations


def name(path: str, value: bytes) -> bytes:
    return bytes([Op.NAME]) + name_string(path) + value


def scope(path: str, *body: bytes) -> bytes:
    return bytes([Op.SCOPE]) + measured(name_string(path) + b"".join(body))


def device(path: str, *body: bytes) -> bytes:
    return bytes([EXTENDED, Extended.DEVICE]) + measured(name_string(path) + b"".join(body))


def processor(path: str, identity: int, block: int = 0, block_bytes: int = 0) -> bytes:
    """`block`: the port of its power-management registers; of 0 bytes: it has none."""
    facts = bytes([identity]) + block.to_bytes(4, "little") + bytes([block_bytes])
    return bytes([EXTENDED, Extended.PROCESSOR]) + measured(name_string(path) + facts)


def method(path: str, arguments: int, *body: bytes, serialized: bool = False) -> bytes:
    """`serialized`: one caller at a time, which a method that creates names needs."""
    flags = arguments | (METHOD_SERIALIZED if serialized else 0)
    return bytes([Op.METHOD]) + measured(name_string(path) + bytes([flags]) + b"".join(body))


def operation_region(path: str, space: RegionSpace, offset: int, length: int) -> bytes:
    where = integer(offset) + integer(length)
    return bytes([EXTENDED, Extended.OPERATION_REGION]) + name_string(path) + bytes([space]) + where


def field(region: str, access: FieldAccess, *units: tuple[str, int]) -> bytes:
    """Names for consecutive bits of a region: (name, bits)."""
    rows = b"".join(segment(unit) + field_length(bits) for unit, bits in units)
    return bytes([EXTENDED, Extended.FIELD]) + measured(name_string(region) + bytes([access]) + rows)


def field_length(bits: int) -> bytes:
    """A PkgLength that measures a field unit, and so does not count itself."""
    assert bits < 1 << 6, f"a field of {bits} bits"
    return bytes([bits])


def create_word_field(source: bytes, byte_index: int, path: str) -> bytes:
    return bytes([Op.CREATE_WORD_FIELD]) + source + integer(byte_index) + name_string(path)


# expressions


def local(index: int) -> bytes:
    return bytes([Op.LOCAL0 + index])


def arg(index: int) -> bytes:
    return bytes([Op.ARG0 + index])


def call(path: str, *arguments: bytes) -> bytes:
    """The value of a name, or of the method that has it."""
    return name_string(path) + b"".join(arguments)


def and_(left: bytes, right: bytes, target: bytes = NO_TARGET) -> bytes:
    return bytes([Op.AND]) + left + right + target


def shift_left(value: bytes, count: bytes, target: bytes = NO_TARGET) -> bytes:
    return bytes([Op.SHIFT_LEFT]) + value + count + target


def subtract(left: bytes, right: bytes, target: bytes = NO_TARGET) -> bytes:
    return bytes([Op.SUBTRACT]) + left + right + target


def find_set_right_bit(value: bytes, target: bytes = NO_TARGET) -> bytes:
    """The number of the lowest bit that is set, counted from 1; 0 if there is none."""
    return bytes([Op.FIND_SET_RIGHT_BIT]) + value + target


# statements


def store(value: bytes, target: bytes) -> bytes:
    return bytes([Op.STORE]) + value + target


def if_(condition: bytes, *body: bytes) -> bytes:
    return bytes([Op.IF]) + measured(condition + b"".join(body))


def else_(*body: bytes) -> bytes:
    return bytes([Op.ELSE]) + measured(b"".join(body))


def return_(value: bytes) -> bytes:
    return bytes([Op.RETURN]) + value
