"""PCI as firmware sees it: sizing, moving, gating, several functions, interrupt links; and every declared bank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hw import i440bx_spec, piix4_isa_spec, piix4_pm_spec
from hw.bus import PortBus
from hw.i440bx import AgpBridge, I440bx
from hw.mmio import MmioSpace
from hw.pci import PciBuses, PciConfigSpace, PciDevice, PciHost, PciHostState, PciLinks
from hw.pci_spec import CONFIG_ADDRESS, NO_IRQ
from hw.piix4_isa import Piix4Isa
from hw.piix4_pm import Piix4Pm
from ringfence.pci_header import IoBar, MemBar, PciIds, Pin, RomBar, header
from ringfence.registers import RegBank


class Nic(PciDevice):
    """A function with a window of each kind; bytes read as the low byte of their offset."""

    BARS = (IoBar(0, 0x20), MemBar(1, 0x1000), MemBar(2, 0x100000, prefetchable=True, direct=True), RomBar(0x8000))
    CONFIG = RegBank("nic", 256, *header(PciIds(0x1022, 0x2000, 0x020000, 0x10), BARS, pin=Pin.INTA, header_type=0x80))

    def __init__(self, buses: PciBuses, links: PciLinks, slot: int) -> None:
        self.state = PciConfigSpace()
        super().__init__(self.state.config, buses, links.pin(slot, Pin.INTA))
        self.moves: list[tuple[int, int | None]] = []
        self.reset_config()

    def window_moved(self, index: int, base: int | None) -> None:
        self.moves.append((index, base))

    def port_read(self, offset: int, width: int) -> int:
        return int.from_bytes(bytes(range(offset, offset + width)), "little")

    def port_write(self, offset: int, width: int, value: int) -> None:
        raise AssertionError

    mmio_read, mmio_write = port_read, port_write


class Board:
    def __init__(self) -> None:
        self.ports, self.memory, self.links = PortBus(), MmioSpace(), PciLinks()
        self.host = PciHost(PciHostState())
        self.ports.claim(CONFIG_ADDRESS, PciHost.PORTS, self.host, width=PciHost.WIDTH)
        self.buses = PciBuses(self.ports, self.memory)
        self.nic = Nic(self.buses, self.links, 17)
        self.host.attach(0, 17, 0, self.nic)

    def select(self, register: int, slot: int, function: int) -> None:
        self.ports.write(0xCF8, 4, 1 << 31 | slot << 11 | function << 8 | register & 0xFC)

    def config(self, register: int, width: int = 4, slot: int = 17, function: int = 0) -> int:
        self.select(register, slot, function)
        return self.ports.read(0xCFC + register % 4, width)

    def configure(self, register: int, value: int, width: int = 4, slot: int = 17, function: int = 0) -> None:
        self.select(register, slot, function)
        self.ports.write(0xCFC + register % 4, width, value)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.mark.parametrize(
    ("register", "flags", "mask"),
    [(0x10, 1, 0xFFFFFFE0), (0x14, 0, 0xFFFFF000), (0x18, 8, 0xFFF00000), (0x1C, 0, 0), (0x30, 0, 0xFFFF8000)],
)
def test_sizing_as_firmware_does_it(board: Board, register: int, flags: int, mask: int) -> None:
    assert board.config(register) == flags
    board.configure(register, 0xFFFFFFFF if register != 0x30 else 0xFFFFF800)
    assert board.config(register) == mask | flags
    board.configure(register, flags)
    assert board.config(register) == flags


def test_ports_are_decoded_while_the_command_register_allows_it(board: Board) -> None:
    board.configure(0x10, 0x1400)
    assert board.ports.read(0x1404, 1) == 0xFF
    board.configure(0x04, 1, 2)
    assert board.ports.read(0x1404, 4) == 0x07060504
    board.configure(0x10, 0x1480)
    assert (board.ports.read(0x1404, 1), board.ports.read(0x1484, 1)) == (0xFF, 4)
    board.configure(0x04, 0, 2)
    assert board.ports.read(0x1484, 1) == 0xFF


def test_memory_is_decoded_while_the_command_register_allows_it(board: Board) -> None:
    board.configure(0x14, 0xF0000000)
    assert board.memory.read(0xF0000010, 1) == 0xFF
    board.configure(0x04, 2, 2)
    assert board.memory.read(0xF0000010, 2) == 0x1110
    board.configure(0x14, 0xF0010000)
    assert (board.memory.read(0xF0000010, 1), board.memory.read(0xF0010010, 1)) == (0xFF, 0x10)


def test_a_direct_window_and_the_rom_are_told_where_they_are(board: Board) -> None:
    board.configure(0x04, 2, 2)
    board.configure(0x18, 0xE0000000)
    board.configure(0x30, 0xD0000000)
    board.configure(0x30, 0xD0000001)
    board.configure(0x18, 0xE0100000)
    board.configure(0x04, 0, 2)
    assert board.nic.moves == [(2, 0xE0000000), (6, 0xD0000000), (2, 0xE0100000), (2, None), (6, None)]
    assert not board.memory.spans


def test_a_register_being_sized_maps_nothing(board: Board) -> None:
    board.configure(0x04, 3, 2)
    for register in (0x10, 0x14, 0x18):
        board.configure(register, 0xFFFFFFFF)
    assert not board.memory.spans
    assert not board.nic.moves
    assert [claim.name for claim in board.ports.claims()] == ["PciHost"]


def test_what_stays_is_not_mapped_anew(board: Board) -> None:
    board.configure(0x04, 3, 2)
    board.configure(0x14, 0xF0000000)
    region = board.memory.spans[0].region
    board.configure(0x04, 7, 2)
    board.nic.map_bars()
    assert board.memory.spans[0].region is region
    assert board.nic.may_master


def test_a_restored_function_maps_what_its_registers_say(board: Board) -> None:
    board.configure(0x04, 3, 2)
    board.configure(0x14, 0xF0000000)
    other = Board()
    other.nic.state.config[:] = list(board.nic.state.config)
    other.nic.map_bars()
    assert other.nic.bar_base(1) == 0xF0000000
    assert other.memory.read(0xF0000001, 1) == 1


def test_functions_of_one_slot_are_told_apart(board: Board) -> None:
    board.host.attach(0, 17, 3, Nic(board.buses, board.links, 17))
    assert board.config(0x0E, 1) == 0x80
    assert board.config(0x00, 4, 17, 3) == 0x20001022
    assert board.config(0x00, 4, 17, 1) == 0xFFFFFFFF
    board.configure(0x3C, 5, 1, 17, 1)
    with pytest.raises(AssertionError):
        board.host.attach(0, 17, 3, board.nic)


def test_a_word_over_the_end_of_the_data_window_is_no_configuration_access(board: Board) -> None:
    board.select(0, 17, 0)
    assert board.ports.read(0xCFE, 4) == 0xFFFF2000
    assert board.ports.read(0xCF8, 1) == 0xFF


@pytest.mark.parametrize(
    ("slot", "pin", "link"), [(0x10, 1, 1), (0x11, 1, 2), (0x07, 4, 3), (0x0F, 1, 0)]
)  # GSI 17, 18, 19 and 16, as guests of VMware report them
def test_links_are_those_of_the_board(slot: int, pin: int, link: int) -> None:
    assert PciLinks().pin(slot, pin).link == link
    assert PciLinks(rotation=-1).pin(slot, pin).link == (link + 2) % 4


def test_a_link_is_asserted_while_any_pin_on_it_is() -> None:
    links = PciLinks()
    changes: list[tuple[int, bool]] = []
    links.changed = lambda link: changes.append((link, links.level(link)))
    one, other = links.pin(16, 1), links.pin(20, 1)
    for pin, level in ((one, True), (one, True), (other, True), (one, False), (other, False), (other, False)):
        pin.set_level(level)
    assert changes == [(1, True), (1, False)]


def test_the_interrupt_line_register_says_where_the_board_routes_the_pin(board: Board) -> None:
    assert board.config(0x3C, 1) == NO_IRQ
    board.links.irq_of = lambda link: 9 + link
    assert board.config(0x3C) == 0x0000010B
    board.configure(0x3C, 5, 1)
    assert (board.config(0x3C, 1), board.config(0x3D, 1)) == (11, 1)


class Neighbour:
    """Everything around the functions of the chipset."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


FUNCTIONS: dict[str, Callable[[Board], Any]] = {
    "i440bx": lambda board: I440bx(I440bx.State(), Neighbour(), 64),
    "agp": lambda board: AgpBridge(PciConfigSpace(), board.buses),
    "isa": lambda board: Piix4Isa(Piix4Isa.State(), board.buses, board.links, [Neighbour()] * 24),
    "pm": lambda board: Piix4Pm(Piix4Pm.State(), board.ports, Neighbour(), Neighbour()),
}
BANKS = {"i440bx": i440bx_spec.BRIDGE, "agp": i440bx_spec.AGP_BRIDGE, "isa": piix4_isa_spec.BRIDGE,
         "pm": piix4_pm_spec.CONFIG}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_register_resets_and_stores_as_its_row_says(board: Board, name: str) -> None:
    """Rows with a side effect have tests of their own; so has what the bridge computes (its id, its DRBs)."""
    chip = FUNCTIONS[name](board)
    board.host.attach(0, 3, 0, chip)
    chip.reset()
    for row in BANKS[name].rows:
        if row.name.startswith("DRB") or (name, row.name) == ("i440bx", "DID"):
            continue
        for index in range(row.width):
            place = row.offset + index
            reset, rw = row.reset >> 8 * index & 0xFF, row.rw >> 8 * index & 0xFF
            assert board.config(place, 1, 3) == reset, row.name
            if row.on_write:
                continue
            for value in (0xFF, 0x00, 0x5A):
                board.configure(place, value, 1, 3)
                assert board.config(place, 1, 3) == reset & ~rw & ~(row.w1c >> 8 * index) | value & rw, row.name
    for place in (place for place in range(256) if BANKS[name].owner[place] is None):
        board.configure(place, 0xFF, 1, 3)
        assert board.config(place, 1, 3) == 0, f"{place:#x} is no register"
    chip.reset()
    for row in BANKS[name].rows:
        assert row.name.startswith(("DRB", "DID")) or board.config(row.offset, 1, 3) == row.reset & 0xFF
