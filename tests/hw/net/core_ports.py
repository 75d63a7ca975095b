"""A vlance on a conformance board whose ports are asked of the core first, as a machine's are."""

from __future__ import annotations

import ctypes

from hw.net.vlance import Vlance
from tests.conformance.board import Board
from tests.conformance.network_adapters import NETWORK_ADAPTERS, NoisyPort, add_far_side
from vmm._core import ffi, lib
from vmm.interrupts import Interrupts
from vmm.layout_spec import InterruptPage

VLANCE = NETWORK_ADAPTERS[0]
FIRST_PIN, LINKS, NUMBER = 16, 4, 2


class Core:
    """The core's side: the interrupt page, and the accesses that it answers."""

    def __init__(self, board: Board, page: InterruptPage | None = None) -> None:
        self.board, self.answered = board, 0
        self.page = InterruptPage() if page is None else InterruptPage.from_buffer_copy(page)
        self.interrupts = Interrupts(self.page)
        if page is None:
            self.interrupts.power_on(1, 1_000_000_000)
        self.front = self.interrupts.nic(NUMBER)
        self._value, self._kick = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        self._outside = board.ports.read, board.ports.write
        board.ports.read, board.ports.write = self.read, self.write  # type: ignore[method-assign]
        board.links.inputs_of = lambda link: 1 << FIRST_PIN + link

    def read(self, port: int, width: int) -> int:
        if lib.nic_port_read(self.interrupts.page, 0, port, width, self._value, self._kick):
            self.answered += 1
            return int(self._value[0])
        return self._outside[0](port, width)

    def write(self, port: int, width: int, value: int) -> None:
        if lib.nic_port_write(self.interrupts.page, 0, port, width, value, self._kick):
            self.answered += 1
        else:
            self._outside[1](port, width, value)

    def level(self, link: int) -> bool:
        return bool((self.page.lines | self.page.nic_lines) >> FIRST_PIN + link & 1)


class Bench:
    """The adapter, with a core or without; fresh, or over copies of another one's state."""

    def __init__(self, *, cored: bool, like: Bench | None = None) -> None:
        self.board = Board()
        self.state = VLANCE.state() if like is None else VLANCE.state.from_buffer_copy(like.state)
        self.core = Core(self.board, like.core.page if like and like.core else None) if cored else None
        self.nic = Vlance(
            self.state, self.board.buses, self.board.links.pin(17, 1), self.board.ram, NoisyPort(self.board),
            b"\0\x0c\x29\xd1\xb9\x69", bytes(2048), self.core.front if self.core else None,
        )  # fmt: skip
        self.board.config(self.nic)
        add_far_side(self.board, self.nic)
        if like is None:
            self.nic.reset()
        else:
            self.board.ram.bytes[:] = like.board.ram.bytes
            self.board.world.update(like.board.world)
            self.nic.sync()
        self.board.take_acts()

    def copy(self) -> Bench:
        return Bench(cored=self.core is not None, like=self)

    def outputs(self) -> object:
        driven, _, _ = self.board.outputs()
        levels = self.board.links.level, self.core.level if self.core else lambda link: False
        return driven, [any(level(link) for level in levels) for link in range(LINKS)]

    def acts(self) -> list[object]:
        """But for how often the port hears that the driver is ready, which is the core's saving."""
        return [act for act in self.board.take_acts() if act != ("ready",)]

    def chip_state(self) -> bytes:
        """All of it, wherever it is."""
        self.nic.front.hold()
        try:
            return bytes(ctypes.string_at(ctypes.addressof(self.state), ctypes.sizeof(self.state)))
        finally:
            self.nic.front.give()
