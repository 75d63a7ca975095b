"""The Am79C970A's receiver: whom it listens to, and where it puts what it hears."""

from __future__ import annotations

from itertools import product

import pytest

from tests.hw.net.nic_rig import ADDRESS, BROADCAST, OTHER, frame_of
from tests.hw.net.pcnet_driver import (
    BAM,
    BUFF,
    BUFFER,
    DRCVBC,
    DRCVPA,
    ENP,
    IENA,
    LAFM,
    MISS,
    OFLO,
    OWN,
    PAM,
    PROM,
    R_ERR,
    RINT,
    RX_DATA,
    RX_RING,
    STOP,
    STP,
    PcnetRig,
    fcs_of,
)

MFCO, ASTRP, LAPPEN = 0x0200, 0x0400, 0x0020
GROUP = bytes.fromhex("01005e000001")
GROUP_BIT = 54
DOOR = bytes.fromhex("333300000001")


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


@pytest.mark.parametrize(("length", "pieces"), [(60, 1), (61, 2), (1000, 3), (1514, 1), (1514, 7)])
def test_a_frame_in_one_buffer(rig: PcnetRig, length: int, pieces: int) -> None:
    frame = frame_of(length, ADDRESS, OTHER)
    assert rig.receive(frame, pieces)
    found = rig.received(0)
    assert found.data == frame + fcs_of(frame)
    assert found.status == STP | ENP | (PAM if rig.style else 0)
    assert rig.csr(0) & RINT and rig.line and rig.memory.open == 0


def test_short_frames_are_padded(rig: PcnetRig) -> None:
    rig.receive(frame_of(14, ADDRESS))
    frame = frame_of(14, ADDRESS).ljust(60, b"\0")
    assert rig.received(0).data == frame + fcs_of(frame)


def test_a_frame_over_several_buffers(rig: PcnetRig) -> None:
    for index, length in enumerate((10, 1, 200, 64)):
        rig.rx(index, length, RX_DATA + index * BUFFER)
    frame = frame_of(200, BROADCAST)
    assert rig.receive(frame, 2)
    whole = frame + fcs_of(frame)
    assert [rig.status(RX_RING, index) for index in range(2)] == [STP, 0]
    assert rig.status(RX_RING, 2) == ENP | (BAM if rig.style else 0)
    assert rig.misc(RX_RING, 2) == 204
    places = [(RX_DATA, 10), (RX_DATA + BUFFER, 1), (RX_DATA + 2 * BUFFER, 193)]
    assert b"".join(rig.ram[at : at + count] for at, count in places) == whole
    assert rig.status(RX_RING, 3) & OWN


def test_the_fcs_alone_can_need_a_buffer(rig: PcnetRig) -> None:
    rig.rx(0, 62)
    frame = frame_of(60, ADDRESS)
    rig.receive(frame)
    assert (rig.status(RX_RING, 0), rig.misc(RX_RING, 1)) == (STP, 64)
    assert rig.ram[RX_DATA + BUFFER : RX_DATA + BUFFER + 2] == fcs_of(frame)[2:]


def test_a_chain_of_buffers_goes_around_the_ring(one: PcnetRig) -> None:
    for _ in range(7):
        one.receive(frame_of(60, ADDRESS))
    one.rx(7, 64)
    one.rx(0)
    one.receive(frame_of(100, ADDRESS))
    assert [one.status(RX_RING, index) for index in (7, 0)] == [STP, ENP | PAM]
    one.rx(1)
    one.receive(frame_of(61, ADDRESS))
    assert one.received(1).length == 65


@pytest.mark.parametrize("full", [False, True], ids=["next is the driver's", "the whole ring is used"])
def test_a_frame_for_which_buffers_run_out(rig: PcnetRig, full: bool) -> None:
    for index in range(8):
        rig.rx(index, 10, status=OWN if full or index < 2 else 0)
    assert rig.receive(frame_of(200, ADDRESS))
    last = 7 if full else 1
    assert rig.status(RX_RING, 0) == STP
    assert rig.status(RX_RING, last) == R_ERR | BUFF | OFLO
    assert rig.csr(0) & (RINT | MISS) == RINT
    assert rig.csr(72) == (8 if full else 6)


def test_a_frame_without_a_buffer_is_missed(rig: PcnetRig) -> None:
    rig.rx(0, status=0)
    assert not rig.receive(frame_of(60, ADDRESS))
    assert rig.csr(0) & (MISS | RINT) == MISS and rig.csr(112) == 1 and rig.line
    rig.rx(0)
    assert rig.receive(frame_of(60, ADDRESS))
    assert rig.received(0).length == 64


def test_a_frame_that_can_wait_is_not_missed(rig: PcnetRig) -> None:
    rig.rx(0, status=0)
    assert not rig.offer(frame_of(60, ADDRESS))
    assert not rig.csr(0) & MISS and rig.csr(112) == 0 and not rig.line
    assert rig.offer(frame_of(60, OTHER)), "nobody wants it"
    ready = rig.wire.readiness
    rig.rx(0)
    rig.set_csr(0, IENA)
    assert rig.wire.readiness > ready
    assert rig.offer(frame_of(60, ADDRESS)) and rig.received(0).length == 64 and rig.line


def test_the_ring_is_not_searched_for_a_buffer(one: PcnetRig) -> None:
    one.rx(0, status=0)
    assert not one.receive(frame_of(60, ADDRESS))
    assert one.status(RX_RING, 1) & OWN


def test_the_missed_frame_counter_goes_around(one: PcnetRig) -> None:
    one.rx(0, status=0)
    one.set_csr(5, 1)
    one.set_csr(112, 0xFFFE)
    one.set_csr(5, 0)
    one.set_csr(4, 0x0015)
    assert not one.receive(frame_of(60, ADDRESS))
    one.set_csr(0, MISS | IENA)
    assert one.csr(112) == 0xFFFF and not one.csr(4) & MFCO and not one.line
    one.receive(frame_of(60, ADDRESS))
    assert one.csr(112) == 0 and one.csr(4) & MFCO
    one.set_csr(0, MISS | IENA)
    assert one.line, "MFCO is not masked"
    one.set_csr(4, 0x0015 | MFCO)
    assert not one.line


def test_frames_are_dropped_while_the_receiver_is_off(one: PcnetRig) -> None:
    one.set_csr(0, STOP)
    assert one.offer(frame_of(60, ADDRESS)) and one.receive(frame_of(60, ADDRESS))
    assert one.csr(0) == STOP and one.csr(112) == 0


def test_a_frame_of_more_than_the_count_can_say_is_dropped(one: PcnetRig) -> None:
    assert one.receive(frame_of(4092, ADDRESS))
    assert one.status(RX_RING, 0) & OWN
    one.rx(0, 4096)
    assert one.receive(frame_of(4091, ADDRESS))
    assert one.received(0).length == 4095


def test_nothing_is_nothing(one: PcnetRig) -> None:
    assert one.nic.receive([]) and one.receive(b"") and one.receive(b"\xff")
    assert one.status(RX_RING, 0) & OWN


# addresses


@pytest.mark.parametrize(
    ("destination", "mode", "hashes", "match"),
    [
        (ADDRESS, 0, 0, PAM), (ADDRESS, DRCVPA, 0, None), (ADDRESS, DRCVPA | PROM, 0, 0), (ADDRESS, PROM, 0, PAM),
        (OTHER, 0, (1 << 64) - 1, None), (OTHER, PROM, 0, 0),
        (BROADCAST, 0, 0, BAM), (BROADCAST, 0, (1 << 64) - 1, BAM), (BROADCAST, DRCVBC, 0, None),
        (BROADCAST, DRCVBC, (1 << 64) - 1, LAFM), (BROADCAST, DRCVBC | PROM, 0, 0),
        (GROUP, 0, 1 << GROUP_BIT, LAFM), (GROUP, 0, ~(1 << GROUP_BIT) & (1 << 64) - 1, None),
        (GROUP, PROM, 0, 0), (GROUP, DRCVBC | DRCVPA, 1 << GROUP_BIT, LAFM),
    ],
)  # fmt: skip
def test_who_is_listened_to(destination: bytes, mode: int, hashes: int, match: int | None) -> None:
    rig = PcnetRig()
    rig.start(mode, hashes)
    assert rig.receive(frame_of(60, destination))
    assert rig.status(RX_RING, 0) == (OWN if match is None else STP | ENP | match)


@pytest.mark.parametrize(
    ("address", "register", "bit"),
    [("333300000001", 9, 7), ("01005e000001", 11, 6), ("3333ff123456", 11, 4)],
)
def test_multicast_addresses_fall_where_linux_expects_them(address: str, register: int, bit: int) -> None:
    rig = PcnetRig()
    rig.start()
    rig.set_csr(5, 1)
    rig.set_csr(register, 1 << bit)
    rig.set_csr(5, 0)
    rig.receive(frame_of(60, bytes.fromhex(address)))
    assert rig.status(RX_RING, 0) == STP | ENP | LAFM


# pad stripping


@pytest.mark.parametrize(
    ("kind", "kept"), [(0, 14), (1, 15), (45, 59), (46, 64), (60, 64), (0x0600, 64), (0x0800, 64)]
)
def test_padding_is_stripped_where_a_length_says_that_there_is_some(rig: PcnetRig, kind: int, kept: int) -> None:
    rig.set_csr(4, 0x0115 | ASTRP)
    frame = frame_of(60, ADDRESS, kind=kind)
    rig.receive(frame, 3)
    assert rig.received(0).data == (frame + fcs_of(frame))[:kept]


# look-ahead packet processing


def test_with_look_ahead_frames_begin_where_the_driver_has_set_stp(rig: PcnetRig) -> None:
    rig.set_csr(3, LAPPEN)
    for index, status in enumerate((OWN, OWN | STP, OWN, OWN, OWN | STP, 0, 0, OWN | STP)):
        rig.rx(index, 100, status=status)
    rig.receive(frame_of(146, BROADCAST))
    bam = BAM if rig.style else 0
    assert [rig.status(RX_RING, index) for index in range(5)] == [0, STP, ENP | bam, 0, OWN | STP]
    rig.receive(frame_of(60, BROADCAST))
    assert rig.status(RX_RING, 4) == STP | ENP | bam
    assert rig.status(RX_RING, 7) == OWN | STP, "entries that are the driver's are passed over"
    rig.receive(frame_of(60, BROADCAST))
    assert rig.status(RX_RING, 7) == STP | ENP | bam


def test_look_ahead_in_a_ring_without_stp_finds_nothing(rig: PcnetRig) -> None:
    rig.set_csr(3, LAPPEN)
    assert not rig.receive(frame_of(60, BROADCAST))
    assert not any(rig.status(RX_RING, index) for index in range(8)) and rig.csr(0) & MISS
