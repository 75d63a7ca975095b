"""A machine of several vCPUs, each run by a thread of its own: COM1 that only prints, the exit port, and nothing else.

What a runner must do for several vCPUs is here in its smallest form: one lock around the devices, and on a stop all
vCPUs are kicked until their threads have ended.
"""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path
from typing import Any

from vmm._core import ffi, lib
from vmm.cpuid import cpu_model
from vmm.cpuid_spec import MAX_PHYSICAL_BITS
from vmm.engines.contract import EngineFiles, EngineMap
from vmm.engines.named import engine_named
from vmm.interrupts import Interrupts
from vmm.layout_spec import InterruptPage, VcpuState
from vmm.memory import PAGE_SIZE, GuestMemory
from vmm.state import StateFile
from vmm.vcpu import ControlMapping, Exit, ExitKind, Vcpu
from vmx.boot import enter_program
from vmx.loader import load_program

QUANTUM_US = 10_000
TSC_HZ = 1_000_000_000
THR, LCR, LSR, DLAB, LSR_IDLE = 0x3F8, 0x3FB, 0x3FD, 0x80, 0x60
EXIT_PORT = 0xF4


class SmpMachine:
    """Switched off until `run`. `vcpus[0]` is the one that boots."""

    def __init__(self, count: int, ram_pages: int = 0x2000, engine: str = "interp") -> None:
        self.memory = GuestMemory(ram_pages, 1, count)
        self.memory.map_ram(0, ram_pages)
        names = [f"vcpu{number}" for number in range(count)]
        sections: dict[str, type[ctypes.Structure]] = dict.fromkeys(names, VcpuState)
        self.file = StateFile.create(sections | {"interrupts": InterruptPage})
        self.controls = [ControlMapping(number) for number in range(count)]
        page = self.file["interrupts"]
        assert isinstance(page, InterruptPage)
        self.interrupts = Interrupts(page)
        self.interrupts.power_on(count, TSC_HZ)
        model, signature = _model()
        where = self._map(names)
        self.vcpus: list[Vcpu] = []
        for number, name in enumerate(names):
            lib.vcpu_reset(ffi.cast("struct vcpu *", self.file.address(name)), number, signature)
            state: Any = self.file[name]
            core = engine_named(engine)(where, number, model)
            self.vcpus.append(Vcpu(number, state, self.controls[number].page, core, self.memory))
        self.lock = threading.Lock()
        self.printed = bytearray()
        self.status: int | None = None
        self.trouble: str | None = None
        self.lcr = 0

    def close(self) -> None:
        for vcpu in self.vcpus:
            vcpu.engine.close()
        for part in (*self.controls, self.file, self.memory):
            part.close()

    def __enter__(self) -> SmpMachine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _map(self, names: list[str]) -> EngineMap:
        memory, file, controls = self.memory, self.file, self.controls
        files = EngineFiles(
            memory.ram.fd, memory.dev.fd, memory.pages.fd, file.fd, file.size, file.offsets["interrupts"],
            tuple(file.offsets[name] for name in names), tuple(control.fd for control in controls), controls[0].size,
        )  # fmt: skip
        return EngineMap(
            ram=_address(memory.ram.bytes), ram_bytes=memory.ram.size, dev=_address(memory.dev.bytes),
            dev_bytes=memory.dev.size, pages=_address(memory.pages.bytes), pages_bytes=memory.pages.size,
            interrupts=file.address("interrupts"), vcpus=tuple(file.address(name) for name in names),
            controls=tuple(control.address for control in controls), files=files,
        )  # fmt: skip

    # ---- running --------------------------------------------------------------------------------------------------

    def load(self, image: Path, command_line: str = "") -> None:
        """A multiboot program, for the first vCPU; the others wait to be started."""
        program = load_program(image, self.memory.ram_pages * PAGE_SIZE)
        enter_program(self.vcpus[0].state, self.memory, program, command_line)
        self.interrupts.virtual_wire()

    def run(self, seconds: float) -> None:
        """Until the exit port is written, something goes wrong (`trouble`) or the time is over (a trouble too)."""
        self.interrupts.resume()
        threads = [threading.Thread(target=self._runner, args=(vcpu,), daemon=True) for vcpu in self.vcpus]
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            self.stop(trouble=f"not done after {seconds} s")
            for thread in threads:
                thread.join(10)
        self.interrupts.stun()
        assert not any(thread.is_alive() for thread in threads), "a kicked vCPU does not come back"

    def stop(self, status: int | None = None, trouble: str | None = None) -> None:
        if self.status is None and self.trouble is None:
            self.status, self.trouble = status, trouble
        for vcpu in self.vcpus:
            vcpu.kick()

    @property
    def is_over(self) -> bool:
        return self.status is not None or self.trouble is not None

    def lines(self) -> list[str]:
        return self.printed.decode("ascii", "replace").replace("\r\n", "\n").splitlines()

    def _runner(self, vcpu: Vcpu) -> None:
        while not self.is_over:
            exit_ = vcpu.run(QUANTUM_US)
            with self.lock:
                self._answer(vcpu, exit_)

    def _answer(self, vcpu: Vcpu, exit_: Exit) -> None:
        if exit_.kind == ExitKind.IO:
            if exit_.write:
                self._port_write(exit_.address, exit_.data)
            else:
                vcpu.answer(LSR_IDLE if exit_.address == LSR else (1 << 8 * exit_.width) - 1)
        elif exit_.kind in {ExitKind.SHUTDOWN, ExitKind.ERROR, ExitKind.DEBUG, ExitKind.FAULT_PPN}:
            state = vcpu.state
            where = f"{state.seg[1].selector:04x}:{state.eip:08x}"
            self.stop(trouble=f"vCPU {vcpu.number}: {exit_.kind.name} at {where}, vector {exit_.vector}")

    def _port_write(self, port: int, value: int) -> None:
        if port == EXIT_PORT:
            self.stop(status=value & 0xFF)
        elif port == LCR:
            self.lcr = value
        elif port == THR and not self.lcr & DLAB:
            self.printed.append(value & 0xFF)


def _model() -> tuple[Any, int]:
    leaves = cpu_model("")
    model = ffi.new("struct cpu_model *", {"count": len(leaves), "max_phys_bits": MAX_PHYSICAL_BITS})
    for index, leaf in enumerate(leaves):
        model.leaves[index] = tuple(leaf)
    return model, next(leaf.eax for leaf in leaves if leaf.leaf == 1)


def _address(mapping: object) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))  # type: ignore[arg-type]
