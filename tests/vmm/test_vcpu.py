"""A vCPU over an engine that does what the test says: exits are checked before anyone believes them."""

from __future__ import annotations

from typing import Any

import pytest

from ringfence.errors import BadOption, EngineFailed
from vmm._core import lib
from vmm.engines.named import engine_named
from vmm.layout_spec import ControlPage, TraceEvent, VcpuState
from vmm.vcpu import IO_BUFFER_BYTES, ExitKind, TraceKind, Vcpu, trace_kinds


class ScriptedEngine:
    """Leaves with what `next_exit` puts into the control page."""

    name = "scripted"

    def __init__(self, control: ControlPage) -> None:
        self.control = control
        self.kind = int(lib.EXIT_QUANTUM)
        self.pages: dict[int, int] = {}
        self.kicks: list[int] = []

    def next_exit(self, kind: int, **fields: Any) -> None:
        self.kind = kind
        for name, value in fields.items():
            if name == "data":
                self.control.exit.data[0] = value
            else:
                setattr(self.control.exit, name, value)

    def run(self, quantum_us: int) -> int:
        return self.kind

    def kick(self, bits: int) -> None:
        self.kicks.append(bits)

    def translate(self, linear: int) -> int | None:
        page = self.pages.get(linear >> 12)
        return None if page is None else page << 12 | linear & 0xFFF


class Memory:
    def read(self, gpa: int, length: int) -> bytes:
        return bytes((gpa >> 12) & 0xFF for _ in range(length))


@pytest.fixture
def vcpu() -> Vcpu:
    control = ControlPage()
    engine: Any = ScriptedEngine(control)
    return Vcpu(0, VcpuState(), control, engine, Memory())


def engine_of(vcpu: Vcpu) -> ScriptedEngine:
    assert isinstance(vcpu.engine, ScriptedEngine)
    return vcpu.engine


def test_a_port_write_is_copied_out(vcpu: Vcpu) -> None:
    engine_of(vcpu).next_exit(lib.EXIT_IO, write=1, width=2, count=1, address=0x3F8, data=0xBEEF)
    exit_ = vcpu.run(1000)
    assert (exit_.kind, exit_.write, exit_.width, exit_.address, exit_.data) == (ExitKind.IO, True, 2, 0x3F8, 0xBEEF)


def test_a_batch_carries_its_bytes(vcpu: Vcpu) -> None:
    vcpu.control.exit.buffer[:4] = [1, 2, 3, 4]
    engine_of(vcpu).next_exit(lib.EXIT_IO, write=1, width=1, count=4, address=0x402)
    assert vcpu.run(1000).payload == b"\1\2\3\4"


def test_an_answer_lies_where_the_engine_looks(vcpu: Vcpu) -> None:
    vcpu.answer(0x1_0000_0000_0000_0002)
    assert list(vcpu.control.exit.data) == [2, 1]
    vcpu.answer_units(b"\xaa" * (IO_BUFFER_BYTES + 100))
    assert set(vcpu.control.exit.buffer) == {0xAA}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (0, {}),
        (11, {}),
        (lib.EXIT_IO, {"width": 3, "count": 1}),
        (lib.EXIT_IO, {"width": 0, "count": 1}),
        (lib.EXIT_IO, {"width": 4, "count": 0}),
        (lib.EXIT_IO, {"width": 4, "count": IO_BUFFER_BYTES}),
        (lib.EXIT_IO, {"width": 1, "count": 1, "address": 0x10000}),
        (lib.EXIT_MMIO, {"width": 3}),
        (lib.EXIT_MMIO, {"width": 32}),
    ],
)
def test_what_an_engine_cannot_have_meant_is_refused(vcpu: Vcpu, kind: int, fields: dict[str, int]) -> None:
    engine_of(vcpu).next_exit(kind, **fields)
    with pytest.raises(EngineFailed):
        vcpu.run(1000)


def test_linear_reads_cross_pages_and_stop_where_nothing_is_mapped(vcpu: Vcpu) -> None:
    engine_of(vcpu).pages = {1: 7, 2: 9}
    assert vcpu.read_linear(0x1FFE, 4) == bytes([7, 7, 9, 9])
    assert vcpu.read_linear(0x2FFE, 4) == bytes([9, 9])
    assert vcpu.read_linear(0x5000, 4) == b""


def test_the_trace_ring_says_what_it_lost(vcpu: Vcpu) -> None:
    room = len(vcpu.control.trace)
    for index in range(room + 3):
        vcpu.control.trace[index % room] = TraceEvent(kind=TraceKind.IO, what=index)
    vcpu.control.trace_count = room + 3
    events, lost = vcpu.drain_trace()
    assert lost == 3
    assert [event.what for event in events] == list(range(3, room + 3))
    assert vcpu.drain_trace() == ([], 0)


def test_kicks_go_to_the_engine(vcpu: Vcpu) -> None:
    vcpu.kick()
    assert engine_of(vcpu).kicks == [lib.ATTN_KICK]


def test_trace_words_and_engine_names() -> None:
    assert trace_kinds(["io", "int"]) == TraceKind.IO | TraceKind.INT
    with pytest.raises(BadOption, match="interp"):
        engine_named("bogus")
