"""The UART, played as a driver and a cable play it."""

import pytest

from hw.uart import Uart, UartState
from hw.uart_spec import Fcr, Ier, Iir, Lcr, Lsr, Mcr, Msr

RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7


class Board:
    """A UART with its line and its cable."""

    def __init__(self, state: UartState | None = None) -> None:
        self.level = False
        self.sent = bytearray()
        self.readies = 0
        self.uart = Uart(state or UartState(), self, self)
        if state is None:
            self.uart.reset()

    def set_level(self, level: bool) -> None:
        self.level = level

    def transmit(self, byte: int) -> None:
        self.sent.append(byte)

    def ready(self) -> None:
        self.readies += 1

    def get(self, offset: int) -> int:
        return self.uart.port_read(offset, 1)

    def put(self, offset: int, value: int) -> None:
        self.uart.port_write(offset, 1, value)

    def cause(self) -> int:
        return self.get(IIR) & 0xF


@pytest.fixture
def board() -> Board:
    made = Board()
    made.put(MCR, Mcr.DTR | Mcr.RTS | Mcr.OUT2)
    made.put(LCR, 3)
    return made


def test_an_idle_line_status_is_60() -> None:
    assert Board().get(LSR) == Lsr.THRE | Lsr.TEMT


def test_only_four_bits_of_ier_and_five_of_mcr_stick(board: Board) -> None:
    board.put(IER, 0xFF)
    board.put(MCR, 0xFF)
    assert board.get(IER) == 0x0F
    assert board.get(MCR) == 0x1F


def test_the_scratch_register_and_lcr_keep_everything(board: Board) -> None:
    for value in (0x00, 0x5A, 0xA5, 0xFF):
        board.put(SCR, value)
        assert board.get(SCR) == value
        board.put(LCR, value)
        assert board.get(LCR) == value


def test_dlab_opens_the_divisor_latch(board: Board) -> None:
    board.put(LCR, Lcr.DLAB | 3)
    board.put(DLL, 0x34)
    board.put(DLM, 0x12)
    assert (board.get(DLL), board.get(DLM)) == (0x34, 0x12)
    board.put(LCR, 3)
    assert board.get(IER) == 0
    assert not board.sent


def test_a_character_is_cut_to_the_word_length(board: Board) -> None:
    board.put(LCR, 0)
    board.put(THR, 0xFF)
    assert board.sent == b"\x1f"


def test_without_fifos_one_character_is_held_and_an_overrun_replaces_it(board: Board) -> None:
    board.uart.received(0x41)
    assert not board.uart.can_receive()
    board.uart.received(0x42)
    assert board.get(LSR) & (Lsr.DR | Lsr.OE) == Lsr.DR | Lsr.OE
    assert not board.get(LSR) & Lsr.OE, "reading LSR clears the error"
    assert board.get(RBR) == 0x42
    assert not board.get(LSR) & Lsr.DR


def test_with_fifos_sixteen_are_held_and_an_overrun_is_lost(board: Board) -> None:
    board.put(FCR, Fcr.ENABLE)
    for byte in range(17):
        board.uart.received(byte)
    assert board.get(LSR) & Lsr.OE
    assert [board.get(RBR) for _ in range(16)] == list(range(16))
    assert not board.get(LSR) & Lsr.DR


def test_the_far_end_is_asked_for_more_when_there_is_room(board: Board) -> None:
    board.uart.received(1)
    before = board.readies
    board.get(RBR)
    assert board.readies == before + 1


def test_nothing_is_asked_for_before_the_guest_uses_the_port() -> None:
    board = Board()
    assert not board.uart.can_receive()
    board.put(FCR, Fcr.ENABLE | Fcr.CLEAR_RX | Fcr.CLEAR_TX)
    assert board.readies == 0
    board.put(MCR, Mcr.DTR)
    assert board.readies == 1
    assert board.uart.can_receive()


@pytest.mark.parametrize(("bits", "trigger"), [(0x00, 1), (0x40, 4), (0x80, 8), (0xC0, 14)])
def test_below_the_trigger_the_cause_is_a_timeout(board: Board, bits: int, trigger: int) -> None:
    board.put(FCR, Fcr.ENABLE | bits)
    board.put(IER, Ier.ERBFI)
    for count in range(1, 17):
        board.uart.received(count)
        assert board.level
        assert board.cause() == (Iir.RECEIVED_DATA if count >= trigger else Iir.TIMEOUT)


def test_iir_shows_the_fifos_only_while_they_are_on(board: Board) -> None:
    assert board.get(IIR) == Iir.NONE
    board.put(FCR, Fcr.ENABLE)
    assert board.get(IIR) == 0xC0 | Iir.NONE
    board.put(LCR, Lcr.DLAB)
    assert board.get(IIR) == 0xC0 | Iir.NONE


def test_changing_the_fifo_enable_clears_what_was_received(board: Board) -> None:
    board.uart.received(1)
    board.put(FCR, Fcr.ENABLE)
    assert not board.get(LSR) & Lsr.DR
    board.uart.received(2)
    board.put(FCR, 0)
    assert not board.get(LSR) & Lsr.DR


def test_thre_is_cleared_by_reading_iir_and_comes_back_when_enabled_again(board: Board) -> None:
    board.put(IER, Ier.ETBEI)
    assert board.level
    assert board.cause() == Iir.THR_EMPTY
    assert not board.level
    assert board.cause() == Iir.NONE
    board.put(IER, 0)
    board.put(IER, Ier.ETBEI)
    assert board.level


def test_thre_follows_every_character(board: Board) -> None:
    board.put(IER, Ier.ETBEI)
    assert board.cause() == Iir.THR_EMPTY
    board.put(THR, 0x41)
    assert board.cause() == Iir.THR_EMPTY


def test_reading_iir_keeps_thre_while_something_more_urgent_is_reported(board: Board) -> None:
    board.put(IER, Ier.ETBEI | Ier.ERBFI)
    board.uart.received(1)
    assert board.cause() == Iir.RECEIVED_DATA
    board.get(RBR)
    assert board.cause() == Iir.THR_EMPTY


def test_priorities_line_status_data_thre_modem(board: Board) -> None:
    board.put(IER, 0x0F)
    board.uart.received(1)
    board.uart.received(2)
    board.uart.set_inputs(0)
    assert board.cause() == Iir.LINE_STATUS
    board.get(LSR)
    assert board.cause() == Iir.RECEIVED_DATA
    board.get(RBR)
    assert board.cause() == Iir.THR_EMPTY
    assert board.cause() == Iir.MODEM_STATUS
    board.get(MSR)
    assert board.cause() == Iir.NONE
    assert not board.level


def test_out2_gates_the_interrupt(board: Board) -> None:
    board.put(IER, Ier.ERBFI)
    board.put(MCR, 0)
    board.uart.received(1)
    assert not board.level
    board.put(MCR, Mcr.OUT2)
    assert board.level


def test_error_bits_show_when_their_character_is_at_the_top(board: Board) -> None:
    board.put(FCR, Fcr.ENABLE)
    board.uart.received(1)
    board.uart.received(2, int(Lsr.FE))
    assert board.get(LSR) & (Lsr.FE | Lsr.FIFO_ERROR) == Lsr.FIFO_ERROR
    board.get(RBR)
    assert board.get(LSR) & (Lsr.FE | Lsr.FIFO_ERROR) == Lsr.FE | Lsr.FIFO_ERROR
    assert board.get(LSR) & (Lsr.FE | Lsr.FIFO_ERROR) == 0


def test_linux_finds_loopback_as_it_expects(board: Board) -> None:
    board.put(MCR, 0x1A)
    assert board.get(MSR) & 0xF0 == 0x90


def test_loopback_returns_characters_and_sends_none(board: Board) -> None:
    board.put(MCR, Mcr.LOOP)
    board.put(THR, 0x55)
    assert not board.sent
    assert board.get(LSR) & Lsr.DR
    assert board.get(RBR) == 0x55
    board.uart.received(0x66)
    assert not board.get(LSR) & Lsr.DR, "the receiver is cut off"


def test_modem_deltas_are_cleared_by_reading_and_ri_counts_its_trailing_edge(board: Board) -> None:
    board.get(MSR)
    board.uart.set_inputs(Msr.CTS | Msr.RI)
    assert board.get(MSR) == Msr.CTS | Msr.RI | Msr.DDSR | Msr.DDCD
    assert board.get(MSR) == Msr.CTS | Msr.RI
    board.uart.set_inputs(Msr.CTS)
    assert board.get(MSR) == Msr.CTS | Msr.TERI
