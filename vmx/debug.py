"""`ringfence debug`: a machine as the GDB stub wants it, and the run that the debugger steers.

Guest time stands still while the machine is stopped. A triple fault stops it too, so that it can be looked at; going on
from there ends it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from ctypes import Array, Structure
from pathlib import Path

from vmm._core import lib
from vmm.gdb_link import close_listener, listen
from vmm.gdb_wiring import Cause, Stop
from vmm.gdbstub import Server
from vmm.interrupts import Interrupts
from vmm.memory import GuestMemory
from vmm.vcpu import Vcpu
from vmx import runner
from vmx.machine import Machine
from vmx.stop import STATUS_TIMEOUT, StopKind, StopReason

CORE_SECTIONS = frozenset({"vcpu0", "interrupts"})  # the monitor has better words for these
CAUSES = {
    lib.DEBUG_BREAKPOINT: Cause.BREAKPOINT,
    lib.DEBUG_WATCHPOINT: Cause.WATCHPOINT,
    lib.DEBUG_STEP: Cause.STEP,
}
CRASHES = frozenset({StopKind.SHUTDOWN, StopKind.FAILED})
INTERRUPT = StopReason(StopKind.DEBUG, text="interrupted")
ARRAY_ITEMS_SHOWN = 16
FINISH_EXITS = 64  # more than any instruction needs
CLEAR_BYTES = 1 << 20


class MachineUnderDebug:
    """The plug between a Machine of one vCPU and the stub."""

    def __init__(self, machine: Machine, after_exit: runner.AfterExit | None = None) -> None:
        self.machine, self._after_exit = machine, after_exit
        machine.start()
        machine.stun()

    @property
    def vcpu(self) -> Vcpu:
        return self.machine.vcpu

    @property
    def memory(self) -> GuestMemory:
        return self.machine.memory

    @property
    def interrupts(self) -> Interrupts:
        return self.machine.interrupts

    def resume(self) -> Stop:
        """Run until the debugger's business or the machine's end."""
        self.machine.interrupts.resume()
        try:
            reason = runner.run(self.machine, self._after_exit)
            if reason is INTERRUPT:
                reason = self._finish_instruction()
        finally:
            self.machine.stun()
        return self._stop(reason)

    def _finish_instruction(self) -> StopReason:
        """An interrupt may fall between a device's answer and the instruction that asked: let that one end."""
        control = self.vcpu.control
        if self.vcpu.state.activity != lib.ACT_RUNNING:
            return INTERRUPT
        self.forget_interrupt()
        wanted, control.single_step = control.single_step, lib.STEP_ALONE
        left = FINISH_EXITS

        def give_up(machine: Machine) -> None:
            nonlocal left
            left -= 1
            if left == 0:  # it may be frozen, as x87 code is that waits for an unmasked error's interrupt
                self.interrupt()
            if self._after_exit is not None:
                self._after_exit(machine)

        reason = runner.run(self.machine, give_up)
        control.single_step = wanted
        if reason.kind is StopKind.DEBUG and reason.detail != lib.DEBUG_STEP:
            return reason
        return INTERRUPT if reason.kind is StopKind.DEBUG else reason

    def _stop(self, reason: StopReason) -> Stop:
        if reason is INTERRUPT:
            return Stop(Cause.INTERRUPTED)
        if reason.kind is StopKind.DEBUG:
            return Stop(CAUSES[reason.detail], int(self.vcpu.control.exit.address) & 0xFFFFFFFF)
        if reason.kind in CRASHES:
            return Stop(Cause.CRASHED, status=reason.status, text=reason.line())
        status = STATUS_TIMEOUT if reason.kind is StopKind.TIMED_OUT else reason.status
        return Stop(Cause.ENDED, status=status, text=reason.line())

    def interrupt(self) -> None:
        self.machine.pause(INTERRUPT)

    def ended(self) -> Stop | None:
        """The person at the terminal may leave."""
        return None if self.machine.stopping is None else self._stop(self.machine.stopping)

    def forget_interrupt(self) -> None:
        self.machine.pausing = None

    def reset(self) -> None:
        """Power-on state, memory zeroed, the program loaded again."""
        clear(self.machine.memory)
        self.machine.power_on()
        if self.machine.program is not None:
            self.machine.start_with(self.machine.program)
        self.machine.vcpu.engine.flush()

    def device_lines(self) -> Iterator[str]:
        """Every device's state, field by field."""
        for name, state in self.machine.state.states.items():
            if name not in CORE_SECTIONS:
                yield f"{name}: " + "  ".join(fields(state))


def clear(memory: GuestMemory) -> None:
    """Zero the RAM that was ever written; what the host never had to back stays so."""
    at = 0
    with contextlib.suppress(OSError):  # ENXIO: no more data
        while True:
            at = os.lseek(memory.ram.fd, at, os.SEEK_DATA)
            end = os.lseek(memory.ram.fd, at, os.SEEK_HOLE)
            for gpa in range(at, end, CLEAR_BYTES):
                memory.write(gpa, bytes(min(CLEAR_BYTES, end - gpa)))
            at = end


def fields(state: Structure) -> Iterator[str]:
    for row in state._fields_:
        value = getattr(state, row[0])
        if isinstance(value, Structure):
            yield f"{row[0]}({' '.join(fields(value))})"
        elif isinstance(value, Array):
            shown = " ".join(f"{item:x}" for item in value[:ARRAY_ITEMS_SHOWN] if isinstance(item, int))
            yield f"{row[0]}=[{shown}{' ...' if len(value) > ARRAY_ITEMS_SHOWN else ''}]"
        else:
            yield f"{row[0]}={value:x}" if isinstance(value, int) else f"{row[0]}={value!r}"


def debug_machine(
    machine: MachineUnderDebug, where: str, say: Callable[[str], None], *, wait: bool, program: Path | None
) -> int:
    """Serve debuggers at `where` until the machine ends: its exit status. Raises BadOption or HostRefused."""
    listener, line = listen(where)
    try:
        say(f"for gdb{f' {program}' if program else ''}:  {line}")
        stop = Server(listener, machine).serve(wait=wait)
    finally:
        close_listener(listener)
    sys.stdout.flush()
    return stop.status
