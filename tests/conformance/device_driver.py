"""Plays a driver, a careless one and a hostile one, on any device of the list; the same seed does the same again."""

from __future__ import annotations

import ctypes
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tests.conformance.board import Access, Board, GuardedMemory
from tests.conformance.specimen import Specimen

VALUES = (0, 1, 7, 0x20, 0x80, 0xFF, 0x1001, 0xFFFF, 0x80001001, 0xFFFFFFFF)
WIDTHS = (1, 2, 4)
UNSCRIPTED = 20  # at first, when whatever the state was before has not been commanded away
SCRIPTED = 3  # of four accesses, so many come from a script where there is one


class Bench:
    """One device on a board: reset and set up, or over state that is there already."""

    def __init__(self, specimen: Specimen, state: ctypes.Structure | None = None) -> None:
        self.specimen, self.board = specimen, Board()
        self.state = specimen.state() if state is None else state
        self.device: Any = specimen.build(self.board, self.state)
        if state is None:
            self.device.reset()
            for access in specimen.setup:
                self.board.do(access)
        else:
            self.device.sync()
        self.board.take_acts()

    def copy(self, state: ctypes.Structure | None = None) -> Bench:
        """Another one in the same surroundings, over `state`, or rebuilt over a copy of this one's bytes."""
        other = Bench.__new__(Bench)
        other.specimen, other.board = self.specimen, Board()
        other.board.ram.bytes[:] = self.board.ram.bytes
        other.board.clock.ns = self.board.clock.ns
        other.board.world.update(self.board.world)
        other.board.stores.update((name, bytearray(store)) for name, store in self.board.stores.items())
        other.state = type(self.state).from_buffer_copy(self.state) if state is None else state
        other.device = self.specimen.build(other.board, other.state)
        other.device.sync()
        other.board.take_acts()
        return other

    def run(self, script: Sequence[Access]) -> int:
        """No access may raise, keep memory pinned, or store beyond it. How many there were, a string's units singly."""
        do, ram = self.board.do, self.board.ram
        count = 0
        for access in script:
            do(access)
            count += access.value if access.what in ("ins", "outs") else 1
            assert not ram.open, f"{access} left memory pinned"
        self.board.take_acts()
        assert ram.guards_are_whole()
        return count

    def memory(self) -> list[bytes]:
        """What the device and its neighbours have in memory."""
        return [bytes(self.board.ram.bytes), *(bytes(store) for store in self.board.stores.values())]

    def trace(self, script: Sequence[Access]) -> list[object]:
        """What a guest and the neighbours see of it."""
        return [(self.board.do(access), self.board.outputs(), self.board.take_acts()) for access in script]


def accesses(specimen: Specimen, seed: int, count: int) -> list[Access]:
    """Random ones, of every width, at and around the device's ports; its script between them."""
    source = random.Random(seed)
    count *= specimen.weight
    script = [Access(source.choice(("ins", "outs")), first, 2, 64) for first, _ in specimen.ports]
    script += [random_access(specimen, source) for _ in range(UNSCRIPTED)]
    scripted = specimen.script(source, count) if specimen.script else []
    while len(script) < count:
        if scripted and source.randrange(4) < SCRIPTED:
            piece = source.choice([1, 20, 200])
            script += scripted[:piece]
            scripted = scripted[piece:]
        else:
            script.append(random_access(specimen, source))
    return script[:count]


def random_access(specimen: Specimen, source: random.Random) -> Access:
    width = source.choice(WIDTHS)
    value = source.choice((*VALUES, *specimen.values, source.getrandbits(32), source.getrandbits(32)))
    what = source.choice(("in", "in", "out", "out", "out", "event", "poke"))
    if what == "poke":
        return poke(source, width, value)
    if what == "event" or not (specimen.ports or specimen.memory):
        return Access("event", source.getrandbits(16), 4, source.getrandbits(32))
    spans = [("port", *span) for span in specimen.ports] + [("memory", *span) for span in specimen.memory]
    kind, first, size = source.choice(spans)
    at = first + source.choice((source.randrange(size), source.randrange(size), -1, size - 1))
    if kind == "memory":
        return Access("load" if what == "in" else "store", at, source.choice((1, 2, 3, 4, 8)), value)
    if source.randrange(10) == 0:
        return Access(what + "s", at, width, source.choice((2, 3, 5, 40)))
    return Access(what, at, width, value & (1 << 8 * width) - 1)


def poke(source: random.Random, width: int, value: int) -> Access:
    gpa, size = source.choice(GuardedMemory.PARTS)
    return Access("poke", gpa + source.randrange(size - width), width, value & (1 << 8 * width) - 1)


def scribbled(specimen: Specimen, seed: int) -> Bench:
    """The device over random state, random memory around it. With an odd seed, much is as a driver left it."""
    source = random.Random(seed)
    if seed % 2:
        used = Bench(specimen)
        used.run(accesses(specimen, seed, 60))
        state = type(used.state).from_buffer_copy(used.state)
        scramble(state, source)
    else:
        state = specimen.state.from_buffer_copy(source.randbytes(ctypes.sizeof(specimen.state)))
    bench = Bench(specimen, state)
    bench.board.ram.fill(source.randbytes(997))
    return bench


def scramble(state: ctypes.Structure, source: random.Random) -> None:
    """Every third field random."""
    for name, kind in (field[:2] for field in state._fields_):
        value = getattr(state, name)
        if isinstance(value, ctypes.Structure):
            scramble(value, source)
        elif isinstance(value, ctypes.Array) and len(value) and isinstance(value[0], ctypes.Structure):
            for item in value:
                scramble(item, source)
        elif source.randrange(3) == 0:
            size = ctypes.sizeof(kind)
            small = source.randrange(8).to_bytes(size, "little")
            content = source.choice((source.randbytes(size), b"\xff" * size, small, small))
            ctypes.memmove(ctypes.addressof(state) + getattr(type(state), name).offset, content, size)


@contextmanager
def no_hang(seconds: int) -> Iterator[None]:
    """What takes longer than this is stuck."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
