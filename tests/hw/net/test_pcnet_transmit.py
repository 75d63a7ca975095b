"""The Am79C970A's transmitter and its loopback, in every software style and however memory is cut."""

from __future__ import annotations

from itertools import product

import pytest

from tests.hw.net.nic_rig import ADDRESS, OTHER, frame_of
from tests.hw.net.pcnet_driver import (
    ADD_FCS,
    BABL,
    BUFFER,
    CERR,
    CRC,
    DEF,
    DTX,
    DXMTFCS,
    ENP,
    FCOLL,
    IENA,
    INTL,
    LAFM,
    LCAR,
    LOOP,
    MISS,
    MORE,
    OWN,
    PAM,
    R_ERR,
    RINT,
    RTRY,
    RX_RING,
    RXON,
    STOP,
    STP,
    T_BUFF,
    TDMD,
    TINT,
    TX_DATA,
    TX_RING,
    TXON,
    UFLO,
    PcnetRig,
    fcs_of,
)

NO_FCS = ADD_FCS
LTINTEN, TOKINTD, DXSUFLO, APAD = 0x4000, 0x8000, 0x0040, 0x0800
ERR = R_ERR


@pytest.fixture(params=product(range(4), (1, 2)), ids=lambda p: f"style {p[0]}, {p[1]} views")
def rig(request: pytest.FixtureRequest) -> PcnetRig:
    style, pieces = request.param
    made = PcnetRig(style, pieces=pieces)
    made.start()
    return made


@pytest.fixture
def one() -> PcnetRig:
    made = PcnetRig()
    made.start()
    return made


@pytest.mark.parametrize("length", [1, 14, 60, 1000, 1514])
def test_a_frame_in_one_buffer(rig: PcnetRig, length: int) -> None:
    rig.put_frame(0, frame_of(length))
    rig.kick()
    assert rig.wire.frames == [frame_of(length)]
    assert rig.status(TX_RING, 0) == STP | ENP and rig.misc(TX_RING, 0) == 0
    assert rig.csr(0) & (TINT | TDMD) == TINT and rig.line and rig.memory.open == 0


def test_the_rest_of_a_descriptor_stays(rig: PcnetRig) -> None:
    rig.put_frame(0, frame_of(99))
    before = bytes(rig.ram[TX_RING : TX_RING + rig.size])
    rig.kick()
    after = bytearray(rig.ram[TX_RING : TX_RING + rig.size])
    if rig.style == 0:
        after[3] |= 0x80
    else:
        after[7] |= 0x80
    assert bytes(after) == before


def test_a_frame_in_several_buffers(rig: PcnetRig) -> None:
    frame = frame_of(400)
    rig.write(TX_DATA, frame)
    rig.tx(0, TX_DATA, 14, OWN | STP)
    rig.tx(1, TX_DATA + 14, 1, OWN)
    rig.tx(2, TX_DATA + 15, 385, OWN | ENP)
    rig.kick()
    assert rig.wire.frames == [frame]
    assert [rig.status(TX_RING, index) for index in range(3)] == [STP, 0, ENP]


def test_a_frame_around_the_ring(rig: PcnetRig) -> None:
    for index in range(7):
        rig.put_frame(index, frame_of(60))
    rig.kick()
    frame = frame_of(100)
    rig.write(TX_DATA, frame)
    rig.tx(7, TX_DATA, 50, OWN | STP)
    rig.tx(0, TX_DATA + 50, 50, OWN | ENP)
    rig.kick()
    assert rig.wire.frames[7:] == [frame]
    assert [rig.status(TX_RING, index) for index in (7, 0)] == [STP, ENP]


def test_a_buffer_of_4096_bytes(rig: PcnetRig) -> None:
    """A byte count of 0."""
    rig.write(TX_DATA, frame_of(4096))
    rig.tx(0, TX_DATA, 4096)
    rig.kick()
    assert rig.wire.frames == [frame_of(4096)] and rig.csr(0) & BABL


def test_all_frames_of_a_ring_with_one_demand(rig: PcnetRig) -> None:
    frames = [frame_of(60 + index) for index in range(8)]
    for index, frame in enumerate(frames):
        rig.put_frame(index, frame)
    rig.kick()
    assert rig.wire.frames == frames
    rig.kick()
    assert len(rig.wire.frames) == 8


@pytest.mark.parametrize(("style", "log", "base"), [(0, 7, TX_RING + 0xE08), (2, 9, TX_RING + 0x7F0)])
def test_a_ring_across_pages(style: int, log: int, base: int) -> None:
    count = 1 << log
    rig = PcnetRig(style, log)
    rig.start()
    rig.set_csr(5, 1)
    rig.set_csr(30, base)
    rig.set_csr(5, 0)
    for index in range(count):
        rig.descriptor(base, index, TX_DATA, 60 + index, OWN | STP | ENP)
    rig.kick()
    rig.descriptor(base, 0, TX_DATA, 999, OWN | STP | ENP)
    rig.kick()
    assert [len(frame) for frame in rig.wire.frames] == [*range(60, 60 + count), 999]


def test_one_demand_sets_so_much_to_work_and_no_more(one: PcnetRig) -> None:
    """A ring of 2,000 descriptors, which a driver can have that writes the registers itself."""
    one.set_csr(5, 1)
    for number, value in ((78, 2000), (74, 2000), (30, 0), (31, 8)):
        one.set_csr(number, value)
    one.set_csr(5, 0)
    for index in range(2000):
        one.descriptor(0x80000, index, TX_DATA, 60, OWN | STP | ENP)
    done = []
    while not done or one.csr(0) & TDMD:
        one.kick()
        done.append(len(one.wire.frames))
    assert done == [512, 1024, 1536, 2000]


def test_a_descriptor_in_which_no_frame_begins_is_given_back(rig: PcnetRig) -> None:
    rig.tx(0, TX_DATA, 60, OWN)
    rig.tx(1, TX_DATA, 60, OWN | ENP)
    rig.put_frame(2, frame_of())
    rig.kick()
    assert rig.wire.frames == [frame_of()]
    assert [rig.status(TX_RING, index) for index in range(3)] == [0, ENP, STP | ENP]


def test_a_chain_that_breaks_off_stops_the_transmitter(rig: PcnetRig) -> None:
    rig.tx(0, TX_DATA, 60, OWN | STP)
    rig.tx(1, TX_DATA, 60, OWN)
    rig.kick()
    assert rig.wire.frames == []
    assert rig.status(TX_RING, 0) == STP
    assert rig.status(TX_RING, 1) == ERR and rig.misc(TX_RING, 1) == T_BUFF | UFLO
    assert rig.csr(0) & (TXON | RXON | TINT) == RXON | TINT


def test_a_chain_that_breaks_off_does_not_stop_it_with_dxsuflo(rig: PcnetRig) -> None:
    rig.set_csr(3, DXSUFLO)
    rig.tx(0, TX_DATA, 60, OWN | STP)
    rig.kick()
    assert rig.status(TX_RING, 0) == STP | ERR and rig.csr(0) & TXON
    rig.put_frame(1, frame_of())
    rig.kick()
    assert rig.wire.frames == [frame_of()]


def test_a_ring_that_is_one_endless_frame_breaks_off_too(rig: PcnetRig) -> None:
    rig.set_csr(3, DXSUFLO)
    for index in range(8):
        rig.tx(index, TX_DATA, 60, OWN | STP)
    rig.kick()
    assert rig.wire.frames == []
    assert [rig.status(TX_RING, index) for index in range(8)] == [STP] * 7 + [STP | ERR]


def test_a_giant_is_lost_and_babbles(rig: PcnetRig) -> None:
    for index in range(6):
        rig.tx(index, TX_DATA, 4096, OWN | (STP if index == 0 else ENP if index == 5 else 0))
    rig.put_frame(6, frame_of())
    rig.kick()
    assert rig.wire.frames == [frame_of()] and rig.csr(0) & BABL
    assert not any(rig.status(TX_RING, index) & OWN for index in range(7))


# padding and FCS


def test_short_frames_are_padded_when_that_is_asked_for(rig: PcnetRig) -> None:
    rig.set_csr(4, 0x0115 | APAD)
    for index, length in enumerate((1, 59, 60, 61)):
        rig.put_frame(index, frame_of(length))
    rig.kick()
    assert rig.wire.frames == [frame_of(length).ljust(60, b"\0") for length in (1, 59, 60, 61)]


@pytest.mark.parametrize("good", [True, False])
def test_the_drivers_own_fcs_is_checked_and_taken_off(rig: PcnetRig, good: bool) -> None:
    rig.start(DXMTFCS)
    frame = frame_of(80)
    rig.put_frame(0, frame + (fcs_of(frame) if good else b"1234"))
    rig.kick()
    assert rig.wire.frames == [frame] * good
    assert rig.status(TX_RING, 0) == STP | ENP


def test_a_frame_can_ask_for_an_fcs_or_against_it(rig: PcnetRig) -> None:
    frame = frame_of(80)
    if rig.style == 1:
        rig.put_frame(0, frame + fcs_of(frame), OWN | STP | ENP | NO_FCS)
    else:
        rig.start(DXMTFCS)
        rig.put_frame(0, frame, OWN | STP | ENP | ADD_FCS)
    rig.kick()
    assert rig.wire.frames == [frame]
    assert rig.status(TX_RING, 0) == STP | ENP | ADD_FCS


def test_padding_overrides_the_driver_about_the_fcs(rig: PcnetRig) -> None:
    rig.start(DXMTFCS, features=0x0115 | APAD)
    rig.put_frame(0, frame_of(80))
    rig.kick()
    assert rig.wire.frames == [frame_of(80)]


# interrupts and errors


def test_which_frames_interrupt(one: PcnetRig) -> None:
    def interrupts(extended: int, status: int) -> bool:
        one.start()
        one.set_csr(5, extended)
        one.put_frame(0, frame_of(), OWN | STP | ENP | status)
        one.kick()
        return bool(one.csr(0) & TINT)

    assert interrupts(0, 0) and not interrupts(TOKINTD, 0)
    assert not interrupts(LTINTEN, 0) and interrupts(LTINTEN, MORE)
    assert interrupts(LTINTEN | TOKINTD, MORE) and not interrupts(LTINTEN | TOKINTD, 0)


def test_an_error_interrupts_all_the_same(one: PcnetRig) -> None:
    for extended in (TOKINTD, LTINTEN):
        one.start()
        one.set_csr(5, extended)
        one.nic.set_link(False)
        one.put_frame(0, frame_of())
        one.kick()
        assert one.csr(0) & (TINT | CERR) == TINT | CERR


def test_without_a_link_the_carrier_is_lost(rig: PcnetRig) -> None:
    rig.nic.set_link(False)
    rig.put_frame(0, frame_of())
    rig.kick()
    assert rig.wire.frames == []
    assert rig.status(TX_RING, 0) == STP | ENP | ERR and rig.misc(TX_RING, 0) == LCAR
    assert rig.csr(0) & CERR


def test_what_an_earlier_frame_left_in_a_descriptor_goes(rig: PcnetRig) -> None:
    rig.descriptor(TX_RING, 0, TX_DATA, 60, OWN | STP | ENP | ERR | MORE | DEF, 0xFC00 if rig.style == 0 else LCAR)
    rig.kick()
    assert (rig.status(TX_RING, 0), rig.misc(TX_RING, 0)) == (STP | ENP, 0)


# a port that is not ready


def test_a_refused_frame_waits_and_is_deferred(rig: PcnetRig) -> None:
    rig.wire.accepts = False
    for index in range(2):
        rig.put_frame(index, frame_of(60 + index))
    rig.kick()
    assert rig.csr(0) & (TDMD | TINT) == TDMD
    assert all(rig.status(TX_RING, index) & OWN for index in range(2))
    rig.wire.accepts = True
    rig.nic.port_ready()
    assert rig.wire.frames == [frame_of(60), frame_of(61)]
    assert [rig.status(TX_RING, index) for index in range(2)] == [STP | ENP | DEF, STP | ENP]
    assert rig.csr(0) & (TDMD | TINT) == TINT and rig.line


def test_stop_forgets_a_refused_frame(one: PcnetRig) -> None:
    one.wire.accepts = False
    one.put_frame(0, frame_of())
    one.kick()
    one.set_csr(0, STOP)
    one.wire.accepts = True
    one.nic.port_ready()
    assert one.wire.frames == []
    one.start()
    one.put_frame(0, frame_of())
    one.kick()
    assert one.status(TX_RING, 0) == STP | ENP


def test_a_port_may_call_back(one: PcnetRig) -> None:
    """What it delivers and asks meanwhile disturbs nothing."""
    send = one.wire.transmit

    def echo(frame: list[memoryview]) -> bool:
        one.nic.port_ready()
        one.nic.receive([memoryview(ADDRESS + b"".join(frame)[6:])])
        return send(frame)

    one.nic.pcnet.transmitter.port.transmit = echo  # type: ignore[method-assign]
    for index in range(3):
        one.put_frame(index, frame_of(60 + index))
    one.kick()
    assert one.wire.frames == [frame_of(60 + index) for index in range(3)]
    assert [one.received(index).data[6:-4] for index in range(3)] == [frame_of(60 + index)[6:] for index in range(3)]


# loopback


@pytest.mark.parametrize("mode", [LOOP, LOOP | INTL])
def test_looped_frames_come_back_with_their_fcs(rig: PcnetRig, mode: int) -> None:
    rig.start(mode)
    frame = frame_of(100, ADDRESS)
    rig.put_frame(0, frame)
    rig.kick()
    back = rig.received(0)
    assert rig.wire.frames == []
    assert back.data == frame + fcs_of(frame)
    assert back.status == STP | ENP | (PAM if rig.style else 0)
    assert rig.csr(0) & (TINT | RINT) == TINT | RINT


def test_looped_frames_may_be_short(rig: PcnetRig) -> None:
    rig.start(LOOP | INTL)
    frame = frame_of(20, ADDRESS)
    rig.put_frame(0, frame)
    rig.kick()
    assert rig.received(0).data == frame + fcs_of(frame)


def test_the_drivers_own_fcs_is_checked_in_loopback(rig: PcnetRig) -> None:
    rig.start(LOOP | INTL | DXMTFCS)
    frame = frame_of(64, ADDRESS)
    rig.put_frame(0, frame + fcs_of(frame))
    rig.put_frame(1, frame + b"1234")
    rig.put_frame(2, b"123")
    rig.kick()
    pam = PAM if rig.style else 0
    assert rig.received(0) == (STP | ENP | pam, 68, frame + fcs_of(frame))
    assert rig.received(1) == (STP | ENP | pam | CRC | R_ERR, 68, frame + b"1234")
    assert rig.status(RX_RING, 2) & OWN, "what is shorter than an FCS is for nobody"


def test_addresses_count_in_loopback(one: PcnetRig) -> None:
    one.start(LOOP | INTL, hashes=1 << 54)
    for index, destination in enumerate((OTHER, bytes.fromhex("01005e000001"), bytes.fromhex("01005e000002"))):
        one.put_frame(index, frame_of(64, destination))
    one.kick()
    assert one.received(0).status == STP | ENP | LAFM
    assert one.status(RX_RING, 1) & OWN


def test_only_looped_frames_are_received_in_loopback(one: PcnetRig) -> None:
    one.start(LOOP)
    assert one.receive(frame_of(64, ADDRESS))
    assert one.status(RX_RING, 0) & OWN and not one.csr(0) & MISS
    assert not one.wire.filter.receiving


def test_a_looped_frame_can_miss_its_buffer(one: PcnetRig) -> None:
    one.start(LOOP | INTL)
    one.rx(0, status=0)
    one.put_frame(0, frame_of(64, ADDRESS))
    one.kick()
    assert one.csr(0) & MISS and one.csr(112) == 1 and one.status(TX_RING, 0) == STP | ENP


def test_internal_loopback_needs_no_link(one: PcnetRig) -> None:
    for mode, status in ((LOOP | INTL, STP | ENP), (LOOP, STP | ENP | ERR)):
        one.start(mode)
        one.nic.set_link(False)
        one.put_frame(0, frame_of(64, ADDRESS))
        one.kick()
        assert one.status(TX_RING, 0) == status


def test_a_forced_collision_fails_in_internal_loopback(rig: PcnetRig) -> None:
    rig.start(LOOP | INTL | FCOLL)
    rig.put_frame(0, frame_of(64, ADDRESS))
    rig.kick()
    assert rig.status(TX_RING, 0) == STP | ENP | ERR and rig.misc(TX_RING, 0) == RTRY
    assert rig.status(RX_RING, 0) & OWN


def test_linux_tests_loopback(one: PcnetRig) -> None:
    """As ethtool asks it to: the payload is compared."""
    one.start(LOOP | INTL, features=0x0915)
    frames = [ADDRESS + ADDRESS + b"\x08\x06" + bytes([index]) * 46 for index in range(4)]
    for index, frame in enumerate(frames):
        one.put_frame(index, frame)
    one.set_csr(0, TDMD | IENA)
    assert [one.received(index).data[:60] for index in range(4)] == frames


def test_nothing_is_sent_before_start(one: PcnetRig) -> None:
    one.start(DTX)
    one.put_frame(0, frame_of())
    one.kick()
    assert one.wire.frames == [] and len(one.ram) > BUFFER
