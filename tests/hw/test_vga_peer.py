"""The same accesses to our adapter and to QEMU's VGA give the same answers and leave the same planes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.hw.qtest import QemuPc, qemu_pc
from tests.hw.vga_card import Card

FRAMEBUFFER = 16 << 20  # as QEMU's
COMPARED = 0x200  # bytes at the begin of each plane, where all accesses go
FIRST = {0: 0xA0000, 1: 0xA0000, 2: 0xB0000, 3: 0xB8000}


@pytest.fixture(scope="module")
def peer() -> Iterator[QemuPc]:
    with qemu_pc("-vga", "std") as pc:
        yield pc


class Pair:
    """Both adapters; what is read is read from both."""

    def __init__(self, peer: QemuPc) -> None:
        self.peer, self.card = peer, Card(framebuffer=FRAMEBUFFER)
        self.out(0x3C2, 0x67)

    def out(self, port: int, value: int) -> None:
        self.card.out(port, value)
        self.peer.outb(port, value)

    def indexed(self, port: int, index: int, value: int) -> None:
        self.out(port, index)
        self.out(port + 1, value)

    def inp(self, port: int) -> tuple[int, int]:
        return self.card.inp(port), self.peer.inb(port)

    def store(self, gpa: int, data: bytes) -> None:
        self.card.store_at(gpa, data)
        self.peer.poke(gpa, data)

    def load(self, gpa: int, count: int) -> tuple[bytes, bytes]:
        return self.card.load(gpa, count), self.peer.peek(gpa, count)

    def planar(self) -> None:
        for index, value in ((2, 0xF), (4, 6)):
            self.indexed(0x3C4, index, value)
        for index, value in ((0, 0), (1, 0), (3, 0), (4, 0), (5, 0), (6, 5), (8, 0xFF)):
            self.indexed(0x3CE, index, value)

    def clear(self) -> None:
        self.planar()
        self.store(0xA0000, bytes(4 * COMPARED))
        self.load(0xA0000, 1)  # the latches too

    def same_planes(self) -> None:
        self.planar()
        for plane in range(4):
            self.indexed(0x3CE, 4, plane)
            ours, theirs = self.load(0xA0000, COMPARED)
            assert ours == theirs, f"plane {plane}"


def planar_step(pair: Pair, source: random.Random) -> None:
    """One register, or an access; any write mode, function, masks, read mode."""
    if source.random() < 0.5:
        choice = source.randrange(10)
        if choice == 9:
            pair.indexed(0x3C4, 2, source.getrandbits(4))
        elif choice == 5:
            pair.indexed(0x3CE, 5, source.choice([0, 1, 2, 3, 8, 9, 10, 11]))
        elif choice == 6:
            pair.indexed(0x3CE, 6, source.choice([0x1, 0x5, 0x9, 0xD]))
        else:
            width = {3: 5, 4: 2, 8: 8}.get(choice, 4)
            pair.indexed(0x3CE, choice, source.getrandbits(width))
        return
    access(pair, source)


def access(pair: Pair, source: random.Random) -> None:
    first = FIRST[pair.card.vga.state.graphics[6] >> 2 & 3]
    gpa, width = first + source.randrange(COMPARED - 4), source.choice([1, 2, 4])
    if source.random() < 0.5:
        pair.store(gpa, source.randbytes(width))
    else:
        ours, theirs = pair.load(gpa, width)
        assert ours == theirs, f"{gpa:#x}, registers {bytes(pair.card.vga.state.graphics).hex()}"


def chained_step(pair: Pair, source: random.Random) -> None:
    if source.random() < 0.2:
        pair.indexed(0x3C4, 2, source.choice([0xF, 0xF, source.getrandbits(4)]))
    access(pair, source)


def text_step(pair: Pair, source: random.Random) -> None:
    """Only planes 0 and 1: QEMU stores to one plane where IBM's stores to two."""
    if source.random() < 0.2:
        pair.indexed(0x3C4, 2, source.getrandbits(2))
    access(pair, source)


def chained(pair: Pair) -> None:
    pair.indexed(0x3C4, 4, 0xE)


def text(pair: Pair) -> None:
    pair.indexed(0x3C4, 2, 3)
    pair.indexed(0x3C4, 4, 2)
    pair.indexed(0x3CE, 5, 0x10)
    pair.indexed(0x3CE, 6, 0x0E)


@pytest.mark.parametrize(
    ("begin", "step"), [(Pair.planar, planar_step), (chained, chained_step), (text, text_step)],
    ids=["planar", "chain 4", "odd and even"],
)  # fmt: skip
def test_accesses_to_the_planes_do_what_they_do_in_qemu(
    begin: Callable[[Pair], None], step: Callable[[Pair, random.Random], None], peer: QemuPc
) -> None:
    for seed in range(4):
        pair, source = Pair(peer), random.Random(seed)
        pair.clear()
        begin(pair)
        for _ in range(300):
            step(pair, source)
        pair.same_planes()


def test_going_from_mode_to_mode_leaves_what_it_leaves_in_qemu(peer: QemuPc) -> None:
    pair, source = Pair(peer), random.Random(3)
    pair.clear()
    steps = {Pair.planar: planar_step, chained: chained_step, text: text_step}
    for _ in range(12):
        begin = source.choice(list(steps))
        pair.planar()
        begin(pair)
        for _ in range(40):
            steps[begin](pair, source)
    pair.same_planes()


def test_colours_and_indices_are_as_in_qemu(peer: QemuPc) -> None:
    """QEMU's DAC has no mask."""
    pair, source = Pair(peer), random.Random(4)
    for port in (0x3C7, 0x3C8):
        pair.out(port, 0)
    for index in range(256):
        pair.out(0x3C8, index)
        for _ in range(3):
            pair.out(0x3C9, 0)
    for _ in range(600):
        port = source.choice([0x3C7, 0x3C8, 0x3C9, 0x3C9, 0x3C9])
        if source.random() < 0.5:
            pair.out(port, source.getrandbits(6))
        else:
            ours, theirs = pair.inp(port)
            assert ours == theirs, f"port {port:#x}"


def test_dispi_registers_settle_as_in_qemu(peer: QemuPc) -> None:
    pair, source = Pair(peer), random.Random(6)

    def out(index: int, value: int) -> None:
        pair.card.dispi(index, value)
        peer._ask(f"outw 0x1ce {index:#x}")
        peer._ask(f"outw 0x1cf {value:#x}")

    def same() -> None:
        for index in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10):
            peer._ask(f"outw 0x1ce {index:#x}")
            assert pair.card.dispi_read(index) == int(peer._ask("inw 0x1cf"), 16), f"register {index}"

    for index, value in ((4, 0), (0, 0xB0C5), (1, 640), (2, 480), (3, 8), (6, 0), (8, 0), (9, 0)):
        out(index, value)
    for _ in range(150):
        index = source.choice([0, 1, 2, 3, 4, 6, 8, 9])
        value = {
            0: lambda: source.randrange(0xB0BE, 0xB0C8), 3: lambda: source.choice([4, 8, 15, 16, 24, 32, 7, 0]),
            4: lambda: source.choice([0, 0x41, 0x81, 0x61, 0x01]), 1: lambda: source.randrange(320, 2561),
        }.get(index, lambda: source.randrange(1600))()  # fmt: skip
        out(index, value)
        if pair.card.dispi_read(4) & 1:
            same()
