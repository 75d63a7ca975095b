"""The Am79C970A's registers, resets, states and interrupt, played as its drivers play it."""

from __future__ import annotations

import struct

import pytest

from tests.hw.net.nic_rig import ADDRESS, MEMORY, OTHER, PORTS, RAM_BYTES, frame_of
from tests.hw.net.pcnet_driver import (
    BABL,
    BDP,
    BDP_32,
    BLOCK,
    CERR,
    DLNKTST,
    DRX,
    DTX,
    ENP,
    ERR,
    IDON,
    IENA,
    INIT,
    INTR,
    MERR,
    OWN,
    RAP,
    RAP_32,
    RDP,
    RDP_32,
    RESET,
    RESET_32,
    RINT,
    RX_RING,
    RXON,
    STOP,
    STP,
    STRT,
    TDMD,
    TINT,
    TX_DATA,
    TX_RING,
    TXON,
    PcnetRig,
)

SINT, SINTE, SPND, UINT, UINTCMD, TXSTRT, TXSTRTM = 0x0800, 0x0400, 1, 0x40, 0x80, 8, 4
DPOLL = 0x1000
NOWHERE = RAM_BYTES


@pytest.fixture
def rig() -> PcnetRig:
    return PcnetRig()


def test_identification(rig: PcnetRig) -> None:
    nic = rig.nic
    assert nic.config_read(0x00, 4) == 0x20001022
    assert nic.config_read(0x08, 4) == 0x02000010
    assert nic.config_read(0x2C, 4) == 0x20001022
    assert nic.config_read(0x3C, 4) & 0xFFFFFF00 == 0xFF060100
    nic.config_write(0x10, 4, 0xFFFFFFFF)
    nic.config_write(0x14, 4, 0xFFFFFFFF)
    nic.config_write(0x30, 4, 0xFFFFFFFF)
    assert [nic.config_read(at, 4) for at in (0x10, 0x14, 0x30)] == [0xFFFFFF81, 0xFFFFFFE0, 0xFFFF0001]


def test_linux_recognises_it(rig: PcnetRig) -> None:
    """Its probe, access by access."""
    assert rig.get(RESET) == 0
    assert rig.get(RDP) == 4
    rig.put(RAP, 88)
    assert rig.get(RAP) == 88
    assert rig.csr(88) | rig.csr(89) << 16 == 0x02621003
    assert b"".join(rig.csr(12 + index).to_bytes(2, "little") for index in range(3)) == ADDRESS
    assert bytes(rig.ports.read(PORTS + index, 1) for index in range(6)) == ADDRESS
    rig.set_bcr(20, 2)
    assert rig.bcr(20) == 0x0302
    assert rig.bcr(4) == 0x80C0, "the link is up"


def test_the_address_prom_adds_up(rig: PcnetRig) -> None:
    prom = bytes(rig.ports.read(PORTS + index, 1) for index in range(16))
    assert prom[:6] == ADDRESS and prom[9] == 0x11 and prom[14:] == b"WW"
    assert struct.unpack_from("<H", prom, 12)[0] == sum(prom[:12]) + sum(prom[14:])
    assert rig.ports.read(PORTS, 4) == int.from_bytes(prom[:4], "little")
    assert rig.ports.read(PORTS + 14, 2) == 0x5757


def test_the_address_prom_is_written_once_that_is_allowed(rig: PcnetRig) -> None:
    rig.put(0, 0x1234)
    assert rig.get(0) == int.from_bytes(ADDRESS[:2], "little")
    rig.set_bcr(2, 0x0102)
    rig.put(0, 0x1234)
    assert rig.get(0) == 0x1234
    rig.get(RESET)
    assert rig.csr(12) == 0x1234, "a reset loads the station address from it"
    rig.nic.reset()
    rig.nic.config_write(0x10, 4, PORTS)
    rig.nic.config_write(0x04, 2, 7)
    assert rig.csr(12) == int.from_bytes(ADDRESS[:2], "little")


# access widths


def test_a_double_word_write_changes_to_double_word_access(rig: PcnetRig) -> None:
    rig.put(RDP, 0x12345678, 4)
    rig.put(RAP_32, 88, 4)
    assert rig.get(RAP_32, 4) == 88
    assert rig.get(RDP_32, 4) == 0x02621003
    rig.put(RAP_32, 18, 4)
    assert rig.get(BDP_32, 4) == 0x9081
    rig.put(BDP_32, 0x9001, 4)
    assert rig.get(BDP_32, 4) == 0x9081, "DWIO is read-only here"
    assert rig.get(RDP, 2) == rig.get(RAP, 2) == 0xFFFF, "word accesses are undefined now"
    rig.put(RAP, 5)
    assert rig.get(RAP_32, 4) == 18
    assert rig.get(RESET_32, 4) == 0
    assert rig.get(RDP, 2) == 4, "a reset brings word access back"


def test_double_word_reads_are_undefined_in_word_access(rig: PcnetRig) -> None:
    assert rig.get(RDP, 4) == rig.get(RAP_32, 4) == 0xFFFFFFFF
    rig.put(RAP, 3)
    rig.put(RAP_32, 7, 4)
    assert (rig.get(RAP), rig.get(RDP)) == (3, 0)


@pytest.mark.parametrize("offset", [RDP, RAP, BDP, 0x11, 0x13, 0x18, 0x1F])
def test_byte_accesses_to_registers_do_nothing(rig: PcnetRig, offset: int) -> None:
    rig.put(RAP, 0)
    rig.put(offset, 0xFF, 1)
    assert rig.get(offset, 1) == 0xFF
    assert (rig.get(RAP), rig.get(RDP)) == (0, 4)


def test_registers_are_in_memory_too(rig: PcnetRig) -> None:
    rig.mmio.write(MEMORY + RAP, 2, 89)
    assert rig.mmio.read(MEMORY + RDP, 2) == 0x0262 == rig.get(RDP)
    assert rig.mmio.read(MEMORY, 4) == rig.ports.read(PORTS, 4)


def test_the_register_address_has_seven_bits(rig: PcnetRig) -> None:
    rig.put(RAP, 0xFFD8)
    assert rig.get(RAP) == 0x58


# resets


def test_a_soft_reset_keeps_the_bus_registers_and_some_of_the_mode(rig: PcnetRig) -> None:
    rig.set_bcr(2, 0x1002)
    rig.set_bcr(20, 2)
    rig.set_bcr(9, 1)
    for number, value in ((15, 0xFFFF), (3, 0x5F00), (4, 0x0915), (8, 0x1234), (12, 0xAAAA), (1, 0x5678)):
        rig.set_csr(number, value)
    assert rig.get(RESET) == 0
    assert rig.get(RAP) == 0
    assert [rig.bcr(number) for number in (2, 20, 9)] == [0x1002, 0x0302, 1]
    assert rig.csr(15) == 0x21C4
    assert [rig.csr(number) for number in (0, 3, 4, 5, 8, 76, 78, 80, 100)] == [
        4, 0, 0x115, 0, 0, 1, 1, 0x1410, 0x200,
    ]  # fmt: skip
    assert rig.csr(12) == int.from_bytes(ADDRESS[:2], "little")


def test_stop_clears_the_status_and_keeps_the_rings(rig: PcnetRig) -> None:
    rig.start()
    rig.put_frame(0, frame_of())
    rig.kick()
    rig.set_csr(5, SINTE)
    before = [rig.csr(number) for number in (3, 4, 8, 12, 15, 24, 25, 30, 31, 74, 76, 78)]
    assert rig.line
    rig.set_csr(0, STOP | IENA | INIT | STRT)
    assert rig.csr(0) == STOP and not rig.line
    before[1] &= ~0x02C2
    assert [rig.csr(number) for number in (3, 4, 8, 12, 15, 24, 25, 30, 31, 74, 76, 78)] == before


# states


def test_init_reads_the_block(rig: PcnetRig) -> None:
    rig.log = 4
    rig.start(mode=0x8180, hashes=0x8877665544332211)
    assert rig.csr(0) == STRT | INIT | TXON | RXON | IENA
    assert [rig.csr(8 + index) for index in range(4)] == [0x2211, 0x4433, 0x6655, 0x8877]
    assert (rig.csr(15), rig.csr(6)) == (0x8180, 0x4400)
    assert (rig.csr(24) | rig.csr(25) << 16, rig.csr(30) | rig.csr(31) << 16) == (RX_RING, TX_RING)
    assert [rig.csr(number) for number in (72, 74, 76, 78)] == [16] * 4


def test_a_ring_has_512_descriptors_at_most(rig: PcnetRig) -> None:
    block = bytearray(rig.init_block())
    block[2], block[3] = 0xF0, 0xA0
    rig.set_bcr(20, 2)
    rig.write(BLOCK, bytes(block))
    rig.set_csr(1, BLOCK)
    rig.set_csr(0, INIT)
    assert (rig.csr(76), rig.csr(78)) == (512, 512)


def test_a_16_bit_block_takes_the_upper_address_from_csr2(rig: PcnetRig) -> None:
    rig.style, rig.size = 0, 8
    rig.write(BLOCK, rig.init_block())
    rig.set_csr(1, BLOCK)
    rig.set_csr(0, INIT)
    assert rig.csr(24) | rig.csr(25) << 16 == RX_RING
    rig.set_csr(0, STOP)
    rig.set_csr(2, 0x1200)
    rig.set_csr(0, INIT)
    assert rig.csr(0) == STOP and rig.csr(5) & SINT, "there is no memory at 12001000h"


def test_init_and_start_act_on_their_edge_only(rig: PcnetRig) -> None:
    """iPXE writes back all that it has read, INIT and STRT too."""
    rig.start()
    rig.put_frame(0, frame_of())
    rig.kick()
    position = rig.csr(74)
    rig.put(RAP, 0)
    status = rig.get(RDP)
    rig.put(RDP, status)
    assert rig.csr(74) == position != rig.csr(78)
    assert rig.csr(0) == status & ~(TINT | INTR) == STRT | INIT | TXON | RXON | IENA


def test_init_with_start_does_both(rig: PcnetRig) -> None:
    rig.start()
    rig.set_csr(0, STOP)
    rig.set_csr(0, INIT | STRT | IENA)
    assert rig.csr(0) == STRT | INIT | TXON | RXON | IENA | IDON | INTR


@pytest.mark.parametrize(("mode", "off"), [(DRX, RXON), (DTX, TXON)])
def test_start_leaves_off_what_the_mode_disables(rig: PcnetRig, mode: int, off: int) -> None:
    rig.start(mode)
    assert rig.csr(0) & (TXON | RXON) == (TXON | RXON) & ~off


def test_transmit_demand_without_a_transmitter_is_forgotten(rig: PcnetRig) -> None:
    rig.start(DTX)
    rig.put_frame(0, frame_of())
    rig.kick()
    assert rig.wire.frames == [] and not rig.csr(0) & TDMD
    assert rig.status(TX_RING, 0) & OWN


def test_registers_of_the_rings_are_locked_while_it_runs(rig: PcnetRig) -> None:
    rig.start()
    numbers = [1, 2, *range(8, 16), *range(18, 48), 58, 72, 74, 76, 78, 112]
    before = [rig.csr(number) for number in numbers]
    for number, value in zip(numbers, before, strict=True):
        rig.set_csr(number, value ^ 0xFFFF)
    rig.set_bcr(20, 0)
    assert [rig.csr(number) for number in numbers] == before and rig.bcr(20) == 0x0302
    rig.set_csr(5, SPND)
    for number, value in zip(numbers, before, strict=True):
        if number != 58:
            rig.set_csr(number, value ^ 0xFFFF)
            assert rig.csr(number) == value ^ 0xFFFF, f"CSR{number}"
            rig.set_csr(number, value)


@pytest.mark.parametrize(
    ("written", "reads"), [(0, 0x0200), (1, 0x0101), (2, 0x0302), (3, 0x0303), (4, 0x0200), (0xFF, 0x0200)]
)
def test_a_software_style_sets_its_bits(rig: PcnetRig, written: int, reads: int) -> None:
    rig.set_bcr(20, written)
    assert rig.bcr(20) == rig.csr(58) == reads
    rig.set_bcr(20, 0)
    rig.set_csr(58, written)
    assert rig.bcr(20) == reads


def test_the_block_address_has_two_names(rig: PcnetRig) -> None:
    rig.set_csr(16, 0x1234)
    rig.set_csr(2, 0x5678)
    assert (rig.csr(1), rig.csr(17)) == (0x1234, 0x5678)


def test_without_an_init_block_a_driver_writes_the_registers(rig: PcnetRig) -> None:
    """Lengths as two's complements, and STRT alone. [data sheet: CSR76]"""
    rig.start()
    rig.get(RESET)
    rig.set_bcr(20, 2)
    for number, value in ((24, RX_RING), (25, 0), (30, TX_RING), (31, 0), (76, -8 & 0xFFFF), (78, -8 & 0xFFFF),
                          (72, -8 & 0xFFFF), (74, -8 & 0xFFFF), (15, 0)):  # fmt: skip
        rig.set_csr(number, value)
    rig.set_csr(0, STRT)
    for index in range(10):
        frame = frame_of(60 + index)
        rig.put_frame(index % 8, frame)
        rig.kick()
        assert rig.wire.frames[-1] == frame
    assert rig.receive(frame_of(64, ADDRESS))
    assert rig.received(0).status == STP | ENP | 0x40


# interrupt


def test_causes_and_masks_of_the_interrupt(rig: PcnetRig) -> None:
    rig.start(run=STRT)
    rig.put_frame(0, frame_of())
    rig.set_csr(0, TDMD)
    assert rig.csr(0) & (TINT | INTR | IENA) == TINT | INTR and not rig.line
    rig.set_csr(0, IENA)
    assert rig.line
    rig.set_csr(3, TINT)
    assert not rig.line and not rig.csr(0) & INTR and rig.csr(0) & TINT
    rig.set_csr(3, 0)
    assert rig.line
    rig.set_csr(0, TINT | IENA)
    assert not rig.line and not rig.csr(0) & (TINT | INTR)


def test_txstrt_interrupts_when_it_is_not_masked(rig: PcnetRig) -> None:
    rig.start(features=0x0115 & ~TXSTRTM)
    rig.set_csr(3, 0x5F00)
    rig.put_frame(0, frame_of())
    rig.kick()
    assert rig.line and rig.csr(4) & TXSTRT
    rig.set_csr(4, 0x0115 & ~TXSTRTM | TXSTRT)
    assert not rig.line and not rig.csr(4) & TXSTRT


def test_a_user_interrupt_waits_for_the_enable(rig: PcnetRig) -> None:
    rig.set_csr(4, 0x0115 | UINTCMD)
    assert rig.csr(4) & (UINT | UINTCMD) == UINTCMD and not rig.line
    rig.set_csr(0, IENA)
    assert rig.csr(4) & (UINT | UINTCMD) == UINT and rig.line
    rig.set_csr(4, 0x0115 | UINT)
    assert not rig.csr(4) & (UINT | UINTCMD) and not rig.line


def test_err_is_any_of_four(rig: PcnetRig) -> None:
    rig.start()
    rig.nic.set_link(False)
    rig.put_frame(0, frame_of())
    rig.kick()
    assert rig.csr(0) & (ERR | CERR) == ERR | CERR
    rig.set_csr(0, CERR)
    assert not rig.csr(0) & (ERR | CERR)


def test_a_collision_error_alone_does_not_interrupt(rig: PcnetRig) -> None:
    rig.start()
    rig.nic.set_link(False)
    rig.put_frame(0, frame_of())
    rig.kick()
    rig.set_csr(0, TINT | IENA)
    assert rig.csr(0) & CERR and not rig.line


# suspend


def test_nothing_moves_while_suspended(rig: PcnetRig) -> None:
    rig.start()
    rig.set_csr(5, SPND)
    assert rig.csr(5) == SPND
    rig.put_frame(0, frame_of())
    rig.kick()
    assert not rig.offer(frame_of(64, ADDRESS)), "it may wait"
    assert rig.receive(frame_of(64, ADDRESS)), "lost, and not for want of a buffer"
    assert rig.wire.frames == [] and rig.csr(0) & (TDMD | TXON | RXON) == TDMD | TXON | RXON
    rig.set_csr(15, 0x8000)
    ready = rig.wire.readiness
    rig.set_csr(5, 0)
    assert rig.wire.frames == [frame_of()] and not rig.csr(0) & TDMD and rig.wire.readiness > ready
    assert rig.receive(frame_of(64, OTHER)) and rig.status(RX_RING, 0) == STP | ENP


# transfers that cannot be


@pytest.mark.parametrize("what", ["block", "tx ring", "tx buffer", "rx ring", "rx buffer"])
def test_a_transfer_that_nobody_answers_is_fatal(rig: PcnetRig, what: str) -> None:
    """The controller stops, says SINT and, in configuration space, RMABORT. [data sheet: "Master Abort"]"""
    rig.start()
    rig.set_csr(5, SINTE | SPND)
    place = {"tx ring": 31, "rx ring": 25}.get(what)
    if place is not None:
        rig.set_csr(place, 0xFF00)
    rig.set_csr(5, SINTE)
    if what == "block":
        rig.set_csr(0, STOP)
        rig.set_csr(2, NOWHERE >> 16)
        rig.set_csr(0, INIT)
    elif what.startswith("tx"):
        rig.tx(0, NOWHERE if what == "tx buffer" else TX_DATA, 64)
        rig.kick()
    else:
        rig.rx(0, address=NOWHERE)
        rig.receive(frame_of(64, ADDRESS))
    assert rig.csr(0) & ~INTR == STOP and rig.csr(5) == SINT | SINTE and rig.line
    assert rig.nic.config_read(6, 2) == 0x2280
    assert rig.wire.frames == [] and rig.memory.open == 0
    rig.set_csr(5, SINT)
    rig.nic.config_write(6, 2, 0x2000)
    assert not rig.line and rig.nic.config_read(6, 2) == 0x0280


def test_without_bus_mastering_memory_errors_are_reported(rig: PcnetRig) -> None:
    rig.start()
    rig.nic.config_write(4, 2, 3)
    rig.put_frame(0, frame_of())
    rig.kick()
    assert rig.csr(0) & (MERR | TDMD) == MERR and rig.wire.frames == [] and rig.line
    rig.set_csr(0, MERR | IENA)
    assert not rig.receive(frame_of(64, ADDRESS))
    assert rig.csr(0) & MERR and rig.csr(112) == 1
    rig.set_csr(0, STOP)
    rig.set_csr(0, INIT)
    assert rig.csr(0) == INIT | MERR | ERR | INTR
    rig.nic.config_write(4, 2, 7)
    rig.set_csr(0, STOP)
    rig.set_csr(0, INIT)
    assert rig.csr(0) == INIT | IDON | INTR


# polling, the port, the lamps


def test_the_ring_is_polled_unless_the_driver_says_not_to(rig: PcnetRig) -> None:
    rig.start()
    rig.put_frame(0, frame_of())
    assert rig.nic.wants_poll and rig.wire.frames == []
    rig.nic.poll()
    assert rig.wire.frames == [frame_of()] and rig.line
    rig.set_csr(4, 0x0115 | DPOLL)
    assert not rig.nic.wants_poll
    rig.put_frame(1, frame_of())
    rig.nic.poll()
    assert len(rig.wire.frames) == 1
    rig.set_csr(4, 0x0115)
    rig.set_csr(0, STOP)
    assert not rig.nic.wants_poll


def test_the_port_learns_what_is_wanted(rig: PcnetRig) -> None:
    wanted = rig.wire.filter
    assert not wanted.receiving and not wanted.unicast and wanted.address == ADDRESS
    rig.start(hashes=5)
    wanted = rig.wire.filter
    assert wanted.receiving and wanted.unicast and wanted.broadcast and not wanted.promiscuous and wanted.hashes == 5
    rig.set_csr(5, SPND)
    rig.set_csr(15, 0xE000)
    wanted = rig.wire.filter
    assert (wanted.unicast, wanted.broadcast, wanted.promiscuous) == (False, False, True)
    rig.set_csr(0, STOP)
    assert not rig.wire.filter.receiving


def test_lamps_follow_the_link(rig: PcnetRig) -> None:
    assert [rig.bcr(number) for number in (4, 5, 6, 7)] == [0x80C0, 0x0084, 0x8088, 0x0090]
    rig.nic.set_link(False)
    assert [rig.bcr(number) for number in (4, 5, 6, 7)] == [0x00C0, 0x0084, 0x0088, 0x0090]
    rig.set_bcr(5, 0x80C1)
    assert rig.bcr(5) == 0x00C1, "LEDOUT is read-only"
    rig.set_csr(15, DLNKTST)
    assert rig.bcr(5) == 0x80C1, "without the link test the link passes"
    rig.nic.set_link(True)
    rig.set_bcr(5, 0x0100)
    assert rig.bcr(5) == 0x0100
    rig.set_bcr(9, 1)
    assert rig.bcr(5) == 0x8100, "full duplex"


def test_a_reset_leaves_the_cable(rig: PcnetRig) -> None:
    rig.start()
    rig.nic.reset()
    assert rig.nic.state.pcnet.link == 1 and not rig.line


def test_the_expansion_rom_is_shown_where_it_is_mapped() -> None:
    content = bytes(range(256)) * 300
    rig = PcnetRig(rom=content)
    rig.nic.config_write(0x30, 4, 0xFFFFFFFF)
    assert rig.nic.config_read(0x30, 4) == 0xFFFE0001, "a power of two that holds it"
    rig.nic.config_write(0x30, 4, 0xF0000001)
    assert rig.mmio.read(0xF0000000 + 5, 1) == 5
    assert rig.mmio.read(0xF0000000 + len(content) - 4, 4) == int.from_bytes(content[-4:], "little")
    assert rig.mmio.read(0xF0000000 + len(content), 4) == 0xFFFFFFFF
    rig.mmio.write(0xF0000000, 4, 1)
    assert rig.mmio.read(0xF0000000, 4) == 0x03020100
    rig.nic.config_write(0x30, 4, 0xF0000000)
    assert rig.mmio.find(0xF0000000) is None


def test_linux_brings_its_interface_up_and_down(rig: PcnetRig) -> None:
    """The trace of an unmodified driver."""
    rig.log = 4
    rig.get(RESET)
    rig.set_bcr(20, 2)
    rig.set_bcr(2, rig.bcr(2) & ~2)
    rig.set_bcr(9, rig.bcr(9) & ~3)
    rig.set_csr(124, rig.csr(124) & ~0x10)
    for index in range(16):
        rig.rx(index, 1544)
        rig.tx(index, 0, 1, 0)
    rig.write(BLOCK, rig.init_block(0x0080))
    rig.set_csr(1, BLOCK)
    rig.set_csr(2, 0)
    rig.set_csr(4, 0x0915)
    rig.set_csr(0, 1)
    assert rig.csr(0) == 0x0181
    rig.set_csr(0, 0x0042)
    assert rig.csr(0) == 0x01F3 and rig.line
    rig.set_csr(0, 0x01F3 & ~0x004F)
    rig.set_csr(3, 0x5F00)
    assert not rig.line
    rig.set_csr(3, 0)
    rig.set_csr(0, 0x0040)
    rig.put_frame(0, frame_of(42), OWN | STP | ENP)
    rig.set_csr(0, 0x0048)
    assert rig.wire.frames == [frame_of(42) + bytes(18)]
    assert rig.csr(0) == 0x02F3 and rig.line
    rig.set_csr(0, 0x02F3 & ~0x004F)
    rig.receive(frame_of(98, ADDRESS))
    assert rig.csr(0) == 0x04B3, "the acknowledgement has cleared IENA"
    assert rig.status(RX_RING, 0) & 0xFF00 == 0x0300
    rig.set_csr(0, 4)
    assert rig.csr(0) == 4


def test_babble_is_only_a_flag(rig: PcnetRig) -> None:
    rig.start()
    rig.put_frame(0, frame_of(1514))
    rig.kick()
    assert not rig.csr(0) & BABL
    rig.put_frame(1, frame_of(1515))
    rig.kick()
    assert rig.csr(0) & (BABL | ERR) == BABL | ERR and len(rig.wire.frames) == 2
    assert rig.status(TX_RING, 1) == STP | ENP
    assert rig.line and rig.csr(0) & RINT == 0
