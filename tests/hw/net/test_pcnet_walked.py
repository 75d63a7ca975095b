"""Rings that the core walks (vmm/core/nic_rings.c), beside the device that walks its own."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator

import pytest

from hw.net import pcnet_spec
from tests.hw.net.nic_rig import ADDRESS, BROADCAST, OTHER, frame_of
from tests.hw.net.pcnet_driver import (
    BABL,
    BUFFER,
    DRCVBC,
    DRCVPA,
    ENP,
    ERR,
    IENA,
    LOOP,
    OWN,
    PROM,
    RINT,
    RX_DATA,
    RX_RING,
    STP,
    TDMD,
    TINT,
    TX_DATA,
    TX_RING,
    PcnetRig,
    fcs_of,
)  # fmt: skip
from tests.hw.net.walked_rig import NIC, WalkedRig
from vmkernel.host.messages_layout import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, Kind
from vmm.build_core import CORE

APAD = 0x0800
PLAIN = 0x0115  # TXSTRT does not interrupt
STAY_S = 0.1  # in which two that ask each other would have done so thousands of times


@pytest.fixture
def rig() -> Iterator[WalkedRig]:
    with WalkedRig() as made:
        made.start(features=PLAIN)
        yield made


def sent(rig: WalkedRig, count: int) -> list[bytes]:
    found: list[bytes] = []

    def enough() -> bool:
        found.extend(rig.wire.read())
        return len(found) >= count

    rig.wait(enough)
    return found


def test_the_numbers_are_the_data_sheets_and_the_messages() -> None:
    source = "".join((CORE / name).read_text() for name in ("nic_walk.h", "nic_transmit.c", "nic_receive.c"))
    found = {name: int(value, 0) for name, value in re.findall(r"\b([A-Z_0-9]+) = (0x[0-9a-f]+|\d+)\b", source)}
    for name in ("PAM", "LAFM", "BAM", "STP", "ENP", "OWN"):
        assert found[name] == pcnet_spec.Rmd[name], name
    tmd = pcnet_spec.Tmd
    assert found["WRITTEN"] == tmd.OWN | tmd.ERR | tmd.MORE | tmd.ONE | tmd.DEF | tmd.BPE and found["DEF"] == tmd.DEF
    assert (found["COUNT_MASK"], found["KIND_FRAMES"]) == (pcnet_spec.BCNT, Kind.FRAMES)
    assert "MESSAGE_MAX = 64 << 10" in source and MESSAGE_BYTES_MAX == 64 << 10
    assert found["FRAME_MAX"] < found["LONGEST"] == FRAME_BYTES_MAX


@pytest.mark.parametrize("style", [2, 3])
def test_frames_leave_without_the_device(style: int) -> None:
    with WalkedRig(style) as rig:
        rig.start(features=PLAIN)
        rig.put_frame(0, frame_of(60))
        rig.kick()
        assert sent(rig, 1) == [frame_of(60)]
        before = rig.exits
        for index in range(1, 40):
            rig.put_frame(index % 8, frame_of(60 + index))
            rig.kick()
            assert sent(rig, 1) == [frame_of(60 + index)]
            rig.wait(lambda index=index: not rig.status(TX_RING, index % 8) & OWN)  # type: ignore[misc]
            assert rig.status(TX_RING, index % 8) == STP | ENP and rig.misc(TX_RING, index % 8) == 0
        assert rig.exits == before and rig.cable.scans == 0
        rig.wait(lambda: bool(rig.csr(0) & TINT))
        rig.settle()
        assert rig.nic.pcnet.transmitter.stats.frames == 40 and rig.nic.state.pcnet.unsaid == 0


def test_a_full_ring_leaves_once(rig: WalkedRig) -> None:
    """More descriptors are ready than there are: one that was sent must not be taken for the next."""
    for index in range(8):
        rig.put_frame(index, frame_of(100 + index))
    rig.kick()
    rig.wait(lambda: not any(rig.status(TX_RING, index) & OWN for index in range(8)))
    rig.settle()
    assert rig.wire.read() == [frame_of(100 + index) for index in range(8)]
    assert rig.csr(74) == 8  # XMTRC: the ring's position is its beginning


def test_a_short_frame_is_padded_where_the_driver_wants_it() -> None:
    with WalkedRig() as rig:
        rig.start(features=PLAIN | APAD)
        rig.put_frame(0, frame_of(20))
        rig.kick()
        assert sent(rig, 1) == [frame_of(20) + bytes(40)]


def test_runts_and_giants_leave_without_the_device(rig: WalkedRig) -> None:
    """A host may send them all day; the switch drops them."""
    rig.put_frame(0, frame_of(60)[:5])
    rig.put_frame(1, frame_of(1514))
    rig.kick()
    assert [len(frame) for frame in sent(rig, 2)] == [5, 1514]
    rig.settle()
    assert not rig.csr(0) & BABL
    rig.put_frame(2, frame_of(1600))
    rig.put_frame(3, frame_of(61))
    rig.kick()
    assert [len(frame) for frame in sent(rig, 2)] == [1600, 61]
    rig.wait(lambda: bool(rig.csr(0) & BABL))
    assert rig.csr(0) & ERR and not rig.cable.scans


def test_what_is_not_ordinary_goes_to_the_device(rig: WalkedRig) -> None:
    rig.put_frame(0, frame_of(60))
    rig.put_frame(1, frame_of(62))
    rig.tx(1, TX_DATA + BUFFER, 62, OWN | ENP)  # a frame's end without its beginning
    rig.put_frame(2, frame_of(61))
    rig.kick()
    assert [len(frame) for frame in sent(rig, 2)] == [60, 61]
    assert rig.cable.scans


def test_a_buffer_that_is_not_in_memory_ends_in_a_master_abort(rig: WalkedRig) -> None:
    rig.tx(0, 0xFFFFF000, 60)
    rig.kick()
    rig.wait(lambda: bool(rig.csr(0) & 4))  # it stopped
    assert rig.cable.scans


def test_a_full_socket_keeps_frames_in_the_ring_and_in_order(rig: WalkedRig) -> None:
    expected, found, number = [], [], 0
    while not rig.cable.fills:
        assert number < 100_000, "it never was full"
        index = number % 8
        if rig.status(TX_RING, index) & OWN:
            continue
        expected.append(number.to_bytes(4, "big"))
        rig.put_frame(index, frame_of(1000)[:14] + expected[-1] + bytes(982))
        rig.kick()
        number += 1
    assert any(rig.status(TX_RING, index) & OWN for index in range(8))

    def all_came() -> bool:
        found.extend(frame[14:18] for frame in rig.wire.read())
        rig.nic.has_room()
        return len(found) >= number

    rig.wait(all_came)
    assert found == expected
    rig.settle()
    assert rig.nic.pcnet.transmitter.stats.refused


def test_a_frame_for_the_device_waits_for_room_in_the_socket() -> None:
    """Of more parts than the core takes. Neither the device nor the core asks again until it is told."""
    parts, frame = 17, frame_of(17 * 20)

    def put(rig: WalkedRig) -> None:
        rig.write(TX_DATA, frame)
        for index in reversed(range(parts)):
            rig.tx(index, TX_DATA + 20 * index, 20, OWN | STP * (index == 0) | ENP * (index == parts - 1))
        rig.kick()

    with WalkedRig(log=5) as rig:
        rig.start(features=PLAIN)
        rig.wire.fill()
        put(rig)
        rig.wait(lambda: rig.cable.scans > 0)
        threading.Event().wait(STAY_S)
        assert rig.cable.scans <= 2 and rig.status(TX_RING, 0) & OWN
        rig.wire.drain()
        rig.nic.has_room()
        assert sent(rig, 1) == [frame]


@pytest.mark.parametrize("style", [2, 3])
def test_frames_arrive_without_the_device(style: int) -> None:
    with WalkedRig(style) as rig:
        rig.start(features=PLAIN)
        before = rig.exits
        frames = [frame_of(60 + 100 * index, ADDRESS, OTHER) for index in range(8)]
        rig.wire.bring(*frames[:5])
        rig.wire.bring(frame_of(70, OTHER, OTHER), *frames[5:])  # the first is for somebody else
        rig.wait(lambda: not rig.status(RX_RING, 7) & OWN)
        for index, frame in enumerate(frames):
            got = rig.received(index)
            assert got.data == frame + fcs_of(frame) and got.status == STP | ENP | 0x40
        assert rig.csr(0) & RINT and rig.page.nic[NIC].asserted and rig.exits == before
        assert rig.control.page.attention
        rig.settle()
        stats = rig.nic.pcnet.receiver.stats
        assert (stats.frames, stats.filtered, rig.csr(72)) == (8, 1, 8)


def test_a_full_receive_ring_waits_for_the_driver(rig: WalkedRig) -> None:
    frames = [frame_of(100 + index, ADDRESS, OTHER) for index in range(20)]
    rig.wire.bring(*frames)
    for number, frame in enumerate(frames):
        index = number % 8
        rig.wait(lambda index=index: not rig.status(RX_RING, index) & OWN)  # type: ignore[misc]
        assert rig.received(index).data == frame + fcs_of(frame)
        rig.rx(index)
        rig.set_csr(0, RINT | IENA)
    assert not rig.cable.heard_frames


def test_a_driver_that_gives_no_buffer_back_is_the_devices_to_count(rig: WalkedRig) -> None:
    rig.wire.bring(*(frame_of(100, ADDRESS, OTHER) for _ in range(20)))
    rig.wait(lambda: len(rig.cable.heard_frames) == 12)
    rig.settle()
    assert rig.csr(112) == 12 and rig.nic.pcnet.receiver.stats.missed == 12


def test_nothing_moves_while_guest_time_stands_still(rig: WalkedRig) -> None:
    rig.interrupts.stun()
    rig.settle()
    rig.put_frame(0, frame_of(60))
    rig.kick()
    before = bytes(rig.ram)
    rig.wire.bring(frame_of(90, OTHER, OTHER))
    rig.wait(lambda: bool(rig.cable.heard_frames))  # it goes to the device, which is asked by the machine's thread
    assert bytes(rig.ram) == before and rig.wire.read() == []
    rig.interrupts.resume()
    assert sent(rig, 1) == [frame_of(60)]


def test_nothing_moves_while_memory_is_changed(rig: WalkedRig) -> None:
    rig.hall.stop()
    rig.put_frame(0, frame_of(60))
    rig.kick()
    assert rig.wire.read() == [] and rig.csr(0) & TDMD
    rig.hall.go()
    assert sent(rig, 1) == [frame_of(60)]


def test_a_closed_socket_and_nonsense_are_told(rig: WalkedRig) -> None:
    rig.wire.far.send(bytes([Kind.FRAMES]) + b"\xff\xff\1")
    rig.wait(lambda: bool(rig.cable.nonsense))
    rig.wire.far.close()
    assert rig.cable.closed.wait(60)


# beside the device

DESTINATIONS = (ADDRESS, ADDRESS, BROADCAST, OTHER, bytes.fromhex("01005e000001"), bytes.fromhex("333300000001"))
HASHES = 0x8421_1248_8421_1248


Row = tuple[int, bytes, int]  # index, buffer, status


def random_frame(source: random.Random, index: int, size: int) -> tuple[int, list[Row]]:
    """Descriptors for a frame, or for what is none: where the next one is, and what they are."""
    length = source.choice((5, 14, 20, 60, 61, 200, 590, 1514, 1515, 1600))
    frame = frame_of(length, source.choice(DESTINATIONS))
    parts = source.choice((1, 1, 1, 2, 3))
    cuts = sorted(source.sample(range(1, length), parts - 1))
    pieces = [frame[a:b] for a, b in zip([0, *cuts], [*cuts, length], strict=True)]
    rows = []
    for number, piece in enumerate(pieces):
        status = OWN | (STP if number == 0 else 0) | (ENP if number == parts - 1 else 0)
        status |= source.choice((0, 0, 0, 0x80, 0x400, 0x1000, 0x4000))
        if source.random() < 0.04:
            status ^= source.choice((STP, ENP))
        rows.append(((index + number) % size, piece, status))
    return (index + parts) % size, rows


@pytest.mark.parametrize("seed", range(24))
def test_random_transmit_rings_end_as_the_devices_own(seed: int) -> None:
    source = random.Random(f"walked transmit {seed}")
    style, log = source.choice((2, 3)), source.choice((2, 3, 4))
    features = source.choice((PLAIN, PLAIN | APAD))
    plain = PcnetRig(style, log)
    with WalkedRig(style, log) as walked:
        for rig in (plain, walked):
            rig.start(features=features, hashes=HASHES)
        at, size = 0, 1 << log
        for _ in range(12):
            rows: list[Row] = []
            while len(rows) + 3 <= size and source.random() < 0.9:
                at, more = random_frame(source, at, size)
                rows += more
            for rig in (plain, walked):
                for index, piece, status in rows:
                    rig.write(TX_DATA + index * BUFFER, piece)
                    rig.tx(index, TX_DATA + index * BUFFER, len(piece), status)
                rig.kick()
            walked.wait(lambda: not walked.page.nic[NIC].csr0 & TDMD)
            walked.settle()
            plain.nic.poll()
            plain.nic.poll()
            walked.wait(lambda: walked.poll() and not walked.page.nic[NIC].unsaid)
            assert walked.wire.read() == plain.wire.frames
            plain.wire.frames.clear()
            ring = slice(TX_RING, TX_RING + 16 * size)
            assert bytes(walked.ram[ring]) == bytes(plain.ram[ring])
            for number in (0, 4, 74):
                assert walked.csr(number) == plain.csr(number), f"CSR{number}"
            at = (size - plain.csr(74)) % size
            for rig in (plain, walked):
                rig.set_csr(0, 0x7F00 | IENA)
                for index in range(size):
                    rig.tx(index, 0, 1, 0)


@pytest.mark.parametrize("seed", range(24))
def test_random_frames_are_received_as_by_the_device_itself(seed: int) -> None:
    source = random.Random(f"walked receive {seed}")
    style, log = source.choice((2, 3)), source.choice((2, 3, 4))
    mode = source.choice((0, 0, PROM, DRCVBC, DRCVPA, PROM | DRCVPA))
    plain = PcnetRig(style, log)
    with WalkedRig(style, log) as walked:
        size = 1 << log
        for rig in (plain, walked):
            rig.start(mode, HASHES, features=PLAIN)
        for _ in range(12):
            lengths = [source.choice((600, 1518, BUFFER, BUFFER)) for _ in range(size)]
            for rig in (plain, walked):
                for index in range(size):
                    rig.rx(index, lengths[index])
                rig.set_csr(0, 0x7F00 | IENA)
            frames = [
                frame_of(source.choice((14, 59, 60, 64, 590, 1514, 1515)), source.choice(DESTINATIONS), OTHER)
                for _ in range(source.randrange(1, size))
            ]
            for frame in frames:
                plain.receive(frame)
            walked.wire.bring(*frames)
            count = plain.nic.pcnet.receiver.stats
            ours = walked.nic.pcnet.receiver.stats

            def all_seen(count=count, ours=ours) -> bool:  # type: ignore[no-untyped-def]
                walked.settle()
                return bool(
                    ours.frames + ours.filtered + ours.overlong + ours.missed
                    == count.frames + count.filtered + count.overlong + count.missed
                )

            walked.wait(all_seen)
            for part in (slice(RX_RING, RX_RING + 16 * size), slice(RX_DATA, RX_DATA + BUFFER * size)):
                assert bytes(walked.ram[part]) == bytes(plain.ram[part])
            for number in (0, 4, 40, 41, 72, 112):
                assert walked.csr(number) == plain.csr(number), f"CSR{number}"


BASES = (0, TX_RING, 0xFFFF0, 0xFFFF8, 0x100000, 0xFFFFFFF0)


@pytest.mark.parametrize("seed", range(12))
def test_nonsense_in_rings_harms_nobody(seed: int) -> None:
    """Rings anywhere, of any length, full of anything: the adapter ends or goes on, and takes frames after a reset."""
    source = random.Random(f"walked nonsense {seed}")
    with WalkedRig(source.choice((2, 3))) as rig:
        rig.start(features=PLAIN)
        for _ in range(40):
            rig.set_csr(0, 4)
            for number in (24, 30):  # BADR, BADX
                base = source.choice(BASES)
                rig.set_csr(number, base & 0xFFFF)
                rig.set_csr(number + 1, base >> 16)
            for number in (76, 78):
                length = source.choice((0, 1, 2, 16, 512, 0x7FFF, 0x8000, 0xFFFF, 0xFFF0))
                rig.set_csr(number, length)
                rig.set_csr(number - 4, source.choice((length, 1, 0, 0xFFFF)))
            for base in (0, TX_RING, 0xFFFC0):
                for at in range(0, 64, 16):
                    status = source.choice((0x8300, 0x8200, 0x8100, 0x8000, 0, 0xFFFF))
                    address = source.choice((0, 0x5000, 0xFFFFF, 0xFFF00, 0x100000, 0xFFFFFFFF))
                    words = address, source.randrange(1 << 16) | status << 16, 0, address
                    rig.write(base + at, b"".join(word.to_bytes(4, "little") for word in words))
            rig.set_csr(0, 2 | IENA)
            rig.kick()
            rig.wire.bring(frame_of(100, ADDRESS, OTHER), frame_of(1514, BROADCAST, OTHER))
            rig.csr(0)
            rig.wire.read()
        rig.wait(lambda: not rig.page.nic[NIC].csr0 & TDMD or bool(rig.csr(0) & 4))
        rig.settle()
        rig.set_csr(0, 4)
        rig.wire.read()
        rig.start(features=PLAIN)
        rig.put_frame(0, frame_of(333))
        rig.kick()
        rig.wait(lambda: not rig.status(TX_RING, 0) & OWN)
        assert frame_of(333) in rig.wire.read()


def test_loopback_stays_the_devices(rig: WalkedRig) -> None:
    rig.start(LOOP, features=PLAIN)
    rig.put_frame(0, frame_of(60, ADDRESS))
    rig.kick()
    rig.wait(lambda: not rig.status(RX_RING, 0) & OWN)
    assert rig.wire.read() == [] and rig.page.nic[NIC].rings == 0
