"""The one loop that runs a machine and answers its exits, by a table with one handler for each kind."""

from __future__ import annotations

from collections.abc import Callable

from vmm.vcpu import ERROR_REASONS, Exit, ExitKind, Vcpu
from vmx.dump import VECTOR_NAMES
from vmx.ending import raise_received
from vmx.machine import Machine
from vmx.stop import STATUS_HOST_ERROR, STATUS_SHUTDOWN, StopKind, StopReason

QUANTUM_US = 10_000

Handler = Callable[[Machine, Vcpu, Exit], StopReason | None]
AfterExit = Callable[[Machine], None]


def run(machine: Machine, after_exit: AfterExit | None = None) -> StopReason:
    """Run until something outside must decide. A guest fault raises nothing here."""
    vcpu = machine.vcpu
    while True:
        raise_received()
        exit_ = vcpu.run(QUANTUM_US)
        with machine.lock:
            stop = HANDLERS[exit_.kind](machine, vcpu, exit_) or machine.between_exits()
        if after_exit is not None:
            after_exit(machine)
        if stop is not None:
            return stop


def port_io(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """An IN or OUT of one unit, or a batch that a string instruction makes."""
    bus, port, width = machine.bus, exit_.address, exit_.width
    if exit_.count > 1:
        if exit_.write:
            for start in range(0, exit_.count * width, width):
                bus.write(port, width, int.from_bytes(exit_.payload[start : start + width], "little"))
        else:
            units = (bus.read(port, width).to_bytes(width, "little") for _ in range(exit_.count))
            vcpu.answer_units(b"".join(units))
    elif exit_.write:
        bus.write(port, width, exit_.data)
    else:
        vcpu.answer(bus.read(port, width))
    return None


def memory_io(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """No device of this machine lies in memory: all ones, and writes are dropped."""
    if not exit_.write:
        vcpu.answer((1 << 8 * exit_.width) - 1)
    return None


def halt(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """With IF set the next `run` sleeps in the core. Without it only NMI or INIT could wake the one vCPU there is."""
    state = vcpu.state
    if exit_.interruptible or state.nmi_pending or state.init_pending:
        return None
    return StopReason(StopKind.HALTED)


def hypercall(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    machine.backdoor.call(exit_.address, vcpu)
    return None


def go_on(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """The quantum ended, or another thread wants attention: the loop itself looks."""
    return None


def resolve_page(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """Without a VMkernel no page is swapped, ballooned or shared."""
    text = f"page {exit_.address:#x} is neither private nor absent, and no VMkernel could bring it back"
    return StopReason(StopKind.FAILED, STATUS_HOST_ERROR, text)


def shutdown(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    name = VECTOR_NAMES.get(exit_.vector, f"vector {exit_.vector}")
    return StopReason(StopKind.SHUTDOWN, STATUS_SHUTDOWN, f"it began with {name}", exit_.vector)


def debug(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    return StopReason(StopKind.DEBUG, text=f"at {exit_.address:08x}", detail=exit_.reason)


def failed(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    reason = ERROR_REASONS.get(exit_.reason, str(exit_.reason))
    more = vcpu.engine.why()
    return StopReason(StopKind.FAILED, STATUS_HOST_ERROR, f"{reason}: {more}" if more else reason, exit_.reason)


HANDLERS: dict[ExitKind, Handler] = {
    ExitKind.IO: port_io,
    ExitKind.MMIO: memory_io,
    ExitKind.HLT: halt,
    ExitKind.HYPERCALL: hypercall,
    ExitKind.QUANTUM: go_on,
    ExitKind.KICK: go_on,
    ExitKind.FAULT_PPN: resolve_page,
    ExitKind.SHUTDOWN: shutdown,
    ExitKind.DEBUG: debug,
    ExitKind.ERROR: failed,
}
assert HANDLERS.keys() == set(ExitKind)
