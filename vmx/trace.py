"""`--trace`: events of the core as lines, with the program's symbols.

A line is: guest time in seconds, where (CS:EIP, symbol), what happened.
"""

from __future__ import annotations

from collections.abc import Callable

from ringfence.errors import BadOption
from vmm.layout_spec import TraceEvent
from vmm.vcpu import TraceKind, Vcpu, trace_kinds
from vmx.dump import VECTOR_NAMES
from vmx.symbols import SymbolTable

# `what` of TRACE_CR for what is not a control register: MSRs are traced with their number.
CONTROL_REGISTERS = 8


def parse_kinds(words: str) -> TraceKind:
    """`io,irq,fault,cr,int`, or `all`. Raises BadOption."""
    names = [kind.name.lower() for kind in TraceKind if kind.name]
    wanted = names if words == "all" else [word for word in words.split(",") if word]
    try:
        return trace_kinds(wanted)
    except KeyError as error:
        raise BadOption(f"--trace {words}: expected some of {', '.join(names)}, or all") from error


def io_text(event: TraceEvent) -> str:
    width, write = event.extra & 0xFF, event.extra >> 8
    return f"{'out' if write else 'in '} port {event.what:04x} {'<-' if write else '->'} {event.value:0{2 * width}x}"


def irq_text(event: TraceEvent) -> str:
    return f"interrupt, vector {event.what:02x}"


def fault_text(event: TraceEvent) -> str:
    name = VECTOR_NAMES.get(event.what, f"vector {event.what:02x}")
    address = f", CR2 {event.extra:08x}" if name == "#PF" else ""
    return f"{name}, error code {event.value:x}{address}"


def cr_text(event: TraceEvent) -> str:
    name = f"CR{event.what}" if event.what < CONTROL_REGISTERS else f"MSR {event.what:x}"
    return f"{name} <- {event.value:08x}"


def int_text(event: TraceEvent) -> str:
    return f"int {event.what:02x}, EAX {event.extra:08x}"


TEXTS: dict[int, tuple[str, Callable[[TraceEvent], str]]] = {
    TraceKind.IO: ("io", io_text),
    TraceKind.IRQ: ("irq", irq_text),
    TraceKind.FAULT: ("fault", fault_text),
    TraceKind.CR: ("cr", cr_text),
    TraceKind.INT: ("int", int_text),
}
assert TEXTS.keys() == set(TraceKind)


def event_line(event: TraceEvent, symbols: SymbolTable) -> str:
    """One event. EIP is looked up as if CS were flat."""
    name, text = TEXTS.get(event.kind, (f"kind {event.kind}", lambda e: ""))
    return f"[{event.time_ns / 1e9:12.6f}] {name:5} {event.cs:04x}:{symbols.describe(event.eip)}  {text(event)}"


class TraceWriter:
    """Empties a vCPU's trace ring and writes the lines."""

    def __init__(self, symbols: SymbolTable, write: Callable[[str], object]) -> None:
        self._symbols, self._write = symbols, write

    def drain(self, vcpu: Vcpu) -> None:
        events, lost = vcpu.drain_trace()
        if lost:
            self._write(f"({lost} events were overwritten before they could be read)\n")
        for event in events:
            self._write(event_line(event, self._symbols) + "\n")
