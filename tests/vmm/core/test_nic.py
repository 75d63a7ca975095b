"""A PCnet's registers in the interrupt page: nic.c, and the ports that lead there. What they say: tests/hw/net."""

from __future__ import annotations

import re

import pytest

from hw.net import pcnet_spec
from hw.net.pcnet_spec import Csr0
from tests.vmm.core.bus_processor import BusProcessor
from tests.vmm.core.interrupt_board import Board, multiprocessor
from vmm._core import ffi, lib
from vmm.build_core import CORE
from vmm.interrupts import Interrupts
from vmm.layout_spec import InterruptPage, NicCause, NicFront
from vmm.vcpu import Exit

RDP, IRQ, PIN = 0x1410, 10, 17
RINT, IENA, TINT = int(Csr0.RINT), int(Csr0.IENA), int(Csr0.TINT)
BASE = 0x20 + IRQ


class Chip:
    """The far side: what the device does with its registers."""

    def __init__(self, interrupts: Interrupts, number: int = 0, lines: int = 1 << IRQ) -> None:
        self.front = interrupts.nic(number)
        self.change(port=RDP + 0x100 * number, width=2, lines=lines)

    @property
    def state(self) -> NicFront:
        return self.front.state

    def change(self, **fields: int) -> None:
        self.front.hold()
        for name, value in fields.items():
            setattr(self.state, name, value)
        self.front.give()


def access(board: Board, port: int, value: int | None = None, *, size: int = 2, cpu: int = 0) -> int | None:
    """A read, or a write of `value`; None: it leaves the guest."""
    result, kick = ffi.new("uint32_t *"), ffi.new("uint32_t *")
    if value is None:
        done = lib.nic_port_read(board.page, cpu, port, size, result, kick)
    else:
        done = lib.nic_port_write(board.page, cpu, port, size, value, kick)
    board.kicked |= kick[0]
    return int(result[0]) if done else None


def test_the_bits_are_the_data_sheets() -> None:
    source = (CORE / "nic.c").read_text()
    found = dict(re.findall(r"\b([A-Z_]+) = (0x[0-9a-f]+)", source))
    bits = {name: 1 << int(place) for name, place in re.findall(r"\b([A-Z_]+) = 1 << (\d+)", source)}
    assert {"INIT", "STRT", "STOP", "TDMD", "IENA", "INTR", "TINT", "RINT", "ERR"} <= bits.keys()
    assert bits == {name: Csr0[name] for name in bits}
    status = pcnet_spec.CSR.by_name["STATUS"]
    assert (int(found["CLEARED"], 16), int(found["CAUSES"], 16)) == (status.w1c, pcnet_spec.INTERRUPTS_0)
    assert (int(found["ERRORS"], 16), int(found["RAP_MASK"], 16)) == (pcnet_spec.ERRORS_0, pcnet_spec.RAP_BITS)
    assert status.rw == IENA and status.w1s == Csr0.INIT | Csr0.STRT | Csr0.STOP | Csr0.TDMD


def test_acknowledging_lowers_the_line_and_a_cause_raises_it() -> None:
    board = Board()
    board.init_pic()
    chip = Chip(board.interrupts)
    board.outb(0x4D1, 1 << IRQ - 8)
    chip.change(csr0=RINT | IENA)
    assert board.poll() == BASE
    access(board, RDP, RINT)
    board.outb(0xA0, 0x20)
    board.outb(0x20, 0x20)
    assert board.poll() == -1
    chip.change(csr0=RINT)
    assert board.poll() == -1
    access(board, RDP, IENA)
    assert board.take_kicks() & 1 and board.poll() == BASE


@pytest.mark.parametrize("other", ["line", "nic"])
def test_a_line_is_high_while_anybody_asserts_it(other: str) -> None:
    board = Board()
    board.init_pic()
    board.outb(0x4D1, 1 << IRQ - 8)
    chip, second = Chip(board.interrupts), Chip(board.interrupts, 4)
    chip.change(csr0=RINT | IENA)
    if other == "line":
        board.line(IRQ, 1)
    else:
        second.change(csr0=TINT | IENA)
    access(board, RDP, RINT)
    assert board.pending() and board.poll() == BASE
    board.outb(0xA0, 0x20)
    board.outb(0x20, 0x20)
    board.line(IRQ, 0)
    access(board, RDP + 0x400, TINT)
    assert board.poll() == -1


def test_all_inputs_of_a_link_are_driven() -> None:
    board = Board()
    chip = Chip(board.interrupts, lines=1 << PIN | 1 << IRQ)
    chip.change(csr0=RINT | IENA)
    both = 1 << PIN | 1 << IRQ
    assert board.state.ioapic.pins & both == both
    chip.change(lines=1 << PIN)
    assert board.state.ioapic.pins & both == 1 << PIN
    chip.change(port=0)
    assert not board.state.ioapic.pins & both and not board.state.nic_lines


def test_another_vcpu_is_kicked_whose_interrupt_it_is() -> None:
    board = multiprocessor()
    chip = Chip(board.interrupts, lines=1 << PIN)
    board.route(PIN, 0xA000 | 0x51, destination=2)
    chip.change(csr0=RINT)
    board.take_kicks()
    access(board, RDP, IENA, cpu=1)
    assert board.take_kicks() == 1 << 2 and board.poll(2) == 0x51


def test_whoever_holds_it_answers_for_it() -> None:
    board = Board()
    chip = Chip(board.interrupts)
    assert access(board, RDP) == 0 and access(board, RDP + 2) == 0
    chip.front.hold()
    assert access(board, RDP) is None and access(board, RDP + 2, 3) is None and access(board, RDP, 0) is None
    chip.front.give()
    assert access(board, RDP) == 0 and chip.state.rap == 0


@pytest.mark.parametrize(("port", "size"), [(RDP, 1), (RDP, 4), (RDP + 1, 2), (RDP + 2, 4), (RDP + 4, 2), (RDP - 2, 2),
                                            (RDP + 6, 2), (0, 2), (2, 2)])  # fmt: skip
def test_other_ports_and_widths_leave_the_guest(port: int, size: int) -> None:
    board = Board()
    Chip(board.interrupts)
    assert access(board, port, size=size) is None and access(board, port, 0, size=size) is None


def test_a_system_error_asserts_without_the_enable() -> None:
    board = Board()
    chip = Chip(board.interrupts)
    chip.change(others=int(NicCause.PLAIN))
    assert not chip.state.asserted and access(board, RDP) == Csr0.INTR
    chip.change(others=int(NicCause.SYSTEM))
    assert chip.state.asserted and access(board, RDP) == Csr0.INTR


def test_a_reset_of_the_board_leaves_what_devices_drive() -> None:
    board = Board()
    chip = Chip(board.interrupts)
    chip.change(csr0=RINT | IENA)
    board.interrupts.reset(1)
    assert chip.state.asserted and board.state.ioapic.pins & 1 << IRQ


class ChipProcessor(BusProcessor):
    """A processor that has a chip on its ports, and gives it another cause whenever it was asked."""

    def __init__(self) -> None:
        super().__init__()
        page = self.state_file["interrupts"]
        assert isinstance(page, InterruptPage)
        self.chip = Chip(Interrupts(page))
        self.v.r[2] = RDP

    def _port_io(self, exit_: Exit) -> None:
        super()._port_io(exit_)
        self.chip.change(csr0=RINT | TINT, waits=0)


def test_a_read_that_left_the_guest_is_not_made_again_by_the_core() -> None:
    cpu = ChipProcessor()
    cpu.chip.change(unsaid=1)
    cpu.chip.front.hold()
    cpu.run("in (%dx), %ax; hlt")
    assert cpu.v.r[0] & 0xFFFF == int.from_bytes(cpu.stream[:2], "little")
    assert cpu.log.inputs == [(RDP, 2, 1)] and cpu.chip.state.unsaid == 1


def test_a_write_that_left_the_guest_is_not_made_again_by_the_core() -> None:
    cpu = ChipProcessor()
    cpu.chip.change(csr0=RINT, waits=1)
    cpu.run(f"mov ${RINT | IENA}, %eax; out %ax, (%dx); hlt")
    assert cpu.log.outputs == [(RDP, 2, (RINT | IENA).to_bytes(2, "little"))]
    assert cpu.chip.state.csr0 == RINT | TINT


def test_the_guest_stays_where_it_is_for_what_the_core_answers() -> None:
    cpu = ChipProcessor()
    cpu.chip.change(csr0=RINT | TINT, csr3=TINT)
    cpu.run(f"in (%dx), %ax; mov %eax, %ebx; mov ${RINT | IENA}, %eax; out %ax, (%dx); in (%dx), %ax; hlt")
    assert (cpu.v.r[3] & 0xFFFF, cpu.v.r[0] & 0xFFFF) == (RINT | TINT | Csr0.INTR, TINT | IENA)
    assert cpu.log.inputs == [] and cpu.log.outputs == []
