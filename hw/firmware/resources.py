"""Resource templates: what a device decodes and which interrupts it raises, as _CRS and _PRS give it.

Source: ACPI Specification 1.0b, section 6.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from ctypes import sizeof

from hw.firmware import aml
from hw.firmware.aml_spec import (
    DECODE_16,
    DMA_TAG,
    DWORD_SPACE_TAG,
    END_TAG,
    ENTIRE_RANGE,
    FIXED_MEMORY_TAG,
    IO_TAG,
    IRQ_NO_FLAGS_BYTES,
    IRQ_NO_FLAGS_TAG,
    IRQ_TAG,
    LARGE_HEADER_BYTES,
    WORD_SPACE_TAG,
    Dma,
    DwordSpace,
    FixedMemory,
    IoPorts,
    Irq,
    IrqFlag,
    MemorySpecific,
    SpaceFlag,
    SpaceKind,
    WordSpace,
)

FIXED = int(SpaceFlag.MIN_FIXED | SpaceFlag.MAX_FIXED)


def template(*descriptors: bytes) -> bytes:
    """A buffer of descriptors and the end tag."""
    return aml.buffer(b"".join(descriptors) + END_TAG)


def io(port: int, count: int) -> bytes:
    """`count` ports; decoded in 16 bits, and not to be moved."""
    return bytes(IoPorts(IO_TAG, DECODE_16, port, port, 1, count))


def irq(number: int) -> bytes:
    """An ISA interrupt of its own: edge, active high."""
    return bytes(Irq(IRQ_NO_FLAGS_TAG, 1 << number))[:IRQ_NO_FLAGS_BYTES]


def pci_irq(numbers: Iterable[int]) -> bytes:
    """The interrupts that a link can have: level, active low, shared."""
    return bytes(Irq(IRQ_TAG, sum(1 << number for number in numbers), int(IrqFlag.LOW_LEVEL | IrqFlag.SHARED)))


def dma(channel: int) -> bytes:
    return bytes(Dma(DMA_TAG, 1 << channel))


def memory(base: int, length: int, writable: bool = True) -> bytes:
    """A range that cannot be moved."""
    return bytes(FixedMemory(FIXED_MEMORY_TAG, sizeof(FixedMemory) - LARGE_HEADER_BYTES, writable, base, length))


def bus_window(first: int, last: int) -> bytes:
    """Bus numbers behind a bridge."""
    return _word_window(SpaceKind.BUS, 0, first, last)


def io_window(first: int, last: int) -> bytes:
    """Ports that a bridge passes on."""
    return _word_window(SpaceKind.IO, ENTIRE_RANGE, first, last)


def memory_window(first: int, last: int) -> bytes:
    """Memory that a bridge passes on, not cacheable."""
    count = sizeof(DwordSpace) - LARGE_HEADER_BYTES
    specific = int(MemorySpecific.READ_WRITE)
    return bytes(DwordSpace(DWORD_SPACE_TAG, count, SpaceKind.MEMORY, FIXED, specific, 0, first, last, 0,
                            last - first + 1))  # fmt: skip


def _word_window(kind: SpaceKind, specific: int, first: int, last: int) -> bytes:
    count = sizeof(WordSpace) - LARGE_HEADER_BYTES
    return bytes(WordSpace(WORD_SPACE_TAG, count, kind, FIXED, specific, 0, first, last, 0, last - first + 1))
