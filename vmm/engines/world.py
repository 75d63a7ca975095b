"""The world engine: the interpreter in a process of its own, which owns one vCPU and nothing else of the host.

The program is the C core once more, linked without a C library and embedded in the extension (vmm/core/world.c). It
inherits descriptors of the shared mappings and takes turns with us: we hand it a command through the control page and
wait; a kick reaches it as it reaches the interp engine, by the futex in that page.

What a world leaves behind is a process id, which is reaped; every mapping of its own ends with it.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

from ringfence.errors import EngineFailed, HostRefused
from vmm._core import ffi, lib
from vmm.engines.contract import EngineFiles, EngineMap
from vmm.engines.placement import Placement
from vmm.engines.world_process import WorldProcess, shared_page, start
from vmm.layout_spec import ControlPage, CpuModel, WorldPage

ARENA_BYTES = 64 << 20  # as interp's
LOOK_NS = 100_000_000  # while waiting for a turn: how often we look whether the world is still there
FAULTED = 123  # exit status of a world whose monitor faulted: STATUS_FAULT in world.h
CREW_ENDED = 125  # STATUS_CREW
NOT_SETTLED = 124  # STATUS_NOT_SETTLED
SLOW_EXITS = {lib.EXIT_QUANTUM, lib.EXIT_HLT}
run_world = lib.world_run  # looked up once: this is done for each exit
SHUTDOWN_S = 1.0  # a world that has not left by then is killed


class World:
    """One vCPU's world. `model` is a cffi `struct cpu_model *`."""

    name = "world"
    mode = lib.DIRECT_OFF

    def __init__(self, where: EngineMap, vcpu: int, model: Any) -> None:
        if lib.world_image_size == 0:
            raise HostRefused("--engine world: this build has no world executable: expected an x86-64 Linux host")
        if where.files is None:
            raise EngineFailed("world: the machine's memory has no descriptors to inherit")
        self._control = ControlPage.from_address(where.controls[vcpu])
        self._raw_control = ffi.cast("struct control *", where.controls[vcpu])
        self._spin_ns = 0
        self._page_fd, self._mapping = shared_page()
        self._page = WorldPage.from_buffer(self._mapping)
        self._describe(where, where.files, vcpu, model)
        self._control.turn = lib.TURN_WORLD  # it has the first turn, to set itself up
        self._control.shutdown = 0
        try:
            self.process = start(self._page_fd, inherited(where.files))
            self._control.pid = self.process.pid
            self._control.kick_fd[lib.RF_VCPUS] = self.process.pidfd
        finally:
            os.close(self._page_fd)
        self._placement = Placement(self._processes, vcpu, self._set_spin, self._crew_turns)
        self._end = weakref.finalize(self, end_both, self.process, self._placement)
        if not self._wait():
            why = self.process.why()
            self.close()
            raise EngineFailed(f"world: it could not start: {why}")
        if self._page.status != 0:
            status = self._page.status
            self.close()
            raise EngineFailed(f"world: it refused its arena or maps: reason {-status}")

    def _describe(self, where: EngineMap, files: EngineFiles, vcpu: int, model: Any) -> None:
        page = self._page
        page.version, page.vcpu, page.vcpus = lib.RF_WORLD_VERSION, vcpu, len(where.vcpus)
        page.spin_ns, page.arena_bytes, page.direct = self._spin_ns, ARENA_BYTES, self.mode
        page.ram_fd, page.dev_fd, page.pages_fd, page.state_fd = (
            files.ram_fd, files.dev_fd, files.pages_fd, files.state_fd,
        )  # fmt: skip
        page.ram_bytes, page.dev_bytes, page.pages_bytes = where.ram_bytes, where.dev_bytes, where.pages_bytes
        page.state_bytes, page.control_bytes = files.state_bytes, files.control_bytes
        page.interrupts_offset = files.interrupts_offset
        for index, (offset, fd) in enumerate(zip(files.vcpu_offsets, files.control_fds, strict=True)):
            page.vcpu_offset[index], page.control_fd[index] = offset, fd
        page.model = CpuModel.from_buffer_copy(ffi.buffer(ffi.cast("struct cpu_model *", model)))

    # the contract

    def run(self, quantum_us: int) -> int:
        """As every engine; EXIT_ERROR with ERR_WORLD_DIED when the world is gone, now or before."""
        if self.process.ended is not None:
            return self._died()
        self._placement.turn()
        kind: int = run_world(self._raw_control, quantum_us, self._spin_ns, LOOK_NS)
        if kind < 0:
            kind = self._run_slowly(kind, quantum_us)
        if kind in SLOW_EXITS:
            self._placement.look_soon()
        return kind

    def kick(self, bits: int) -> None:
        lib.control_kick(self._raw_control, bits)

    def flush(self) -> None:
        self._command(lib.WORLD_FLUSH)

    def translate(self, linear: int) -> int | None:
        self._page.linear = linear & 0xFFFFFFFF
        return int(self._page.gpa) if self._command(lib.WORLD_TRANSLATE) and self._page.status == 0 else None

    def set_breakpoint(self, linear: int, length: int, kind: int) -> bool:
        return self._breakpoint(lib.WORLD_SET_BREAKPOINT, linear, length, kind)

    def clear_breakpoint(self, linear: int, length: int, kind: int) -> bool:
        return self._breakpoint(lib.WORLD_CLEAR_BREAKPOINT, linear, length, kind)

    def arena(self) -> Any:
        """Not ours to look into."""
        raise EngineFailed("world: its tables lie in its own process; use --engine interp to look at them")

    def why(self) -> str:
        if self.process.ended is None:
            return ""
        if os.waitstatus_to_exitcode(self.process.ended) == FAULTED:
            at = self._control.exit
            return f"its monitor got signal {at.data[1]} at world+{at.address:#x}, address {at.data[0]:#x}"
        if os.waitstatus_to_exitcode(self.process.ended) == CREW_ENDED:
            return "a process of its crew was killed"
        if os.waitstatus_to_exitcode(self.process.ended) == NOT_SETTLED:
            return "the host gave it no filter for system calls, or no way to kick the other worlds"
        return self.process.why()

    def rest(self) -> None:
        """Let the thread that ran the world go where it was at home."""
        self._placement.end()

    def close(self) -> None:
        """End the process, politely if it can still hear. A second close does nothing."""
        if self._end.alive and self._is_ours() and not self.process.has_ended():
            self._control.shutdown = 1
            lib.world_turn(self._raw_control, 0, 0)
            self.process.wait(SHUTDOWN_S)
        self._end()

    # turns

    def _run_slowly(self, kind: int, quantum_us: int) -> int:
        """What the quick way did not bring to an end."""
        if kind == lib.RUN_NOT_OURS:
            if not self._take_back():
                return self._died()
            kind = run_world(self._raw_control, quantum_us, self._spin_ns, LOOK_NS)
        if kind == lib.RUN_LATE:
            return int(self._control.exit.kind) if self._wait() else self._died()
        return kind

    def _died(self) -> int:
        control = self._control
        control.running = control.halted = control.direct = 0
        control.exit.kind, control.exit.reason = lib.EXIT_ERROR, lib.ERR_WORLD_DIED
        return int(lib.EXIT_ERROR)

    def _breakpoint(self, command: int, linear: int, length: int, kind: int) -> bool:
        page = self._page
        page.linear, page.length, page.kind = linear & 0xFFFFFFFF, length, kind
        return self._command(command) and bool(page.status == 0)

    def _is_ours(self) -> bool:
        return bool(self._control.turn & ~lib.TURN_ASLEEP == lib.TURN_VMX)

    def _command(self, command: int) -> bool:
        """Hand over the turn and have it back. False when the world is gone."""
        if self.process.ended is not None:
            return False
        if not self._take_back():
            return False
        self._control.command = command
        return bool(lib.world_turn(self._raw_control, self._spin_ns, LOOK_NS)) or self._wait()

    def _take_back(self) -> bool:
        """The turn, where an exception of ours, such as Ctrl-C, cut the last wait short. False: the world is gone."""
        if self._is_ours():
            return True
        self.kick(lib.ATTN_KICK)
        return self._wait()

    def _processes(self) -> list[int]:
        return [self.process.pid, *filter(None, self._control.crew)]

    def _crew_turns(self) -> int:
        return int(self._control.stats.crew_turns)

    def _set_spin(self, ns: int) -> None:
        self._spin_ns = self._page.spin_ns = ns

    def _wait(self) -> bool:
        """Until it is our turn. False when the world has gone instead."""
        while not lib.world_wait(self._raw_control, 0, LOOK_NS):
            if self.process.has_ended():
                return False
        return True


def end_both(process: WorldProcess, placement: Placement) -> None:
    """What a world leaves behind."""
    placement.end()
    process.end()


def inherited(files: EngineFiles) -> list[int]:
    return [files.ram_fd, files.dev_fd, files.pages_fd, files.state_fd, *files.control_fds]
