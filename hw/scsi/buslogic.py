"""BusLogic BT-958 MultiMaster, an Ultra Wide SCSI adapter on PCI: the guest's "buslogic" adapter.

A driver sets it up by commands, a byte at a time; then commands to targets go through mailboxes in memory: an outgoing
box holds the address of a command control block, an incoming one says which block is done. Completions for which no
incoming box is free are kept in the state, and given out when the driver has freed one.
A hard or soft reset shows DACT once, and until no command moves data any more.
Not modelled: linked commands, target mode, the BIOS and its ROM.
Source: BusLogic MultiMaster SCSI host adapters, technical reference manual; AHA-1540B user's manual for mailboxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import LittleEndianStructure, c_uint8, c_uint16, sizeof

from hw.bus import Claim
from hw.pci import PciBuses, PciDevice, PciPin
from hw.scsi.buslogic_ccb import COMMANDS as COMMAND_BLOCKS
from hw.scsi.buslogic_ccb import RESIDUALS, Ccb, buffer_of, read_ccb, write_outcome, write_sense
from hw.scsi.buslogic_commands import COMMANDS, AdapterState, fresh_adapter
from hw.scsi.buslogic_mailboxes import TASKS_MAX, Ended, EndedQueue, filled, opened
from hw.scsi.buslogic_spec import (
    BARS,
    CONFIG,
    FORMS,
    GEOMETRY_EXTENDED,
    HOST_ID,
    ISA_DISABLED,
    ISA_PORTS,
    PARAMETERS_MAX,
    REGISTERS,
    REPLY_MAX,
    Action,
    Box24,
    Box32,
    Command,
    Control,
    Direction,
    Done,
    HostStatus,
    Interrupt,
    Opcode,
    Register,
    StatusBit,
)
from hw.scsi.parallel_bus import Ending, ScsiBus, Task, fetch, store
from hw.scsi.scsi_spec import Reset, Status
from hw.scsi.target import Target
from hw.scsi.wiring import Completion
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError
from ringfence.pci_header import CONFIG_BYTES

IDLE = 0xFF  # no command is being given
CHECKED = (Direction.IN, Direction.OUT)  # with these, data that is too short is an error
RESET_BY = {Ending.BUS_RESET: HostStatus.BUS_RESET, Ending.TARGET_RESET: HostStatus.TARGET_RESET}


class BusLogicState(LittleEndianStructure):
    """All guest-visible state but the targets'."""

    _fields_ = [
        ("config", c_uint8 * CONFIG_BYTES),
        ("opcode", c_uint8), ("invalid", c_uint8), ("interrupt", c_uint8), ("latched", c_uint8),
        ("diagnosing", c_uint8), ("reserved", c_uint8),
        ("taken", c_uint16), ("expected", c_uint16), ("reply_length", c_uint16), ("reply_at", c_uint16),
        ("reserved_2", c_uint16),
        ("parameters", c_uint8 * PARAMETERS_MAX), ("reply", c_uint8 * REPLY_MAX), ("reserved_3", c_uint8 * 3),
        ("adapter", AdapterState),
        ("ended", EndedQueue),
    ]  # fmt: skip


BYTES = (CONFIG_BYTES, 16, PARAMETERS_MAX, REPLY_MAX, 3, sizeof(AdapterState), sizeof(EndedQueue))
assert sizeof(BusLogicState) == sum(BYTES)


class BusLogic(PciDevice):
    """One adapter. Its targets are devices of their own, which are reset on their own."""

    State = BusLogicState
    CONFIG = CONFIG
    BARS = BARS

    def __init__(
        self, state: BusLogicState, buses: PciBuses, intx: PciPin, memory: GuestMemory, targets: Mapping[int, Target]
    ) -> None:
        """Wire only. `targets` by SCSI id: 0-6 and 8-15."""
        super().__init__(state.config, buses, intx)
        self.state, self.memory, self.line = state, memory, intx
        self.bus = ScsiBus(targets, self.task_over)
        self._isa: Claim | None = None
        self._isa_at: int | None = None
        self._scanning = False

    @property
    def adapter(self) -> AdapterState:
        state: AdapterState = self.state.adapter
        return state

    def irq(self) -> int:
        return self.line.irq()

    def reset(self) -> None:
        """RESET#. No command is under way: whoever resets the machine has waited for them."""
        self.reset_config()
        self._reset_chip()
        self.adapter.isa_code = ISA_DISABLED
        self.state.diagnosing = 0
        self.sync()

    # from the guest

    def port_read(self, offset: int, width: int) -> int:
        if offset == Register.STATUS:
            value = self._status()
            self._settle()
            return value
        if offset == Register.COMMAND:
            return self._next_reply()
        if offset == Register.INTERRUPT:
            return int(self.state.interrupt)
        return GEOMETRY_EXTENDED if offset == Register.GEOMETRY else 0

    def port_write(self, offset: int, width: int, value: int) -> None:
        if offset == Register.STATUS:
            self._control(value & 0xFF)
        elif offset == Register.COMMAND:
            self._command(value & 0xFF)
        else:
            return
        self._drive()

    mmio_read, mmio_write = port_read, port_write

    def map_bars(self) -> None:
        """Whether the function may master the bus has changed, too."""
        super().map_bars()
        self._resume()
        self._drive()

    # registers

    def _status(self) -> int:
        state = self.state
        if state.diagnosing:
            return int(StatusBit.DIAGNOSTIC_ACTIVE)
        value = StatusBit.COMMAND_INVALID if state.invalid else StatusBit(0)
        if not self.adapter.mailboxes:
            value |= StatusBit.INITIALIZATION_REQUIRED
        if self._replies_left():
            value |= StatusBit.DATA_IN_READY
        elif state.opcode == IDLE:
            value |= StatusBit.READY
        return int(value)

    def _settle(self) -> None:
        """A reset is over once it has been seen and nothing is under way."""
        if self.state.diagnosing and self.bus.idle:
            self.state.diagnosing = 0

    def _replies_left(self) -> int:
        return max(min(self.state.reply_length, REPLY_MAX) - self.state.reply_at, 0)

    def _next_reply(self) -> int:
        """With the last byte the command is complete."""
        state = self.state
        if not self._replies_left():
            return 0
        byte = int(state.reply[state.reply_at])
        state.reply_at += 1
        if not self._replies_left():
            self._complete()
            self._drive()
        return byte

    def _control(self, value: int) -> None:
        """Resets come before all else."""
        state = self.state
        if value & (Control.HARD_RESET | Control.SOFT_RESET):
            self._reset_chip()
            if value & Control.HARD_RESET:
                self.bus.reset(Reset.BUS)
            return
        if value & Control.RESET_BUS:
            self.bus.reset(Reset.BUS)
            self._raise(Interrupt.BUS_RESET)
        if value & Control.RESET_INTERRUPT:
            state.interrupt, state.latched = state.latched | Interrupt.VALID if state.latched else 0, 0
            self._resume()
            if len(state.ended) and self.adapter.mailboxes and not state.interrupt:
                self._raise(Interrupt.MAILBOX_LOADED)  # all boxes are full still: look again, and we can go on

    def _command(self, value: int) -> None:
        """A command, or a parameter of the one that is being given; a new one drops what was left to read."""
        self._settle()
        state = self.state
        if state.diagnosing:
            return
        if state.opcode != IDLE and not self._replies_left():
            self._parameter(value)
        elif value == Command.EXECUTE_MAILBOX:
            self.adapter.scan_owed = 1
            self._resume()
        else:
            self._begin_command(value)

    def _begin_command(self, value: int) -> None:
        state = self.state
        state.opcode, state.invalid, state.taken = value, 0, 0
        state.reply_length = state.reply_at = 0
        state.latched &= ~int(Interrupt.COMMAND_COMPLETE)
        if value not in tuple(COMMANDS):
            state.invalid = 1
            self._complete()
            return
        state.expected = FORMS[Command(value)].parameters
        if not state.expected:
            self._execute()

    def _parameter(self, value: int) -> None:
        """The last one carries the command out; a count among them may make them more."""
        state = self.state
        if state.taken < PARAMETERS_MAX:
            state.parameters[state.taken] = value
        state.taken = min(state.taken + 1, PARAMETERS_MAX)
        if state.taken < min(state.expected, PARAMETERS_MAX):
            return
        form = FORMS.get(Command(state.opcode)) if state.opcode in tuple(COMMANDS) else None
        if form is not None and form.counted is not None and state.taken == form.parameters:
            state.expected = form.parameters + state.parameters[form.counted]
            if state.expected > state.taken:
                return
        self._execute()

    def _execute(self) -> None:
        """All parameters are there."""
        state = self.state
        if state.opcode not in tuple(COMMANDS):
            state.invalid = 1
            self._complete()
            return
        command = Command(state.opcode)
        count = max(min(state.taken, PARAMETERS_MAX), FORMS[command].parameters)
        reply = COMMANDS[command](self, bytes(state.parameters)[:count])
        if reply is None:
            state.invalid = 1
        elif reply:
            state.reply[: len(reply)] = reply
            state.reply_length, state.reply_at = len(reply), 0
            return
        self._complete()

    def _complete(self) -> None:
        """HARDY again, and CMDC for the commands that have it. Switching interrupts off has none."""
        state = self.state
        opcode, state.opcode = state.opcode, IDLE
        form = FORMS.get(Command(opcode)) if opcode in tuple(COMMANDS) else None
        switched_off = opcode == Command.INTERRUPT_ENABLE and not self.adapter.enabled
        if (form is None or form.interrupts) and not switched_off:
            self._raise(Interrupt.COMMAND_COMPLETE)
        self._place()

    def _raise(self, cause: Interrupt) -> None:
        """A command's end and a mailbox's news are never shown together: the later waits until the driver has reset."""
        state = self.state
        mailbox = Interrupt.MAILBOX_LOADED | Interrupt.MAILBOX_READY
        other = mailbox if cause is Interrupt.COMMAND_COMPLETE else Interrupt.COMMAND_COMPLETE
        if cause is not Interrupt.BUS_RESET and state.interrupt & other:
            state.latched |= cause
        else:
            state.interrupt |= cause | Interrupt.VALID

    def _reset_chip(self) -> None:
        """Commands and mailboxes are forgotten."""
        state = self.state
        state.adapter = fresh_adapter(self.adapter.isa_code)
        self.bus.drop()
        state.ended.clear()
        state.opcode, state.diagnosing = IDLE, 1
        state.invalid = state.interrupt = state.latched = 0
        state.taken = state.expected = state.reply_length = state.reply_at = 0
        state.parameters[:] = [0] * PARAMETERS_MAX
        state.reply[:] = [0] * REPLY_MAX

    # mailboxes

    def task_over(self) -> None:
        """A command has ended: there is room for another."""
        self._resume()
        self._drive()

    def _resume(self) -> None:
        """What waited for a free mailbox, for room, or for the bus."""
        self._post_ended()
        if self.adapter.scan_owed and not self._scanning:
            self._scanning = True
            try:
                self._scan()
            finally:
                self._scanning = False
        self._post_ended()

    def _box(self, number: int, *, incoming: bool) -> tuple[int, type[Box24] | type[Box32]]:
        """Where a mailbox is, and its format. The incoming ones follow the outgoing ones."""
        adapter = self.adapter
        kind = Box32 if adapter.wide else Box24
        return adapter.base + (adapter.mailboxes * incoming + number) * sizeof(kind), kind

    def _has_room(self) -> bool:
        return self.may_master and len(self.bus.tasks) + self.bus.awaited + len(self.state.ended) < TASKS_MAX

    def _scan(self) -> None:
        """Take what is in the outgoing boxes: each at most once. Strictly in turn, the first free one is the end."""
        adapter = self.adapter
        count, took = int(adapter.mailboxes), False
        number = adapter.next_out % count if count else 0
        for _ in range(count):
            if not self._has_room():
                break
            found = self._take_box(number)
            if found is None and adapter.strict:
                adapter.scan_owed = 0
                break
            number = (number + 1) % count
            if found is not None:
                adapter.next_out, took = number, True
                self._begin(*found)
        else:
            adapter.scan_owed = 0
        if took and adapter.ready_interrupt:
            self._raise(Interrupt.MAILBOX_READY)

    def _take_box(self, number: int) -> tuple[int, int] | None:
        """Free an outgoing box: its action and its block's address. None: it is free already, or nowhere."""
        gpa, kind = self._box(number, incoming=False)
        try:
            code, ccb = opened(kind, fetch(self.memory, gpa, sizeof(kind)))
            if code == Action.FREE:
                return None
            store(self.memory, gpa + kind.code.offset, bytes([Action.FREE]))
        except RingfenceError:
            return None
        return code, ccb

    def _post_ended(self) -> None:
        """Completions into free incoming boxes, in turn. One for which there is no memory is lost."""
        adapter, ended = self.adapter, self.state.ended
        posted = False
        while len(ended) and adapter.mailboxes and self.may_master:
            number = adapter.next_in % adapter.mailboxes
            gpa, kind = self._box(number, incoming=True)
            entry = ended.peek()
            try:
                if fetch(self.memory, gpa + kind.code.offset, 1)[0] != Done.FREE:
                    break
                store(self.memory, gpa, filled(kind, entry))
                posted = True
            except RingfenceError:
                pass
            ended.drop()
            adapter.next_in = (number + 1) % adapter.mailboxes
        if posted:
            self._raise(Interrupt.MAILBOX_LOADED)

    # command control blocks

    def _begin(self, action: int, gpa: int) -> None:
        """What an outgoing box asked for."""
        if action == Action.ABORT:
            self._abort(gpa)
            return
        try:
            ccb = read_ccb(
                self.memory, gpa, wide=bool(self.adapter.wide), extended_lun=bool(self.adapter.extended_lun)
            )
        except RingfenceError:
            self._note(gpa, Done.INVALID_CCB)
            return
        if action != Action.START:
            self._end(ccb, HostStatus.INVALID_ACTION)
        elif ccb.opcode != Opcode.RESET_TARGET and ccb.opcode not in COMMAND_BLOCKS:
            self._end(ccb, HostStatus.INVALID_OPCODE)
        elif ccb.target == HOST_ID or ccb.target not in self.bus.targets:
            self._end(ccb, HostStatus.SELECTION_TIMEOUT)
        elif ccb.opcode == Opcode.RESET_TARGET:
            self.bus.when_over(self.bus.reset(Reset.TARGET, ccb.target), lambda: self._end(ccb))
        elif not ccb.fits:
            self._end(ccb, HostStatus.INVALID_PARAMETER)
        else:
            self._begin_task(ccb)

    def _begin_task(self, ccb: Ccb) -> None:
        try:
            buffer, length = buffer_of(self.memory, ccb)
        except RingfenceError:
            self._end(ccb, HostStatus.INVALID_PARAMETER)
            return

        def ended(task: Task, completion: Completion) -> None:
            self._ended(ccb, task, completion, length)

        self.bus.begin(
            ccb.target, ccb.cdb, buffer, ccb.way, ended,
            lun=ccb.lun, tag=ccb.tag, autosense=ccb.sense_room > 0, note=ccb,
        )  # fmt: skip

    def _abort(self, gpa: int) -> None:
        """The block is returned as aborted, or reported as not found."""
        found = [task for task in self.bus.tasks if isinstance(task.note, Ccb) and task.note.gpa == gpa]
        if found:
            self.bus.abort(found)
        else:
            self._note(gpa, Done.NOT_FOUND)

    def _ended(self, ccb: Ccb, task: Task, completion: Completion, length: int) -> None:
        residual = length - (task.buffer.length - completion.residual)
        if task.ending is Ending.DROPPED:
            return
        if completion.status is Status.TASK_ABORTED:
            code = Done.WITH_ERROR if task.ending in RESET_BY else Done.ABORTED
            self._end(ccb, RESET_BY.get(task.ending, HostStatus.ABORTED), residual=residual, code=code)
            return
        host = HostStatus.NORMAL
        if completion.overrun:
            host = HostStatus.OVERRUN
        elif residual and completion.status is Status.GOOD and ccb.direction in CHECKED and ccb.opcode not in RESIDUALS:
            host = HostStatus.UNDERRUN
        if completion.status is Status.CHECK_CONDITION and completion.sense:
            try:
                write_sense(self.memory, ccb, completion.sense)
            except RingfenceError:
                host = HostStatus.AUTOSENSE_FAILED
        self._end(ccb, host, completion.status, residual)

    def _end(
        self, ccb: Ccb, host: HostStatus = HostStatus.NORMAL, device: Status = Status.GOOD, residual: int = 0,
        code: Done | None = None,
    ) -> None:  # fmt: skip
        """A block is done. Without a code of its own it went well if both statuses say so."""
        try:
            write_outcome(self.memory, ccb, host, device, residual)
        except RingfenceError:
            code = Done.INVALID_CCB
        if code is None:
            code = Done.WITH_ERROR if host or device else Done.WITHOUT_ERROR
        self._note(ccb.gpa, code, host, device)

    def _note(self, gpa: int, code: Done, host: int = 0, device: int = 0) -> None:
        self.state.ended.push(Ended(ccb=gpa, host=host, device=device, code=code))

    # outputs

    def sync(self) -> None:
        super().map_bars()
        self._place()
        self._drive()

    def _place(self) -> None:
        """The old address on ISA, if one is chosen, is decoded whatever the configuration space says."""
        code = self.adapter.isa_code
        wanted = ISA_PORTS[code] if code < len(ISA_PORTS) else None
        if wanted == self._isa_at:
            return
        if self._isa is not None:
            self.buses.ports.release(self._isa)
        self._isa, self._isa_at = None, wanted
        if wanted is not None:
            self._isa = self.buses.ports.place(wanted, range(REGISTERS), self, width=1, name="BusLogic on ISA")

    def _drive(self) -> None:
        """INTA# is asserted while the interrupt register is valid and interrupts are enabled."""
        valid = self.state.interrupt & Interrupt.VALID
        self.line.set_level(bool(valid and self.adapter.enabled))
