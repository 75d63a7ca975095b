"""One virtual CPU as Python sees it: run it, read why it stopped, read and change its registers.

`run` returns an Exit: a checked copy of what the engine left in the control page. The page itself is shared with
whatever runs the guest, so nothing is decided on it twice.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterable
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple, Protocol

from ringfence.errors import EngineFailed, HostRefused
from vmm._core import ffi, lib
from vmm.engines.contract import Engine
from vmm.layout_spec import ControlPage, ExitInfo, RunStats, Segment, TraceEvent, VcpuState

PAGE_BYTES = 4096


class ExitKind(IntEnum):
    """Why a vCPU stopped running: enum exit_kind."""

    IO = lib.EXIT_IO
    MMIO = lib.EXIT_MMIO
    HLT = lib.EXIT_HLT
    HYPERCALL = lib.EXIT_HYPERCALL
    QUANTUM = lib.EXIT_QUANTUM
    KICK = lib.EXIT_KICK
    FAULT_PPN = lib.EXIT_FAULT_PPN
    SHUTDOWN = lib.EXIT_SHUTDOWN
    DEBUG = lib.EXIT_DEBUG
    ERROR = lib.EXIT_ERROR


assert {f"EXIT_{kind.name}" for kind in ExitKind} | {"EXIT_NONE"} == set(ffi.typeof("enum exit_kind").relements)


class Attention(IntFlag):
    """Bits that a kick sets: enum attention, but for what one vCPU's core asks of another's."""

    KICK = lib.ATTN_KICK
    INTERRUPT = lib.ATTN_INTERRUPT
    FLUSH = lib.ATTN_FLUSH


class Activity(IntEnum):
    """What a vCPU does between events: enum activity."""

    RUNNING = lib.ACT_RUNNING
    HALTED = lib.ACT_HALTED
    WAIT_SIPI = lib.ACT_WAIT_SIPI
    SHUTDOWN = lib.ACT_SHUTDOWN


class TraceKind(IntFlag):
    """What a trace records: enum trace_kind."""

    IO = lib.TRACE_IO
    IRQ = lib.TRACE_IRQ
    FAULT = lib.TRACE_FAULT
    CR = lib.TRACE_CR
    INT = lib.TRACE_INT


GPR_NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
RING_COUNT = 4
MMIO_WIDTHS = frozenset({1, 2, 4, 8, 16})
PORT_WIDTHS = frozenset({1, 2, 4})
IO_BUFFER_BYTES = int(lib.RF_IO_BUFFER)
# Struct exit_info up to its buffer, and its data alone: one copy of all costs less than one field through ctypes.
EXIT_FIELDS = struct.Struct("<4I3Q4I")
EXIT_DATA = struct.Struct("<2Q")
assert EXIT_FIELDS.size == ExitInfo.buffer.offset
ERROR_REASONS = {value: name.removeprefix("ERR_") for name, value in ffi.typeof("enum error_reason").relements.items()}


class MemoryReader(Protocol):
    """Guest physical memory."""

    def read(self, gpa: int, length: int) -> bytes: ...


class Exit(NamedTuple):
    """Why `run` returned. Fields mean what core.h says of struct exit_info, and have been range-checked."""

    kind: ExitKind
    write: bool
    width: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nothing here needs
    address: int
    data: int
    reason: int
    vector: int
    interruptible: bool
    payload: bytes  # IO with count > 1 from the guest


class Vcpu:
    """One vCPU. Used by the thread that runs it; `kick` may come from any other."""

    def __init__(
        self, number: int, state: VcpuState, control: ControlPage, engine: Engine, memory: MemoryReader
    ) -> None:
        self.number, self.state, self.control, self.engine, self.memory = number, state, control, engine, memory
        self._exit: ExitInfo = control.exit

    def run(self, quantum_us: int) -> Exit:
        """Run for at most `quantum_us` of host time, or until something outside must decide."""
        return self._checked_exit(self.engine.run(quantum_us))

    def kick(self, bits: Attention = Attention.KICK) -> None:
        """Make a running vCPU leave soon, and wake a halted one. Any thread."""
        self.engine.kick(int(bits))

    def answer(self, value: int) -> None:
        """The data of an IO or MMIO read, before the next `run`."""
        EXIT_DATA.pack_into(self._exit, ExitInfo.data.offset, value & 0xFFFFFFFFFFFFFFFF, value >> 64)

    def answer_units(self, units: bytes) -> None:
        """The data of a string IN of several units."""
        ctypes.memmove(self.control.exit.buffer, units, min(len(units), IO_BUFFER_BYTES))

    @property
    def gpr(self) -> Any:
        """EAX ECX EDX EBX ESP EBP ESI EDI, live: an array of c_uint32."""
        return self.state.r

    @property
    def cpl(self) -> int:
        return int(self.state.cpl)

    @property
    def activity(self) -> Activity:
        return Activity(self.state.activity)

    @property
    def is_halted_for_good(self) -> bool:
        """Not started, or halted with IF clear: only NMI, INIT or a startup message can change that."""
        halted = self.activity == Activity.HALTED and not self.state.eflags & lib.FL_IF
        return halted or self.activity == Activity.WAIT_SIPI

    @property
    def stats(self) -> RunStats:
        """Counters since power-on, live."""
        return self.control.stats

    def segment(self, name: str) -> Segment:
        """A segment register with its hidden part, live; `name` as in SEGMENT_NAMES."""
        return self.state.seg[SEGMENT_NAMES.index(name)]

    def linear_eip(self) -> int:
        return int(self.segment("cs").base + self.state.eip) & 0xFFFFFFFF

    def read_linear(self, linear: int, length: int) -> bytes:
        """Up to `length` bytes at a linear address; cut where a page is not mapped."""
        found = bytearray()
        while len(found) < length:
            here = linear + len(found) & 0xFFFFFFFF
            gpa = self.engine.translate(here)
            if gpa is None:
                break
            found += self.memory.read(gpa, min(length - len(found), PAGE_BYTES - here % PAGE_BYTES))
        return bytes(found)

    def set_trace(self, kinds: TraceKind) -> None:
        self.control.trace_mask = int(kinds)
        self.control.trace_count = 0

    def drain_trace(self) -> tuple[list[TraceEvent], int]:
        """Events since the last call, oldest first, and how many were overwritten before anyone read them."""
        count, room = int(self.control.trace_count), len(self.control.trace)
        first = max(0, count - room)
        events = [TraceEvent.from_buffer_copy(self.control.trace[index % room]) for index in range(first, count)]
        self.control.trace_count = 0
        return events, first

    def _checked_exit(self, kind: int) -> Exit:
        (
            _, write, width, count, address, data, data_high, reason, vector, interruptible, _,
        ) = EXIT_FIELDS.unpack_from(self._exit)  # fmt: skip
        payload = b""
        if kind not in _KINDS:
            raise EngineFailed(f"{self.engine.name}: left with exit kind {kind}, which there is not")
        if kind == IO:
            if width not in PORT_WIDTHS or not 1 <= count <= IO_BUFFER_BYTES // width or address > 0xFFFF:
                raise EngineFailed(f"{self.engine.name}: impossible port access: {count} x {width} at {address:#x}")
            if write and count > 1:
                payload = bytes(self._exit.buffer[: count * width])
        elif kind == MMIO and width not in MMIO_WIDTHS:
            raise EngineFailed(f"{self.engine.name}: impossible MMIO width {width}")
        if width == 16:
            data |= data_high << 64
        return new_exit(
            Exit, (_KINDS[kind], write != 0, width, count, address, data, reason, vector, interruptible != 0, payload)
        )


new_exit = tuple.__new__  # what the generated constructor does, without a call of Python for each exit
# Plain integers and a dictionary of them: an enumeration's own comparisons and hashes are slow Python.
IO, MMIO = int(ExitKind.IO), int(ExitKind.MMIO)
_KINDS = {int(kind): kind for kind in ExitKind}


class EventSource(Protocol):
    """The interrupt page."""

    def can_wake(self, cpu: int) -> bool: ...


def are_halted_for_good(vcpus: Iterable[Vcpu], interrupts: EventSource) -> bool:
    """Will none of them ever run again, unless a device raises NMI or resets the machine?

    It is certain only while all of them are outside `run`: one that runs may wake another meanwhile.
    """
    return all(vcpu.is_halted_for_good and not interrupts.can_wake(vcpu.number) for vcpu in vcpus)


def trace_kinds(names: Iterable[str]) -> TraceKind:
    """`io`, `irq`, … to a mask. Raises KeyError for another word."""
    mask = TraceKind(0)
    for name in names:
        mask |= TraceKind[name.upper()]
    return mask


class ControlMapping:
    """The control page of one vCPU: a memfd of its own, mapped here and in whatever runs the vCPU."""

    def __init__(self, number: int) -> None:
        self.size = size = -(-ctypes.sizeof(ControlPage) // PAGE_BYTES) * PAGE_BYTES
        try:
            self.fd = os.memfd_create(f"ringfence-control{number}", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, size)
            self.mapping = mmap.mmap(self.fd, size)
        except OSError as error:
            raise HostRefused(f"a control page of {size} bytes: {error.strerror}") from error
        self.page = ControlPage.from_buffer(self.mapping)
        self.address = ctypes.addressof(self.page)

    def close(self) -> None:
        """The descriptor only: threads that kick may still look at the page, which goes with its last user."""
        os.close(self.fd)
