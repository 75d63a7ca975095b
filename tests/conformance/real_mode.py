"""An interpreter in real mode, to run vectors of a 16-bit processor: registers and bytes in, the same out."""

from __future__ import annotations

import ctypes

from tests.conformance import harness
from tests.conformance.harness import address
from vmm._core import ffi, lib
from vmm.cpuid import cpu_model
from vmm.cpuid_spec import MAX_PHYSICAL_BITS
from vmm.engines.contract import EngineMap
from vmm.engines.interp import Interp
from vmm.layout_spec import InterruptPage, VcpuState
from vmm.memory import PAGE_SIZE, GuestMemory
from vmm.state import StateFile
from vmm.vcpu import ControlMapping, ExitKind, Vcpu

RAM_PAGES = 0x112
GENERAL = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
SEGMENTS = ("es", "cs", "ss", "ds")
EXITS_MAX = 70_000


class RealMode:
    """One vCPU over 1 MiB and the 64 KiB above it; A20 is on. Ports that the core does not own read as ones."""

    def __init__(self) -> None:
        self.memory = GuestMemory(RAM_PAGES)
        self.memory.map_ram(0, RAM_PAGES)
        self.file = StateFile.create({"vcpu0": VcpuState, "interrupts": InterruptPage})
        self.control = ControlMapping(0)
        where = EngineMap(
            ram=address(self.memory.ram.bytes), ram_bytes=RAM_PAGES * PAGE_SIZE,
            dev=address(self.memory.dev.bytes), dev_bytes=self.memory.dev.size,
            pages=address(self.memory.pages.bytes), pages_bytes=self.memory.pages.size,
            interrupts=self.file.address("interrupts"), vcpus=(self.file.address("vcpu0"),),
            controls=(self.control.address,),
        )  # fmt: skip
        leaves = cpu_model("")
        model = ffi.new("struct cpu_model *", {"count": len(leaves), "max_phys_bits": MAX_PHYSICAL_BITS})
        for index, leaf in enumerate(leaves):
            model.leaves[index] = tuple(leaf)
        lib.intr_reset(ffi.cast("struct interrupts *", self.file.address("interrupts")), 1)
        lib.vcpu_reset(ffi.cast("struct vcpu *", self.file.address("vcpu0")), 0, 0x683)
        state = self.file["vcpu0"]
        assert isinstance(state, VcpuState)
        self.state = state
        self.fresh = bytes(state)
        self.vcpu = Vcpu(0, state, self.control.page, Interp(where, 0, model), self.memory)

    def load(self, registers: dict[str, int], ram: list[list[int]]) -> None:
        ctypes.memmove(ctypes.addressof(self.state), self.fresh, len(self.fresh))
        state = self.state
        for index, name in enumerate(GENERAL):
            state.r[index] = registers[name]
        for index, name in enumerate(SEGMENTS):
            state.seg[index].selector = registers[name]
            state.seg[index].base = registers[name] << 4
            state.seg[index].limit = 0xFFFF
        for index in (4, 5):
            state.seg[index].base = state.seg[index].selector = 0
        state.eip = registers["ip"]
        state.eflags = registers["flags"] & 0x7FD5 | 2
        memory, stamps = self.memory.ram.bytes, self.memory.stamps
        for gpa, value in ram:
            memory[gpa] = value
            stamps[gpa >> 12] += 1

    def run(self) -> ExitKind:
        """Until it halts or can't go on."""
        for _ in range(EXITS_MAX):
            exit_ = self.vcpu.run(50_000)
            if exit_.kind == ExitKind.IO and not exit_.write:
                if exit_.count > 1:
                    self.vcpu.answer_units(b"\xff" * (exit_.count * exit_.width))
                else:
                    self.vcpu.answer((1 << 8 * exit_.width) - 1)
            elif exit_.kind not in {ExitKind.IO, ExitKind.QUANTUM} or exit_.kind == ExitKind.QUANTUM:
                return exit_.kind
        return ExitKind.QUANTUM

    def registers(self) -> dict[str, int]:
        state = self.state
        found = {name: state.r[index] & 0xFFFF for index, name in enumerate(GENERAL)}
        found |= {name: state.seg[index].selector for index, name in enumerate(SEGMENTS)}
        return found | {"ip": state.eip & 0xFFFF, "flags": state.eflags & 0xFFFF}

    def byte(self, gpa: int) -> int:
        return int(self.memory.ram.bytes[gpa])


assert harness.PAGE_SIZE == PAGE_SIZE
