"""The same driver on our adapter and on QEMU's Am79C970A: registers, rings, buffers and frames come out alike.

Where they differ the data sheet is on our side: QEMU leaves TXON set in a stopped controller and sets TXSTRT's mask in
place of TXSTRT; it stores no real FCS, polls where it should not, lights no lamp for polarity, searches the ring for a
buffer, chains three at most, lets DWIO be written, reports how an address matched only when not promiscuous, does not
let STOP override INIT, keeps TDMD over an empty ring, and lets a clear NO_FCS override DXMTFCS (style 1).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.hw.net.nic_rig import ADDRESS, BROADCAST, OTHER, frame_of
from tests.hw.net.pcnet_driver import (
    BDP,
    BUFFER,
    CRC,
    DRCVBC,
    DRCVPA,
    DXMTFCS,
    ENP,
    IDON,
    IENA,
    INIT,
    INTL,
    LOOP,
    MISS,
    OWN,
    PROM,
    R_ERR,
    RAP,
    RDP,
    RESET,
    RINT,
    RX_DATA,
    RX_RING,
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
from tests.hw.net.qemu_nic import PORTS, QemuNic, qemu_nic

GROUP = bytes.fromhex("01005e000001")
STORED_CSRS = [1, 2, 3, *range(8, 16), *range(18, 28), *range(30, 34), *range(36, 40), 46, 47, 58, 72, 74, 76, 78, 112]
FIXED_CSRS = [6, 88, 89, 94, 103, 114]
QEMUS_FIXED_CSRS = [80, 100, 122]
BCRS = [0, 1, 2, 4, 5, 7, 9, 16, 17, 18, 19, 20, 22]
DWIO = 0x80
FEATURES = 0x0115 | 0x1000  # no polling: when QEMU does it is up to its timer
POSITIONS = (72, 74, 76, 78)


@pytest.fixture(scope="module")
def peer() -> Iterator[QemuNic]:
    with qemu_nic() as nic:
        yield nic


class Pair(PcnetRig):
    """What the driver does, it does to both; what it reads of registers is ours, after a look at the other's."""

    def __init__(self, peer: QemuNic, style: int = 2) -> None:
        self.peer = peer
        super().__init__(style)
        self.get(RESET)

    def put(self, offset: int, value: int, width: int = 2) -> None:
        super().put(offset, value, width)
        self.peer.write(PORTS + offset, value, width)

    def get(self, offset: int, width: int = 2) -> int:
        self.theirs = self.peer.read(PORTS + offset, width)
        return super().get(offset, width)

    def write(self, gpa: int, data: bytes) -> None:
        super().write(gpa, data)
        self.peer.poke(gpa, data)

    def same_register(self, offset: int, number: int, ignored: int = 0) -> int:
        self.put(RAP, number)
        ours = self.get(offset)
        name = "CSR" if offset == RDP else "BCR"
        assert ours & ~ignored == self.theirs & ~ignored, f"{name}{number}: ours {ours:#x}, theirs {self.theirs:#x}"
        return ours

    def same_memory(self, gpa: int, length: int) -> None:
        ours, theirs = bytes(self.ram[gpa : gpa + length]), self.peer.peek(gpa, length)
        assert ours == theirs, f"{gpa:#x}: ours {ours.hex()}, theirs {theirs.hex()}"

    def same_rings(self) -> None:
        for ring in (RX_RING, TX_RING):
            self.same_memory(ring, self.size << self.log)
        for number in POSITIONS:
            self.same_register(RDP, number)

    def send(self, frames: list[bytes]) -> None:
        """Each is one that the controller takes: to both, and QEMU has had the time for it."""
        for frame in frames:
            assert self.receive(frame)
            self.peer.send(frame)
            self.peer.write(PORTS + RAP, 0, 2)
            self.peer.wait_for(PORTS + RDP, RINT)
            self.peer.write(PORTS + RDP, RINT | IENA, 2)
            self.set_csr(0, RINT | IENA)


def test_reset_values(peer: QemuNic) -> None:
    pair = Pair(peer)
    for number in [0, 4, 5, *FIXED_CSRS, *QEMUS_FIXED_CSRS, 12, 13, 14, *POSITIONS]:
        pair.same_register(RDP, number)
    assert [pair.get(at, 1) == pair.theirs for at in range(16)] == [True] * 16, "the address PROM"


def test_what_can_be_written_is_what_qemu_lets_be_written(peer: QemuNic) -> None:
    source, pair = random.Random(1), Pair(peer)
    for _ in range(400):
        if source.randrange(3):
            number = source.choice(STORED_CSRS + FIXED_CSRS + [4, 5])
            value = source.getrandbits(16) & ~(0x80 if number == 4 else 0)
            if number == 58:
                value &= 0xFF
            pair.set_csr(number, value)
            pair.same_register(RDP, number)
        else:
            number = source.choice(BCRS)
            value = source.choice([source.getrandbits(16), source.randrange(5)]) & (0xFF if number == 20 else 0xFF7F)
            pair.set_bcr(number, value)
            pair.same_register(BDP, number, 0x8000 if number in (4, 5, 6, 7) else 0)
    for number in STORED_CSRS + FIXED_CSRS:
        pair.same_register(RDP, number)


@pytest.mark.parametrize("style", range(4))
def test_the_interrupt_follows_the_same_causes(peer: QemuNic, style: int) -> None:
    source, pair = random.Random(style), Pair(peer, style)
    pair.start(features=FEATURES)
    for _ in range(60):
        what = source.randrange(4)
        if what == 0:
            pair.put_frame(step_of(pair), frame_of(60))
            pair.set_csr(0, TDMD | source.choice([0, IENA]))
            peer.sent()
        elif what == 1:
            pair.set_csr(3, source.getrandbits(16) & 0x5F00)
        elif what == 2:
            pair.set_csr(0, source.choice([TINT, IDON, TINT | IENA, IENA]))
        else:
            pair.set_csr(5, source.choice([0, 0x8000]))
        pair.same_register(RDP, 0)


def step_of(pair: Pair) -> int:
    """Where the next frame goes."""
    pair.put(RAP, 74)
    return 8 - pair.get(RDP)


@pytest.mark.parametrize("style", range(4))
def test_transmit(peer: QemuNic, style: int) -> None:
    """Frames of all lengths in one to three buffers, some at odd addresses."""
    source, pair = random.Random(10 + style), Pair(peer, style)
    pair.start(features=FEATURES)
    index = 0
    for _ in range(25):
        length = source.choice([60, 61, 300, 1514])
        frame = source.randbytes(length)
        place = TX_DATA + index * BUFFER + source.randrange(64)
        pair.write(place, frame)
        cuts = sorted(source.sample(range(1, length), source.choice([0, 0, 1, 2])))
        for start, end in zip([0, *cuts], [*cuts, length], strict=True):
            status = OWN | (STP if start == 0 else 0) | (ENP if end == length else 0)
            pair.tx(index, place + start, end - start, status)
            index = (index + 1) % 8
        pair.kick()
        assert pair.wire.frames.pop() == peer.sent() == frame
        pair.same_register(RDP, 0)
    pair.same_rings()


@pytest.mark.parametrize("style", range(4))
def test_receive(peer: QemuNic, style: int) -> None:
    """Into one or two buffers. The FCS is ours alone."""
    source, pair = random.Random(20 + style), Pair(peer, style)
    pair.start(features=FEATURES, hashes=1 << 54)
    sizes = [source.choice([BUFFER, BUFFER, 1000]) for _ in range(8)]
    for index, size in enumerate(sizes):
        pair.rx(index, size)
    for _ in range(3):
        first = 8 - pair.same_register(RDP, 72)
        lengths = [60, 61, source.randrange(60, 996)]
        frames = [frame_of(length, source.choice([ADDRESS, BROADCAST, GROUP]), OTHER) for length in lengths]
        pair.send(frames)
        for at, frame in enumerate(frames):
            pair.same_memory(RX_DATA + (first + at) % 8 * BUFFER, len(frame))
        pair.same_rings()
        for at in range(3):
            pair.rx((first + at) % 8, sizes[(first + at) % 8])


def test_a_frame_over_two_buffers(peer: QemuNic) -> None:
    pair = Pair(peer)
    pair.start(features=FEATURES)
    for index in range(8):
        pair.rx(index, 600)
    pair.send([frame_of(1100, ADDRESS), frame_of(590, ADDRESS), frame_of(900, BROADCAST)])
    pair.same_rings()
    pair.same_memory(RX_DATA, 600)
    pair.same_memory(RX_DATA + BUFFER, 500)


@pytest.mark.parametrize("mode", [0, PROM, DRCVBC, DRCVPA, DRCVBC | DRCVPA])
def test_who_is_listened_to(peer: QemuNic, mode: int) -> None:
    """A frame for us comes last, so that one which was not taken is known to be over. A match is not compared here."""
    source, pair = random.Random(mode), Pair(peer)
    hashes = source.getrandbits(64)
    last = GROUP if mode & DRCVPA else ADDRESS
    pair.start(mode, hashes | 1 << 54, features=FEATURES)
    destinations = [BROADCAST, OTHER, ADDRESS]
    destinations += [bytes([source.getrandbits(8) | 1]) + source.randbytes(5) for _ in range(4)]
    for destination in destinations:
        frame = frame_of(60, destination)
        pair.receive(frame)
        peer.send(frame)
    pair.send([frame_of(100, last)])
    pair.put(RAP, 72)
    peer.wait_until(lambda: pair.get(RDP) == pair.theirs, "QEMU has not taken as many frames")
    for index in range(8):
        ours, theirs = pair.status(RX_RING, index), peer.peek(RX_RING + index * 16, 16)
        assert ours & 0xFF00 == int.from_bytes(theirs[6:8], "little") & 0xFF00, f"buffer {index}"


@pytest.mark.parametrize("style", range(4))
def test_loopback(peer: QemuNic, style: int) -> None:
    """With the driver's own FCS, which QEMU has in another order than the wire: it is wrong for both."""
    pair = Pair(peer, style)
    pair.start(LOOP | INTL, features=FEATURES)
    for index, length in enumerate((60, 100, 1514)):
        pair.put_frame(index, frame_of(length, ADDRESS))
    pair.kick()
    pair.same_rings()
    for index, length in enumerate((60, 100, 1514)):
        pair.same_memory(RX_DATA + index * BUFFER, length)
    if style == 1:
        return
    pair.start(LOOP | INTL | DXMTFCS, features=FEATURES)
    pair.put_frame(0, frame_of(100, ADDRESS))
    pair.kick()
    pair.same_rings()
    assert pair.status(RX_RING, 0) & 0xFF00 == STP | ENP | CRC | R_ERR


def test_a_missed_frame_is_counted(peer: QemuNic) -> None:
    pair = Pair(peer)
    pair.start(features=FEATURES)
    for index in range(8):
        pair.rx(index, status=0)
    pair.receive(frame_of(60, ADDRESS))
    peer.send(frame_of(60, ADDRESS))
    peer.write(PORTS + RAP, 0, 2)
    peer.wait_for(PORTS + RDP, MISS)
    assert pair.same_register(RDP, 0) & MISS
    assert pair.same_register(RDP, 112) == 1


def test_start_and_stop(peer: QemuNic) -> None:
    pair = Pair(peer)
    pair.start(features=FEATURES)
    for value in (INIT, STRT, STRT | INIT | IENA, STOP, STOP | INIT | STRT, INIT | STRT, IDON | IENA, STOP, IENA):
        pair.set_csr(0, value)
        stopped = pair.csr(0) & STOP
        pair.same_register(RDP, 0, TXON if stopped else 0)
