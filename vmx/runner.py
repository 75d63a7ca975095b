"""The loop that runs a vCPU and answers its exits, by a table with one handler for each kind."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ringfence.errors import HostRefused, RingfenceError
from vmm.vcpu import ERROR_REASONS, Exit, ExitKind, Vcpu
from vmx.dump import VECTOR_NAMES
from vmx.ending import raise_received, signals_wait
from vmx.machine import Machine, Processor
from vmx.stop import STATUS_HOST_ERROR, STATUS_SHUTDOWN, StopKind, StopReason

# ESX's own time slice. Whoever wants a vCPU sooner kicks it; each end of one costs two wake-ups under direct execution.
QUANTUM_US = 50_000
WATCHED_QUANTUM_US = 10_000  # where a trace is read after every exit: it keeps only so many events

RECALLED = StopReason(StopKind.LEFT, text="another thread ended the run")

# After these a vCPU is between two instructions.
AT_REST = frozenset({ExitKind.KICK, ExitKind.QUANTUM, ExitKind.HLT})

Handler = Callable[[Machine, Vcpu, Exit], StopReason | None]
AfterExit = Callable[[Machine], None]


def run(machine: Machine, after_exit: AfterExit | None = None) -> StopReason:
    """Run until something outside must decide. A guest fault raises nothing here."""
    machine.run_ended = machine.ended_by = None
    others = [OtherProcessor(machine, processor) for processor in machine.processors[1:]]
    try:
        for other in others:
            other.begin()
        return run_processor(machine, machine.processors[0], after_exit)
    finally:
        with signals_wait():  # nothing may be taken away from a vCPU that runs
            machine.end_run(RECALLED)
            for other in others:
                other.join()
        for other in others:
            other.raise_defect()


class OtherProcessor:
    """The thread of a vCPU that is not the boot processor. What ends it ends the run."""

    def __init__(self, machine: Machine, processor: Processor) -> None:
        self.machine, self.processor = machine, processor
        self._thread = threading.Thread(target=self._work, name=f"vcpu{processor.vcpu.number}", daemon=True)
        self._defect: BaseException | None = None

    def begin(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:
            raise HostRefused(f"vCPU {self.processor.vcpu.number}: the host gives no thread: {error}") from error

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def raise_defect(self) -> None:
        """What ended it that is no reason for a run to stop: it goes on up from whoever runs the machine."""
        if self._defect is not None:
            raise self._defect

    def _work(self) -> None:
        try:
            run_processor(self.machine, self.processor)
        except RingfenceError as error:
            self.machine.end_run(StopReason(StopKind.FAILED, STATUS_HOST_ERROR, str(error)), self.processor.vcpu)
        except BaseException as defect:  # noqa: BLE001 - raised again by the thread that runs the machine
            self._defect = defect
            text = f"vCPU {self.processor.vcpu.number}: {type(defect).__name__}: {defect}"
            self.machine.end_run(StopReason(StopKind.FAILED, STATUS_HOST_ERROR, text), self.processor.vcpu)


def run_processor(machine: Machine, processor: Processor, after_exit: AfterExit | None = None) -> StopReason:
    """One vCPU's loop, on the thread that calls."""
    vcpu, is_boot = processor.vcpu, processor.vcpu.number == 0
    inside, lock = processor.inside, machine.lock
    quantum_us = QUANTUM_US if after_exit is None else WATCHED_QUANTUM_US
    processor.thread = threading.get_ident()
    try:
        while True:
            if is_boot:
                raise_received()
            with inside:
                exit_ = vcpu.run(quantum_us)
            kind = exit_.kind
            with lock:
                stop = BY_KIND[kind](machine, vcpu, exit_)
                if RESTS[kind]:
                    machine.rest(processor)
                if stop is not None:
                    machine.end_run(stop, vcpu)
                stop = machine.between_exits()
            if after_exit is not None:
                after_exit(machine)
            if stop is not None:
                return stop
    finally:
        vcpu.engine.rest()
        processor.thread = None  # the host may give the same number to another thread


def port_io(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """An IN or OUT of one unit, or a batch that a string instruction makes."""
    bus, port, width = machine.board.ports, exit_.address, exit_.width
    if exit_.count > 1:
        if exit_.write:
            bus.write_units(port, width, exit_.payload)
        else:
            vcpu.answer_units(bus.read_units(port, width, exit_.count))
    elif exit_.write:
        bus.write(port, width, exit_.data)
    else:
        vcpu.answer(bus.read(port, width))
    return None


def memory_io(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """A device in memory; nobody is all ones, and writes are dropped."""
    if exit_.write:
        machine.board.mmio.write(exit_.address, exit_.width, exit_.data)
    else:
        vcpu.answer(machine.board.mmio.read(exit_.address, exit_.width))
    return None


def halt(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """With IF set the next `run` sleeps in the core. Without it only NMI or INIT could wake it, which others send."""
    if exit_.interruptible or machine.can_be_woken():
        return None
    return StopReason(StopKind.HALTED)


def hypercall(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    machine.board.backdoor.call(exit_.address, vcpu)
    return None


def quantum_ended(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """One of several that sleeps with interrupts off, or was not started, leaves the core only so."""
    if len(machine.processors) > 1 and vcpu.is_halted_for_good and not machine.can_be_woken():
        return StopReason(StopKind.HALTED)
    return None


def go_on(machine: Machine, vcpu: Vcpu, exit_: Exit) -> StopReason | None:
    """Another thread wants attention: the loop itself looks."""
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
    ExitKind.QUANTUM: quantum_ended,
    ExitKind.KICK: go_on,
    ExitKind.FAULT_PPN: resolve_page,
    ExitKind.SHUTDOWN: shutdown,
    ExitKind.DEBUG: debug,
    ExitKind.ERROR: failed,
}
assert HANDLERS.keys() == set(ExitKind)

# The same by number, for every exit looks here, and an enumeration's members hash slowly.
BY_KIND = tuple(HANDLERS.get(kind, failed) for kind in range(max(ExitKind) + 1))  # type: ignore[call-overload]
RESTS = tuple(kind in AT_REST for kind in range(max(ExitKind) + 1))
