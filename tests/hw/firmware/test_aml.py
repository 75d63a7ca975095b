"""The AML encoder against iasl: each construct, written as ASL, compiles to the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.firmware import aml, resources
from hw.firmware.aml_spec import FieldAccess, RegionSpace
from tests.hw.firmware.peers import compile_asl

CONSTRUCTS = {
    "integers": (
        "Name (INTS, Package () {0, 1, 2, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFE})",
        aml.name("INTS", aml.package(*map(aml.integer, (0, 1, 2, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFE)))),
    ),
    "eisa id": (
        'Name (IDS, Package () {EisaId ("PNP0A03"), EisaId ("PNP0C0F"), EisaId ("VMW0001")})',
        aml.name("IDS", aml.package(*map(aml.eisa_id, ("PNP0A03", "PNP0C0F", "VMW0001")))),
    ),
    "paths": (
        "Scope (\\_SB) {Device (A) {Device (B) {Name (\\_SB.A.C, 1) Name (^D, 2) Name (\\_SB.A.B.E, 3)"
        " Name (\\F, 4)}}}",
        aml.scope("\\_SB", aml.device("A", aml.device(
            "B", aml.name("\\_SB.A.C", aml.integer(1)), aml.name("^D", aml.integer(2)),
            aml.name("\\_SB.A.B.E", aml.integer(3)), aml.name("\\F", aml.integer(4)),
        ))),
    ),
    "root": ("Scope (\\) {Name (X, 1)}", aml.scope("\\", aml.name("X", aml.integer(1)))),
    "processor": (
        "Scope (\\_PR) {Processor (CPU0, 0, 0, 0) {} Processor (CPU3, 3, 0x610, 6) {}}",
        aml.scope("\\_PR", aml.processor("CPU0", 0), aml.processor("CPU3", 3, 0x610, 6)),
    ),
    "region": (
        "OperationRegion (REGI, PCI_Config, 0x60, 4) Field (REGI, ByteAcc, NoLock, Preserve) {PIRA, 8, PIRB, 4}",
        aml.operation_region("REGI", RegionSpace.PCI_CONFIG, 0x60, 4)
        + aml.field("REGI", FieldAccess.BYTE, ("PIRA", 8), ("PIRB", 4)),
    ),
    "methods": (
        """
        Method (UNO, 0, NotSerialized) {Return (Buffer () {1, 2, 3})}
        Method (TWO, 2, Serialized) {
            CreateWordField (Arg0, 1, WORD)
            FindSetRightBit (WORD, Local0)
            If (Local0) {Return (Subtract (Local0, 1))} Else {Store (ShiftLeft (1, And (Arg1, 0xF)), WORD)}
            Return (And (Arg1, 0x80, Local7))
        }
        Method (TRI, 1, NotSerialized) {Store (TWO (Arg0, 5), Local1)}
        """,
        aml.method("UNO", 0, aml.return_(aml.buffer(b"\1\2\3")))
        + aml.method(
            "TWO", 2,
            aml.create_word_field(aml.arg(0), 1, "WORD"),
            aml.find_set_right_bit(aml.call("WORD"), aml.local(0)),
            aml.if_(aml.local(0), aml.return_(aml.subtract(aml.local(0), aml.integer(1)))),
            aml.else_(aml.store(
                aml.shift_left(aml.integer(1), aml.and_(aml.arg(1), aml.integer(0xF))), aml.call("WORD"))),
            aml.return_(aml.and_(aml.arg(1), aml.integer(0x80), aml.local(7))),
            serialized=True,
        )
        + aml.method("TRI", 1, aml.store(aml.call("TWO", aml.arg(0), aml.integer(5)), aml.local(1))),
    ),
    "device resources": (
        """
        Name (CRSA, ResourceTemplate () {
            IO (Decode16, 0x3F8, 0x3F8, 1, 8)
            IRQNoFlags () {4}
            DMA (Compatibility, NotBusMaster, Transfer8) {2}
            IRQ (Level, ActiveLow, Shared) {5, 9, 10, 11}
            IRQ (Level, ActiveLow, Shared) {}
            Memory32Fixed (ReadWrite, 0xFEC00000, 0x1000)
            Memory32Fixed (ReadOnly, 0xFFFC0000, 0x40000)
        })
        """,
        aml.name("CRSA", resources.template(
            resources.io(0x3F8, 8), resources.irq(4), resources.dma(2), resources.pci_irq((5, 9, 10, 11)),
            resources.pci_irq(()), resources.memory(0xFEC00000, 0x1000), resources.memory(0xFFFC0000, 0x40000, False),
        )),
    ),
    "windows": (
        """
        Name (CRSB, ResourceTemplate () {
            WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xFF, 0, 0x100)
            WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0xD00, 0xFFFF, 0, 0xF300)
            DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0, 0xA0000,
                0xBFFFF, 0, 0x20000)
            DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0, 0x10000000,
                0xFEBFFFFF, 0, 0xEEC00000)
        })
        """,
        aml.name("CRSB", resources.template(
            resources.bus_window(0, 0xFF), resources.io_window(0xD00, 0xFFFF),
            resources.memory_window(0xA0000, 0xBFFFF), resources.memory_window(0x10000000, 0xFEBFFFFF),
        )),
    ),
}  # fmt: skip


@pytest.mark.parametrize("construct", CONSTRUCTS)
def test_a_construct_is_what_iasl_makes_of_it(construct: str, tmp_path: Path) -> None:
    source, ours = CONSTRUCTS[construct]
    assert ours == compile_asl(source, tmp_path)


def test_lengths_take_more_bytes_as_they_grow(tmp_path: Path) -> None:
    """Each buffer, within its device, makes a package length that is just short of a limit, or just over it."""
    sizes = [0, 1, 47, 48, 49, 50, 51, 52, 53, 4070, 4071, 4072, 4073, 4074, 4075, 4076, 4077, 4078, 4079, 4080]
    source = "\n".join(
        f"Device (D{index:03d}) {{Name (BUFF, Buffer ({size}) {{{', '.join(['7'] * size)}}})}}"
        for index, size in enumerate(sizes)
    )
    ours = [
        aml.device(f"D{index:03d}", aml.name("BUFF", aml.buffer(b"\7" * size))) for index, size in enumerate(sizes)
    ]
    assert b"".join(ours) == compile_asl(source, tmp_path)


@pytest.mark.parametrize("size", [0x3E, 0x3F, 0xFFC, 0xFFD, 0xFFFFB, 0xFFFFC, 0xFFFFD, 0x100000])
def test_a_package_length_counts_itself(size: int) -> None:
    """Bits 7:6 of the first byte say how many follow; with none, bits 5:0 are the length, else bits 3:0 its lowest."""
    body = bytes(size)
    found = aml.measured(body)
    more = found[0] >> 6
    length = found[0] & 0x3F if not more else found[0] & 0xF | int.from_bytes(found[1 : 1 + more], "little") << 4
    assert length == len(found)
    assert found[1 + more :] == body
    limits = (0x3F, 0xFFF, 0xFFFFF)
    assert not more or size + more > limits[more - 1], "a shorter form would do"


@pytest.mark.parametrize("name", ["TOOLONG", "", "lower", "1ST", "A-B"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(AssertionError):
        aml.segment(name)
