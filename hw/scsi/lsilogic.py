"""LSI Logic 53C1030, a Fusion-MPT Ultra320 SCSI controller: the guest's "lsilogic" adapter.

A driver talks to it by messages. Few, at the start, go through the doorbell a word at a time; all others lie in memory:
the driver posts a request frame's address, the controller answers by a context or by a reply frame that it was given.
Every queue is in the state, and so are replies for which no frame was given yet. A request waits in its queue while the
function may not master the bus, or while as many commands are under way as there are credits for, twice.
After a reset by the doorbell the state is RESET until no command moves data any more, then READY.
Not modelled: the expansion ROM, diagnostic reads and writes of its memory, target mode, high priority requests.
Source: Fusion-MPT Message Passing Interface specification 1.2, "System Interface Registers", "Message Queues";
LSI53C1030 technical manual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof

from hw.pci import PciBuses, PciDevice, PciPin
from hw.scsi.lsilogic_io import Initiator
from hw.scsi.lsilogic_messages import HANDLERS, IocStateFields, refuse
from hw.scsi.lsilogic_pages import PagesState, configure, reset_pages
from hw.scsi.lsilogic_queues import Fifo, HeldReplies
from hw.scsi.lsilogic_spec import (
    ADDRESS_REPLY,
    BARS,
    CONFIG,
    DIAGNOSTIC_RW,
    DOORBELL_ACTIVE,
    FIFO_DEPTH,
    FRAME_BYTES,
    HANDSHAKE_DWORDS_MAX,
    KEYS,
    MASKABLE,
    NO_REPLY,
    REPLY_BYTES_MAX,
    RESETS,
    STATE_SHIFT,
    WHO_SHIFT,
    Diagnostic,
    DoorbellFunction,
    Fault,
    Function,
    Handshake,
    IntStatus,
    IocState,
    IocStatus,
    Register,
    RequestHeader,
)
from hw.scsi.parallel_bus import ScsiBus, fetch, store
from hw.scsi.scsi_spec import Reset
from hw.scsi.target import Target
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError
from ringfence.pci_header import CONFIG_BYTES

FRAME_ADDRESS = 0xFFFFFFFC  # bits 1:0 hint at its length; bit 2 is an address bit for SeaBIOS, whose frames may need it
MASK_32 = 0xFFFFFFFF
# As plain numbers, for each request looks at them and an operation on flags is a call.
INT_REPLY, OPERATIONAL, READY = int(IntStatus.REPLY), int(IocState.OPERATIONAL), int(IocState.READY)
SCSI_IO = int(Function.SCSI_IO)


class LsiLogicState(LittleEndianStructure):
    """All guest-visible state but the targets'."""

    _fields_ = [
        ("config", c_uint8 * CONFIG_BYTES),
        ("int_status", c_uint32), ("int_mask", c_uint32), ("diagnostic", c_uint32),
        ("keys", c_uint8), ("handshake", c_uint8), ("expected", c_uint8), ("taken", c_uint8),
        ("request", c_uint32 * HANDSHAKE_DWORDS_MAX),
        ("reply", c_uint16 * (REPLY_BYTES_MAX // 2)), ("reply_words", c_uint8), ("reply_at", c_uint8),
        ("reserved", c_uint8 * 2),
        ("ioc", IocStateFields),
        ("pages", PagesState),
        ("requests", Fifo), ("free", Fifo), ("posted", Fifo),
        ("held", HeldReplies),
    ]  # fmt: skip


assert sizeof(LsiLogicState) == CONFIG_BYTES + 16 + 128 + 84 + 20 + 256 + 3 * sizeof(Fifo) + sizeof(HeldReplies)


class LsiLogic(PciDevice):
    """One controller. Its targets are devices of their own, which are reset on their own."""

    State = LsiLogicState
    CONFIG = CONFIG
    BARS = BARS

    def __init__(
        self, state: LsiLogicState, buses: PciBuses, intx: PciPin, memory: GuestMemory, targets: Mapping[int, Target]
    ) -> None:
        """Wire only. `targets` by SCSI id: 0-6 and 8-15."""
        super().__init__(state.config, buses, intx)
        self.state, self.memory = state, memory
        self.ioc, self.requests, self.posted, self.held = state.ioc, state.requests, state.posted, state.held
        self.line = intx
        self.bus = ScsiBus(targets, self.task_over)
        self.initiator = Initiator(self.bus, memory, self)
        self._starting = False

    def reset(self) -> None:
        """RESET#. No command is under way: whoever resets the machine has waited for them."""
        self.reset_config()
        reset_pages(self.state.pages)
        self._reset_chip(0)
        self.sync()

    # from the guest

    def port_read(self, offset: int, width: int) -> int:
        """What a register does when it is read it does for an access that includes its first byte."""
        shift = offset % 4
        if shift:
            return self._peek(offset - shift) >> 8 * shift
        if (reader := READERS.get(offset)) is None:
            return 0
        return reader(self)

    def port_write(self, offset: int, width: int, value: int) -> None:
        """Bytes that an access does not carry count as zeros."""
        shift = offset % 4
        if (writer := WRITERS.get(offset - shift)) is not None:
            writer(self, value << 8 * shift & MASK_32)
            self._start_requests()
            self._drive()

    mmio_read, mmio_write = port_read, port_write

    def map_bars(self) -> None:
        """Whether the function may master the bus has changed, too."""
        super().map_bars()
        self._start_requests()
        self._drive()

    # registers

    def _peek(self, register: int) -> int:
        """A register without what reading it does."""
        if register == Register.DOORBELL:
            return self._doorbell(self._next_word())
        if register == Register.REPLY_FIFO:
            posted = self.state.posted
            return int(posted.slots[posted.first % FIFO_DEPTH]) if len(posted) else NO_REPLY
        return READERS[register](self) if register in READERS else 0

    def _doorbell(self, data: int) -> int:
        ioc, state = self.state.ioc, self.state
        active = DOORBELL_ACTIVE if state.handshake != Handshake.IDLE else 0
        if ioc.ioc_state == IocState.FAULT:
            data = ioc.fault
        return (ioc.ioc_state << STATE_SHIFT | active | (ioc.who_init & 7) << WHO_SHIFT | data) & MASK_32

    def _next_word(self) -> int:
        """0 beyond the end of a handshake's reply, and where there is none."""
        state = self.state
        has_word = state.handshake == Handshake.REPLY and state.reply_at < min(state.reply_words, len(state.reply))
        return int(state.reply[state.reply_at]) if has_word else 0

    def read_doorbell(self) -> int:
        state = self.state
        word = self._next_word()
        if state.handshake == Handshake.REPLY:
            state.reply_at = min(state.reply_at + 1, state.reply_words)
            state.int_status |= IntStatus.DOORBELL
            self._drive()
        return self._doorbell(word)

    def write_doorbell(self, value: int) -> None:
        """A reset is taken in the middle of a handshake, too, where no other word has its form."""
        state = self.state
        function = value >> 24
        if function in RESETS and (state.handshake != Handshake.REQUEST or not value & 0xFFFFFF):
            self._reset_unit(function)
        elif state.handshake == Handshake.REQUEST:
            self._take_word(value)
        elif function == DoorbellFunction.HANDSHAKE and state.ioc.ioc_state != IocState.FAULT:
            state.expected, state.taken = value >> 16 & 0xFF, 0
            state.handshake = Handshake.REQUEST
            state.int_status |= IntStatus.DOORBELL
            if not state.expected:
                self._shake_hands()
        elif function == DoorbellFunction.REPLY_FRAME_REMOVAL and state.ioc.ioc_state != IocState.FAULT:
            self._remove_reply_frames()

    def _take_word(self, value: int) -> None:
        """One dword of a handshake's request; what is longer than any request is not kept."""
        state = self.state
        if state.taken < HANDSHAKE_DWORDS_MAX:
            state.request[state.taken] = value
        state.taken = min(state.taken + 1, 0xFF)
        if state.taken >= state.expected:
            self._shake_hands()

    def _shake_hands(self) -> None:
        """The request is complete: carry it out. A task management request's reply goes to the queue."""
        state = self.state
        kept = min(state.taken, HANDSHAKE_DWORDS_MAX) * 4
        frame = bytes(state.request)[:kept].ljust(FRAME_BYTES, b"\0")
        function = RequestHeader.from_buffer_copy(frame).function
        state.handshake = Handshake.IDLE
        state.int_status |= IntStatus.DOORBELL
        if function == Function.SCSI_TASK_MGMT and state.ioc.ioc_state == IocState.OPERATIONAL:
            self.initiator.manage(frame)
        elif function == Function.SCSI_IO:
            self._answer(refuse(frame, IocStatus.INVALID_FUNCTION))
        else:
            self._answer(self._carry_out(function, frame))

    def _answer(self, reply: bytes) -> None:
        """Through the doorbell, 16 bits at a time."""
        state = self.state
        words = len(reply) // 2
        state.reply[:words] = [int.from_bytes(reply[2 * at : 2 * at + 2], "little") for at in range(words)]
        state.reply_words, state.reply_at = words, 0
        state.handshake = Handshake.REPLY

    def _remove_reply_frames(self) -> None:
        """Gives back as many free reply frames as one answer holds: their number, then their addresses."""
        state = self.state
        count = min(len(state.free), (REPLY_BYTES_MAX - 4) // 4)
        addresses = [state.free.pop() or 0 for _ in range(count)]
        self._answer(b"".join(value.to_bytes(4, "little") for value in (count, *addresses)))
        state.int_status |= IntStatus.DOORBELL

    def write_sequence(self, value: int) -> None:
        """Five keys in a row allow writes to the diagnostic register; any other write ends that."""
        state = self.state
        enabled = state.diagnostic & Diagnostic.WRITE_ENABLED
        state.diagnostic &= ~int(Diagnostic.WRITE_ENABLED)
        expected = KEYS[state.keys % len(KEYS)]
        state.keys = state.keys % len(KEYS) + 1 if value & 0xF == expected and not enabled else 0
        if state.keys == len(KEYS):
            state.keys = 0
            state.diagnostic |= Diagnostic.WRITE_ENABLED

    def write_diagnostic(self, value: int) -> None:
        state = self.state
        if not state.diagnostic & Diagnostic.WRITE_ENABLED:
            return
        if value & Diagnostic.RESET_ADAPTER:
            self._reset_chip(int(Diagnostic.RESET_HISTORY))
            self.bus.reset(Reset.BUS)
            self._settle()
            return
        history = value & state.diagnostic & Diagnostic.RESET_HISTORY
        state.diagnostic = value & DIAGNOSTIC_RW | history | Diagnostic.WRITE_ENABLED

    def read_status(self) -> int:
        return int(self.state.int_status)

    def write_status(self, value: int) -> None:
        """Clears the doorbell's bit, except that it stays up for a handshake's reply, and its end."""
        state = self.state
        if state.handshake != Handshake.REPLY:
            state.int_status &= ~int(IntStatus.DOORBELL)
        elif state.reply_at >= min(state.reply_words, len(state.reply)):
            state.handshake = Handshake.IDLE

    def read_mask(self) -> int:
        return int(self.state.int_mask)

    def write_mask(self, value: int) -> None:
        self.state.int_mask = value & MASKABLE

    def read_diagnostic(self) -> int:
        return int(self.state.diagnostic)

    def write_request(self, value: int) -> None:
        """Post a request frame. More than the queue holds is the driver's fault."""
        ioc_state = self.ioc.ioc_state
        if ioc_state in (OPERATIONAL, READY) and not self.requests.push(value & FRAME_ADDRESS):
            self._fail(Fault.OVERFLOW)

    def read_reply(self) -> int:
        """The next reply. That there is none ends the interrupt."""
        descriptor = self.posted.pop()
        if descriptor is None:
            self.state.int_status &= ~INT_REPLY
            self._drive()
            return NO_REPLY
        if self.requests.count:
            self._start_requests()
            self._drive()
        return descriptor

    def write_reply(self, value: int) -> None:
        """A frame for some reply. Frames come before IOC_INIT, and it keeps them."""
        self.state.free.push(value & ~1)
        self._send_held()

    # resets

    def _reset_unit(self, function: int) -> None:
        """By the doorbell: all queues are emptied and all I/O is aborted without a word."""
        state = self.state
        state.int_status = 0
        state.handshake = Handshake.IDLE
        for queue in (state.requests, state.free, state.posted, state.held):
            queue.clear()
        state.ioc = IocStateFields(ioc_state=IocState.RESET)
        self.bus.drop()
        if function == DoorbellFunction.IO_UNIT_RESET:
            self.bus.reset(Reset.BUS)
        self._settle()

    def _reset_chip(self, diagnostic: int) -> None:
        """As power-on, but for configuration space and pages."""
        state = self.state
        self._reset_unit(DoorbellFunction.MESSAGE_UNIT_RESET)
        state.int_mask, state.diagnostic, state.keys = MASKABLE, diagnostic, 0
        state.expected = state.taken = state.reply_words = state.reply_at = 0
        state.request[:] = [0] * len(state.request)
        state.reply[:] = [0] * len(state.reply)

    def _settle(self) -> None:
        """RESET ends with the last command."""
        if self.ioc.ioc_state == IocState.RESET and self.bus.idle:
            self.ioc.ioc_state = IocState.READY

    def _fail(self, fault: Fault) -> None:
        """Nothing but a reset helps a controller in the FAULT state."""
        ioc = self.state.ioc
        if ioc.ioc_state not in (IocState.FAULT, IocState.RESET):
            ioc.ioc_state, ioc.fault = IocState.FAULT, fault

    # requests and replies

    def _start_requests(self) -> None:
        """Take what is in the request queue. Each makes one reply, for which there is room before it is taken."""
        if self._starting or not self.requests.count:
            return
        self._starting = True
        try:
            while self.requests.count and self._may_start():
                self._execute(self.requests.pop() or 0)
        finally:
            self._starting = False

    def _may_start(self) -> bool:
        owed = len(self.bus.tasks) + self.bus.awaited + len(self.posted) + len(self.held)
        return self.may_master and owed < FIFO_DEPTH and self.ioc.ioc_state in (OPERATIONAL, READY)

    def _execute(self, low: int) -> None:
        ioc = self.ioc
        try:
            frame = fetch(self.memory, ioc.host_mfa_high << 32 | low, FRAME_BYTES)
        except RingfenceError:
            self._fail(Fault.REQUEST_FRAME)
            return
        function = RequestHeader.from_buffer_copy(frame).function
        operational = ioc.ioc_state == OPERATIONAL
        if function == SCSI_IO and operational:
            if not (done := self.initiator.move_at_once(frame)):
                self.initiator.begin(frame, ioc.sense_high, tried=done is False)
        elif function == Function.SCSI_TASK_MGMT and operational:
            self.initiator.manage(frame)
        else:
            self.post_reply(self._carry_out(function, frame))

    def _carry_out(self, function: int, frame: bytes) -> bytes:
        """A message that is not SCSI; its reply."""
        ioc = self.state.ioc
        if function in (Function.SCSI_IO, Function.SCSI_TASK_MGMT):
            return refuse(frame, IocStatus.INVALID_STATE)
        if function == Function.CONFIG:
            return configure(self.state.pages, self.memory, frame)
        if (handler := HANDLERS.get(function)) is None:
            return refuse(frame, IocStatus.INVALID_FUNCTION)
        return handler(ioc, frame)

    def post_context(self, context: int) -> None:
        self._post(context & ~ADDRESS_REPLY & MASK_32)

    def post_reply(self, frame: bytes) -> None:
        self.state.held.push(frame)
        self._send_held()

    def task_over(self) -> None:
        """A command has ended, whose reply may be posted: there may be room for another, or a reset may be over."""
        self._settle()
        if not self._starting:  # whoever starts requests goes on, and drives the line after the last
            self._start_requests()
            self._drive()

    def _send_held(self) -> None:
        state = self.state
        while len(state.held) and state.ioc.ioc_state != IocState.FAULT and (low := state.free.pop()) is not None:
            frame = state.held.pop()
            size = state.ioc.reply_frame_bytes or len(frame)
            try:
                store(self.memory, state.ioc.host_mfa_high << 32 | low, frame[:size])
            except RingfenceError:
                self._fail(Fault.REPLY_FRAME)
                return
            self._post(low >> 1 | ADDRESS_REPLY)

    def _post(self, descriptor: int) -> None:
        self.posted.push(descriptor)
        self.state.int_status |= INT_REPLY

    # outputs

    def sync(self) -> None:
        super().map_bars()
        self._settle()
        self._drive()

    def _drive(self) -> None:
        """INTA# is asserted while an unmasked cause is there."""
        state = self.state
        self.line.set_level(bool(state.int_status & ~state.int_mask & MASKABLE))


READERS: dict[int, Callable[[LsiLogic], int]] = {
    Register.DOORBELL:        LsiLogic.read_doorbell,
    Register.HOST_DIAGNOSTIC: LsiLogic.read_diagnostic,
    Register.INT_STATUS:      LsiLogic.read_status,
    Register.INT_MASK:        LsiLogic.read_mask,
    Register.REPLY_FIFO:      LsiLogic.read_reply,
}  # fmt: skip
WRITERS: dict[int, Callable[[LsiLogic, int], None]] = {
    Register.DOORBELL:           LsiLogic.write_doorbell,
    Register.WRITE_SEQUENCE:     LsiLogic.write_sequence,
    Register.HOST_DIAGNOSTIC:    LsiLogic.write_diagnostic,
    Register.INT_STATUS:         LsiLogic.write_status,
    Register.INT_MASK:           LsiLogic.write_mask,
    Register.REQUEST_FIFO:       LsiLogic.write_request,
    Register.REPLY_FIFO:         LsiLogic.write_reply,
    Register.HIGH_PRIORITY_FIFO: LsiLogic.write_request,
}  # fmt: skip
