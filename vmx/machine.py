"""One virtual machine: memory, interrupt page, board and vCPUs plugged together, and a program put into it.

Threads: `runner.run` runs the boot vCPU on its caller's thread and every other one on a thread of its own; others call
`post`, `leave` or `stop`. `lock` is held around every entry into a device. `hold` keeps the vCPUs out of the guest for
a moment, wherever they are in an instruction; what `at_rest` is given runs when all have finished theirs.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TypeVar

from hw.backdoor import MachineFacts
from hw.firmware import buslogic_rom
from hw.firmware.board import BoardFacts
from hw.firmware.tables import FirmwareTables
from hw.fw_cfg import describe_machine, e820
from hw.fw_cfg_spec import E820Type
from hw.rtc_spec import Boot
from vmm._core import ffi, lib
from vmm.cpuid import cpu_model
from vmm.cpuid_spec import MAX_PHYSICAL_BITS, Leaf
from vmm.engines.contract import EngineFiles, EngineMap
from vmm.engines.named import engine_named
from vmm.interrupts import Event, Interrupts
from vmm.layout_spec import InterruptPage, VcpuState
from vmm.memory import GuestMemory
from vmm.nic_hall import NicHall
from vmm.state import StateFile
from vmm.vcpu import Attention, ControlMapping, Vcpu
from vmx import after_firmware, board, memory_map, video_map
from vmx.attachments import Attachments
from vmx.board import Board
from vmx.clock import host_tsc_hz
from vmx.ending import raise_received
from vmx.loader import Image
from vmx.machine_config import AdapterKind, BootDevice, MachineConfig
from vmx.memory_map import MemoryMap
from vmx.program import Program, ToyProgram
from vmx.question import Questions
from vmx.roms import text_font
from vmx.stop import StopKind, StopReason
from vmx.symbols import SymbolTable
from vmx.video_map import VideoMapping

State = TypeVar("State", bound=ctypes.Structure)

BOOT_CODES = {
    BootDevice.FLOPPY: Boot.FLOPPY,
    BootDevice.DISK: Boot.DISK,
    BootDevice.CDROM: Boot.CD,
    BootDevice.NETWORK: Boot.NETWORK,
}
HOLD_RETRY_S = 0.001
REST_LOOK_S = 0.01  # how often a vCPU that waits for the others to rest looks whether the run has ended instead
WAKING = int(Event.NMI | Event.INIT | Event.SIPI)


class Processor:
    """One vCPU with what runs it. `inside` is held while it is in the guest."""

    def __init__(self, vcpu: Vcpu, control: ControlMapping) -> None:
        self.vcpu, self.control = vcpu, control
        self.inside = threading.Lock()
        self.thread: int | None = None
        self.resting = False  # it has left its instruction, and waits for the others to


class Machine:
    """A machine, switched off until `runner.run`. `close` gives everything back."""

    def __init__(self, config: MachineConfig, attachments: Attachments) -> None:
        """Raises a RingfenceError with nothing left open but the attachments, which are the machine's from then on."""
        config.check()
        self.config, self.attachments = config, attachments
        self.lock = threading.Lock()
        self.stopping: StopReason | None = None
        self.pausing: StopReason | None = None
        self.run_ended: StopReason | None = None
        self.ended_by: Vcpu | None = None  # which one ended the run, where one did
        self.deadline_ns: int | None = None
        self.symbols = SymbolTable()
        self.program: Program | None = None  # what a reset starts anew, where there is no firmware
        self.reboots = True  # whether a guest that resets the machine gets a reset, or ends the run
        self._posted: deque[Callable[[], None]] = deque()
        self._resting: deque[Callable[[], None]] = deque()
        self._resumed = threading.Condition(self.lock)
        self.questions = Questions(self)
        self._model = cpu_model(config.cpu_features, self.tsc_hz(), lib.RF_APIC_BUS_HZ)
        with ExitStack() as held:
            self._build(held)
            held.callback(attachments.close)
            held.callback(self.board.close)
            self._held = held.pop_all()

    def _build(self, held: ExitStack) -> None:
        """Plug together and switch on. `held` gives back what was made."""
        config, attachments = self.config, self.attachments
        engine = engine_named(config.engine)
        dev_pages = memory_map.dev_pages_for(attachments.firmware) + video_map.dev_pages_for(attachments.video_rom)
        self.memory = GuestMemory(config.memory_mib << 20 >> 12, dev_pages, config.vcpus)
        held.callback(self.memory.close)
        self.map = MemoryMap(self.memory, attachments.firmware, self.hold)
        video = VideoMapping(self.memory, self.map, attachments.video_rom)
        sections: dict[str, type[ctypes.Structure]] = {f"vcpu{n}": VcpuState for n in range(config.vcpus)}
        self.state = StateFile.create({**sections, "interrupts": InterruptPage, **board.sections(attachments)})
        held.callback(self.state.close)
        self.interrupts = Interrupts(_as(InterruptPage, self.state["interrupts"]), self.kick_mask)
        controls = []
        for number in range(config.vcpus):
            controls.append(ControlMapping(number))
            held.callback(controls[number].close)
        where = self._engine_map(controls)
        self.nics = NicHall(where, self.interrupts)
        held.callback(self.nics.close)
        self.processors: list[Processor] = []
        for number, control in enumerate(controls):
            made = engine(where, number, core_model(self._model))
            held.callback(made.close)
            state = _as(VcpuState, self.state[f"vcpu{number}"])
            self.processors.append(Processor(Vcpu(number, state, control.page, made, self.memory), control))
        facts = MachineFacts(config.memory_mib, self.tsc_hz(), lib.RF_APIC_BUS_HZ, config.uuid)
        self.board = Board(
            self.state, self.memory, self.map, video, self.interrupts, self, facts, attachments, self.questions,
            self.nics, local_time=config.local_time,
        )  # fmt: skip
        self.board.claim_debug_ports(self)
        self.tables = FirmwareTables(self._board_facts())
        if attachments.firmware:
            self._describe_to_firmware()
        self.power_on()

    @property
    def vcpu(self) -> Vcpu:
        """The boot processor."""
        return self.processors[0].vcpu

    @property
    def vcpus(self) -> list[Vcpu]:
        return [processor.vcpu for processor in self.processors]

    def close(self) -> None:
        """Switched off: give memory, files and the terminal back, whatever one of them says. Idempotent."""
        self._held.close()

    # wiring

    def _engine_map(self, controls: list[ControlMapping]) -> EngineMap:
        def at(buffer: object) -> int:
            return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]

        memory, state = self.memory, self.state
        names = [f"vcpu{number}" for number in range(len(controls))]
        files = EngineFiles(
            memory.ram.fd, memory.dev.fd, memory.pages.fd, state.fd, state.size, state.offsets["interrupts"],
            tuple(state.offsets[name] for name in names), tuple(control.fd for control in controls), controls[0].size,
        )  # fmt: skip
        return EngineMap(
            ram=at(memory.ram.bytes), ram_bytes=memory.ram.size, dev=at(memory.dev.bytes), dev_bytes=memory.dev.size,
            pages=at(memory.pages.bytes), pages_bytes=memory.pages.size, interrupts=state.address("interrupts"),
            vcpus=tuple(state.address(name) for name in names),
            controls=tuple(control.address for control in controls), files=files,
        )  # fmt: skip

    def _board_facts(self) -> BoardFacts:
        """The machine in the words of firmware's tables."""
        config = self.config
        leaf = next(leaf for leaf in self._model if leaf.leaf == 1)
        facts = BoardFacts(
            config.vcpus, config.memory_mib, config.uuid, self.board.interrupt_pins(),
            cpu_signature=leaf.eax, cpu_features=leaf.edx,
        )  # fmt: skip
        if self.attachments.firmware:
            return facts
        return replace(facts, pm_base=after_firmware.PM_BASE, smbus_base=after_firmware.SMBUS_BASE)

    def _describe_to_firmware(self) -> None:
        config = self.config
        rows = [(0, config.memory_mib << 20, E820Type.RAM)]
        device = self.board.fw_cfg
        describe_machine(
            device, cpus=config.vcpus, uuid=config.uuid, memory_map=e820(rows), menu_wait_ms=config.boot_delay_ms
        )
        if config.boot_delay_ms:
            device.add_file("etc/show-boot-menu", b"\1")
            device.add_file("etc/boot-menu-wait", config.boot_delay_ms.to_bytes(4, "little"))
        for name, data in self.tables.fw_cfg_files().items():
            device.add_file(name, data)
        if any(adapter.kind is AdapterKind.BUSLOGIC for adapter in self.attachments.scsi.values()):
            device.add_file(buslogic_rom.FILE_NAME, buslogic_rom.buslogic_rom())

    # power

    def tsc_hz(self) -> int:
        return self.config.tsc_hz or host_tsc_hz()

    def power_on(self) -> None:
        """Everything as after the power button; the boot vCPU at the reset vector."""
        self.interrupts.power_on(self.config.vcpus, self.tsc_hz())
        self._reset_processors()
        self._reset_board()
        for vcpu in self.vcpus:
            vcpu.set_trace(self.config.trace)

    def _reset_processors(self) -> None:
        signature = next(leaf.eax for leaf in self._model if leaf.leaf == 1)
        for number, vcpu in enumerate(self.vcpus):
            lib.vcpu_reset(ffi.cast("struct vcpu *", self.state.address(f"vcpu{number}")), number, signature)
            vcpu.kick(Attention.FLUSH)

    def _reset_board(self) -> None:
        config = self.config
        self.map.load_firmware()
        self.board.reset()
        self.questions.dismiss()
        boot = tuple(BOOT_CODES[device] for device in config.boot_order)
        self.board.configure_cmos(config.memory_mib, config.vcpus, boot)
        for serial in self.attachments.serials:
            if serial is not None:
                serial.drive_lines()
        if not self.attachments.firmware:
            after_firmware.configure(self.board, text_font(self.attachments.video_rom))
            for vcpu in self.vcpus:
                after_firmware.set_memory_types(vcpu.state, config.memory_mib << 20)

    def load(self, image: Image, command_line: str = "") -> None:
        """Start with a toy program. Raises BadInput."""
        self.start_with(ToyProgram(image, command_line))

    def start_with(self, program: Program) -> None:
        """Put a program into memory and the vCPU at its entry, as a boot loader would. Raises BadInput."""
        self.program, self.symbols = program, program.symbols
        program.enter(self.vcpu.state, self.memory, self.tables)

    def start(self) -> None:
        """Let guest time run and take serial input."""
        self.interrupts.resume()
        for serial, uart in zip(self.attachments.serials, self.board.uarts, strict=True):
            if serial is not None:
                serial.connect(uart, self)
        if self.attachments.printer is not None:
            self.attachments.printer.start(self)
        for tray in self.attachments.all_trays():
            tray.start(self)
        if self.attachments.flusher is not None:
            self.attachments.flusher.start()
        self.board.network.start()

    def restored(self) -> None:
        """State and memory are those of a machine that was suspended."""
        page = self.interrupts.state
        page.lock = page.owed_kicks = 0  # nobody is in the middle of anything, and all are kicked
        page.nic_sleeps = page.nic_starved = 0
        for front in page.nic:
            front.held = front.rings = 0
        for vcpu in self.vcpus:
            vcpu.kick(Attention.FLUSH)
        self.board.sync()

    # what the board drives

    def power_off(self) -> None:
        """From the chipset: soft-off."""
        self.stop(StopReason(StopKind.POWERED_OFF))

    def exit_with(self, status: int) -> None:
        """From the exit port."""
        self.stop(StopReason(StopKind.EXITED, status))

    def reset_machine(self) -> None:
        """RESET#, once every vCPU has ended its instruction. Any thread, under the lock."""
        if self.reboots:
            self._resting.appendleft(self.reset_now)  # ahead of a suspend, whose file would know nothing of it
            self.kick_all()
        else:
            self.stop(StopReason(StopKind.RESET))

    def reset_processor(self) -> None:
        """INIT# from the chipset, which on this board is wired to RESET# of the machine."""
        self.reset_machine()

    def set_a20(self, on: bool) -> None:
        """A20M# of every vCPU."""
        mask = 0xFFFFFFFF if on else 0xFFEFFFFF
        for vcpu in self.vcpus:
            if vcpu.state.a20_mask != mask:
                vcpu.state.a20_mask = mask
                vcpu.kick(Attention.FLUSH)

    def reset_now(self) -> None:
        """RESET# to everything, the machine being at rest and its lock held."""
        self.interrupts.reset(self.config.vcpus)
        self._reset_processors()
        self._reset_board()
        if self.program is not None:
            self.program.enter(self.vcpu.state, self.memory, self.tables)

    # stopping

    def leave(self) -> None:
        """From the terminal."""
        self.stop(StopReason(StopKind.LEFT))

    def stop(self, reason: StopReason) -> None:
        """End the run; the first reason counts. Any thread."""
        if self.stopping is None:
            self.stopping = reason
        self.kick_all()

    def end_run(self, reason: StopReason, vcpu: Vcpu | None = None) -> None:
        """End this run of all vCPUs because of what one of them met; the first reason counts. Any thread."""
        if self.run_ended is None:
            self.run_ended, self.ended_by = reason, vcpu
        self.kick_all()

    def pause(self, reason: StopReason) -> None:
        """End this run only, for a debugger, who clears `pausing` and runs it again. Any thread."""
        self.pausing = reason
        self.kick_all()

    def kick_all(self) -> None:
        for processor in self.processors:
            processor.vcpu.kick()

    # while it runs

    def kick_mask(self, mask: int) -> None:
        """The core names vCPUs that must look at their interrupts."""
        for processor in self.processors:
            if mask >> processor.vcpu.number & 1:
                processor.vcpu.kick(Attention.INTERRUPT)

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called by a running thread, under the lock, soon. Any thread."""
        self._posted.append(action)
        self.vcpu.kick()

    def at_rest(self, action: Callable[[], None]) -> None:
        """Have `action` called, under the lock, when no vCPU is in the middle of an instruction. Any thread."""
        self._resting.append(action)
        self.kick_all()

    def stun(self) -> None:
        """Let no guest time pass; the vCPUs have been stopped before. All that devices did is in the state."""
        self.interrupts.stun()
        self.board.network.settle()

    def stand_still(self, asked: Callable[[], bool]) -> None:
        """Rest, and let no guest time pass, as long as `asked` says so or until the run ends. Under the lock."""

        def stand() -> None:
            try:
                while asked() and not self.is_wanted_back():
                    self.stun()  # again, for what is done meanwhile may have ended it
                    if self._posted:
                        self._posted.popleft()()
                    elif self._resting:
                        self._resting.popleft()()
                    else:
                        self._resumed.wait(REST_LOOK_S)
                        raise_received()
            finally:
                self.interrupts.resume()

        self.at_rest(stand)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep every other vCPU, and frames, out of the guest. The caller has the lock; no vCPU enters without it."""
        me = threading.get_ident()
        held = []
        self.nics.stop()
        try:
            for processor in self.processors:
                if processor.thread == me:
                    continue
                while not processor.inside.acquire(timeout=HOLD_RETRY_S):
                    processor.vcpu.kick()
                held.append(processor)
            yield
        finally:
            for processor in held:
                processor.inside.release()
            self.nics.go()

    def limit_time(self, seconds: float) -> None:
        self.deadline_ns = time.monotonic_ns() + int(seconds * 1e9)

    def is_late(self) -> bool:
        return self.deadline_ns is not None and time.monotonic_ns() >= self.deadline_ns

    def is_wanted_back(self) -> bool:
        """Whether the run is to end or pause: a device that waits for the host stops waiting. Any thread."""
        return (self.stopping or self.pausing or self.run_ended) is not None or self.is_late()

    def between_exits(self) -> StopReason | None:
        """What was posted; then whether to stop. Called with the lock held."""
        while self._posted:
            self._posted.popleft()()
        if self.deadline_ns is not None and self.is_late() and self.stopping is None:
            self.stop(StopReason(StopKind.TIMED_OUT))
        return self.run_ended or self.stopping or self.pausing

    def can_be_woken(self) -> bool:
        """Can a vCPU that has halted with interrupts off ever go on? Only NMI, INIT or another vCPU helps it.

        One that runs while we look may wake one that we have looked at, and halt before we come to it: so "no" is asked
        again with all of them out of the guest.
        """
        if self._has_a_waker():
            return True
        with self.hold():
            return self._has_a_waker()

    def _has_a_waker(self) -> bool:
        for number, vcpu in enumerate(self.vcpus):
            state = vcpu.state
            if state.nmi_pending or state.init_pending or self.interrupts.state.events[number] & WAKING:
                return True
            if state.activity == lib.ACT_RUNNING or (state.activity == lib.ACT_HALTED and state.eflags & lib.FL_IF):
                return True
        return False

    def rest(self, processor: Processor) -> None:
        """This vCPU is between two instructions: do what waited for that, or wait until it is done. Lock held."""
        if not self._resting:
            return
        processor.resting = True
        try:
            while self._resting and not self.is_wanted_back():
                if all(other.resting for other in self.processors):
                    self._resting.popleft()()
                else:
                    self._resumed.wait(REST_LOOK_S)
                    if processor is self.processors[0]:
                        raise_received()
            self._resumed.notify_all()
        finally:
            processor.resting = False


def core_model(leaves: list[Leaf]) -> object:
    """The core's struct cpu_model of these CPUID leaves."""
    model = ffi.new("struct cpu_model *")
    assert len(leaves) <= lib.RF_CPUID_LEAVES
    model.count, model.max_phys_bits = len(leaves), MAX_PHYSICAL_BITS
    for index, leaf in enumerate(leaves):
        for name, value in leaf._asdict().items():
            setattr(model.leaves[index], name, value)
    return model


def _as(kind: type[State], state: ctypes.Structure) -> State:
    assert isinstance(state, kind)
    return state
