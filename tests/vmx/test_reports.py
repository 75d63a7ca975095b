"""Text that people read: statistics, traces, the screen, code and back-traces."""

from __future__ import annotations

import pytest

from ringfence.errors import BadOption
from vmm.layout_spec import RunStats, TraceEvent
from vmm.vcpu import TraceKind
from vmx.dump import disassemble, follows_call
from vmx.screen import TEXT_BASE, glyph, plain_screen, read_screen
from vmx.stats import listing, ring_matrix, stats_text
from vmx.symbols import Symbol, SymbolTable
from vmx.trace import event_line, parse_kinds


def test_the_ring_matrix_has_a_row_for_the_ring_left() -> None:
    transitions = [0] * 16
    transitions[3 * 4 + 0] = 5
    lines = ring_matrix(transitions)
    assert lines[4].split() == ["from", "3", "5", ".", ".", "."]


def test_a_run_of_nothing_divides_by_nothing() -> None:
    assert "instructions        0" in stats_text(RunStats(), 0.0)


def test_listings_begin_with_the_most_frequent() -> None:
    assert listing({"a": 1, "b": 1000, "c": 0}) == "b 1,000, a 1"
    assert listing({}) == "none"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            TraceEvent(TraceKind.IO, 0x3F8, 0x1004, 8, 0x41, 1 | 1 << 8),
            "0008:00001004 <main+0x4>  out port 03f8 <- 41",
        ),
        (TraceEvent(TraceKind.IO, 0x3FD, 0x1000, 8, 0x60, 1), "in  port 03fd -> 60"),
        (TraceEvent(TraceKind.FAULT, 14, 0x1000, 8, 6, 0xDEAD0000), "#PF, error code 6, CR2 dead0000"),
        (TraceEvent(TraceKind.FAULT, 13, 0x1000, 8, 8, 0), "#GP, error code 8"),
        (TraceEvent(TraceKind.CR, 3, 0x1000, 8, 0x2000), "CR3 <- 00002000"),
        (TraceEvent(TraceKind.INT, 0x80, 0x1000, 8, 0, 4), "int 80, EAX 00000004"),
        (TraceEvent(TraceKind.IRQ, 0x20, 0x1000, 8), "interrupt, vector 20"),
        (TraceEvent(0x4000, 0, 0x1000, 8), "kind 16384"),
    ],
)
def test_trace_lines(event: TraceEvent, text: str) -> None:
    line = event_line(event, SymbolTable([Symbol(0x1000, 16, "main")]))
    assert text in line
    assert "\n" not in line


def test_trace_words() -> None:
    assert parse_kinds("io,cr") == TraceKind.IO | TraceKind.CR
    assert parse_kinds("all") == TraceKind(31)
    assert parse_kinds("") == TraceKind(0)
    with pytest.raises(BadOption, match="--trace"):
        parse_kinds("io,nonsense")


class Screen:
    def __init__(self, text: bytes) -> None:
        cells = bytearray(b"\x20\x07" * 2000)
        cells[0 : 2 * len(text) : 2] = text
        self.cells = bytes(cells)

    def read(self, gpa: int, length: int) -> bytes:
        assert (gpa, length) == (TEXT_BASE, 4000)
        return self.cells


def test_the_screen_shows_code_page_437() -> None:
    assert plain_screen(Screen(b"Caf\x82 \x01")) == "Café ☺"
    assert len(read_screen(Screen(b"")).plain.split("\n")) == 25
    assert {glyph(code) for code in range(256)} >= {"█", "░", "⌂", "A", "é"}
    assert all(len(glyph(code)) == 1 for code in range(256))


def test_disassembly_follows_the_code_size() -> None:
    assert "mov eax, 0x4030201" in next(iter(disassemble(b"\xb8\x01\x02\x03\x04", 0, wide=True)))
    assert "mov ax, 0x201" in next(iter(disassemble(b"\xb8\x01\x02\x03\x04", 0, wide=False)))
    assert "not an instruction" in next(iter(disassemble(b"\xff\xff", 0, wide=True)))


@pytest.mark.parametrize(
    ("before", "is_call"),
    [
        (b"\x90\x90\xe8\x01\x02\x03\x04", True),
        (b"\x90\x90\x90\x90\x90\xff\xd0", True),
        (b"\x90\xff\x15\x00\x00\x10\x00", True),
        (b"\x90\x90\x90\x90\x90\x90\x90", False),
        (b"\xe8", False),
    ],
)
def test_a_return_address_follows_a_call(before: bytes, is_call: bool) -> None:
    assert follows_call(before) == is_call
