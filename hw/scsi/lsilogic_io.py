"""SCSI I/O and task management of the 53C1030: from request frame to target, and back to a reply.

A command that went well, with all its data, is answered by its context alone; all others by a reply frame.
Source: Fusion-MPT Message Passing Interface specification, "SCSI Initiator Messages".
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import sizeof
from struct import Struct
from typing import NamedTuple, Protocol

from hw.scsi.lsilogic_sgl import segments_of
from hw.scsi.lsilogic_spec import (
    HOST_ID,
    MAX_BUSES,
    MAX_DEVICES,
    RESPONSE_COMPLETE,
    RESPONSE_NOT_SUPPORTED,
    RESPONSE_SUCCEEDED,
    SENSE_64,
    SGE_LENGTH,
    TAGGED_HEAD,
    TAGGED_ORDERED,
    UNTAGGED,
    Function,
    IoControl,
    IocStatus,
    ScsiIo,
    ScsiIoReply,
    ScsiState,
    Sge,
    TaskManagement,
    TaskManagementReply,
    TaskType,
)
from hw.scsi.parallel_bus import Buffer, Ending, ScsiBus, Task, cdb_length, direction_of, gather, store
from hw.scsi.scsi_spec import Direction, Reset, Status, Tag
from hw.scsi.wiring import Completion
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError

TAGS = {TAGGED_HEAD: Tag.HEAD, TAGGED_ORDERED: Tag.ORDERED, UNTAGGED: Tag.UNTAGGED}
# Keys and masks are plain numbers: an operation on flags is a call, and each request needs several.
DIRECTIONS = {int(IoControl.WRITE): Direction.OUT, int(IoControl.READ): Direction.IN}
DIRECTION, ATTRIBUTE = int(IoControl.DIRECTION), int(IoControl.ATTRIBUTE)
FORM, PLAIN_READ, PLAIN_WRITE = DIRECTION | ATTRIBUTE, int(IoControl.READ), int(IoControl.WRITE)  # of a simple task
AT_ONCE_MAX = 64 << 10  # longer ones need not be looked at
ONE_ELEMENT = int(Sge.ELEMENT | Sge.END_OF_LIST | Sge.ADDRESS_64) << 24
ONE = int(Sge.SIMPLE | Sge.END_OF_LIST) << 24
LUN_0 = bytes(8)
# What of a request says what is moved, and the first element (of 32 bits) behind it, in one look: target, bus, context,
# LUN, control, CDB, data length; the element's flags and length, its address.
SHORT = Struct("<BB6xI8sI16sI4xII")
assert SHORT.size == sizeof(ScsiIo) + 8
NO_SUCH_LUN = 0xFFFF


class Replies(Protocol):
    """Where replies go."""

    def post_context(self, context: int) -> None:
        """A SCSI I/O ended as well as it can."""

    def post_reply(self, frame: bytes) -> None: ...


class Note(NamedTuple):
    """What is kept of a request while its command is under way."""

    request: ScsiIo
    sense_gpa: int


class Initiator:
    """The SCSI side of the controller."""

    def __init__(self, bus: ScsiBus, memory: GuestMemory, replies: Replies) -> None:
        self.bus, self.memory, self.replies = bus, memory, replies

    def move_at_once(self, frame: bytes) -> bool | None:
        """A READ or WRITE of one piece of memory that the target does at once: done, and its reply posted.

        None: it is for `begin`. False: likewise, and the target has tried. What a request takes here it takes from the
        guest's processor, so this is the way with the fewest steps.
        """
        target, bus, context, lun, control, cdb, length, element, gpa = SHORT.unpack_from(frame)
        chip = self.bus.targets.get(target)
        if chip is None or bus or lun != LUN_0 or element & ONE_ELEMENT != ONE or element & SGE_LENGTH < length:
            return None
        form = control & FORM
        if form not in (PLAIN_READ, PLAIN_WRITE) or not 0 < length <= AT_ONCE_MAX or target == HOST_ID:
            return None
        writes = form == PLAIN_WRITE
        try:
            with self.memory.dma(gpa, length, not writes) as views:
                done = chip.move_at_once(cdb, views, length, writes=writes)
        except RingfenceError:
            return None
        if done:
            self.replies.post_context(context)
        return done

    def begin(self, frame: bytes, sense_high: int, *, tried: bool = False) -> None:
        """Start a SCSI I/O. Its reply is posted now, or when the target is done."""
        request = ScsiIo.from_buffer_copy(frame)
        if (refused := self._refused(request)) is not None:
            self._reply(request, refused, state=ScsiState.NO_SCSI_STATUS)
            return
        whole, control = bytes(request.cdb), request.control
        cdb = whole[: cdb_length(whole[0], min(max(request.cdb_length, 1), len(whole)))]
        direction = DIRECTIONS.get(control & DIRECTION)
        if direction is None:
            direction = direction_of(whole)
        buffer = Buffer()
        if request.data_length:
            segments = segments_of(self.memory, frame, sizeof(ScsiIo), request.chain_offset)
            try:
                buffer = gather(self.memory, segments, request.data_length, direction)
            except RingfenceError:
                self._reply(request, IocStatus.INVALID_SGL, state=ScsiState.NO_SCSI_STATUS)
                return
        high = sense_high << 32 if request.flags & SENSE_64 else 0
        tag = TAGS.get(control & ATTRIBUTE, Tag.SIMPLE)
        note = Note(request, high | request.sense_low)
        self.bus.begin(
            request.target, cdb, buffer, direction, self._ended, lun=lun_of(request.lun), tag=tag, note=note,
            tried=tried,
        )  # fmt: skip

    def _refused(self, request: ScsiIo) -> IocStatus | None:
        if request.bus >= MAX_BUSES:
            return IocStatus.SCSI_INVALID_BUS
        if request.target >= MAX_DEVICES:
            return IocStatus.SCSI_INVALID_TARGET
        if request.target == HOST_ID or request.target not in self.bus.targets:
            return IocStatus.SCSI_DEVICE_NOT_THERE
        return None

    def _ended(self, task: Task, completion: Completion) -> None:
        assert isinstance(task.note, Note)
        request, sense_gpa = task.note
        moved = task.buffer.length - completion.residual
        if task.ending is Ending.DROPPED:
            return
        if completion.status is Status.TASK_ABORTED:
            state = ScsiState.TERMINATED | ScsiState.NO_SCSI_STATUS
            self._reply(request, IocStatus.SCSI_TASK_TERMINATED, moved, state=state)
            return
        status = IocStatus.SUCCESS
        if completion.overrun:
            status = IocStatus.SCSI_DATA_OVERRUN
        elif moved < request.data_length:
            status = IocStatus.SCSI_DATA_UNDERRUN
        if completion.status is Status.GOOD and status is IocStatus.SUCCESS:
            self.replies.post_context(request.context)
            return
        sense, state = completion.sense[: request.sense_length], ScsiState(0)
        if completion.status is Status.CHECK_CONDITION:
            state = self._deliver_sense(sense_gpa, sense)
        self._reply(request, status, moved, completion.status, state, len(sense))

    def _deliver_sense(self, gpa: int, sense: bytes) -> ScsiState:
        if not sense:
            return ScsiState.AUTOSENSE_FAILED
        try:
            store(self.memory, gpa, sense)
        except RingfenceError:
            return ScsiState.AUTOSENSE_FAILED
        return ScsiState.AUTOSENSE_VALID

    def _reply(
        self, request: ScsiIo, status: IocStatus, moved: int = 0, scsi_status: Status = Status.GOOD,
        state: int = 0, sense_count: int = 0,
    ) -> None:  # fmt: skip
        reply = ScsiIoReply(
            target=request.target, bus=request.bus, length=sizeof(ScsiIoReply) // 4, function=Function.SCSI_IO,
            cdb_length=request.cdb_length, sense_length=request.sense_length, flags=request.flags,
            context=request.context, scsi_status=scsi_status, scsi_state=state, ioc_status=status,
            transfer_count=moved, sense_count=sense_count,
        )  # fmt: skip
        self.replies.post_reply(bytes(reply))

    # task management

    def manage(self, frame: bytes) -> None:
        """Carry out a task management request. Its reply follows those of the tasks that it ended."""
        request = TaskManagement.from_buffer_copy(frame)
        if request.bus >= MAX_BUSES:
            self._managed(request, IocStatus.SCSI_INVALID_BUS)
        elif request.task_type != TaskType.RESET_BUS and request.target >= MAX_DEVICES:
            self._managed(request, IocStatus.SCSI_INVALID_TARGET)
        elif request.task_type != TaskType.RESET_BUS and request.target not in self.bus.targets:
            self._managed(request, IocStatus.SCSI_DEVICE_NOT_THERE)
        elif (manager := MANAGERS.get(request.task_type)) is None:
            self._managed(request, IocStatus.INVALID_FIELD, response=RESPONSE_NOT_SUPPORTED)
        else:
            manager(self, request)

    def _abort_task(self, request: TaskManagement) -> None:
        tasks = [task for task in self._addressed(request) if context_of(task) == request.task_context]
        self._after(request, tasks)
        self.bus.abort(tasks)

    def _abort_set(self, request: TaskManagement) -> None:
        tasks = self._addressed(request)
        self._after(request, tasks)
        self.bus.abort(tasks)

    def _reset_bus(self, request: TaskManagement) -> None:
        self._after(request, self.bus.reset(Reset.BUS))

    def _reset_target(self, request: TaskManagement) -> None:
        self._after(request, self.bus.reset(Reset.TARGET, request.target))

    def _reset_lun(self, request: TaskManagement) -> None:
        if lun_of(request.lun):
            self._abort_set(request)
        else:
            self._after(request, self.bus.reset(Reset.LUN, request.target))

    def _query(self, request: TaskManagement) -> None:
        found = any(context_of(task) == request.task_context for task in self._addressed(request))
        self._managed(request, response=RESPONSE_SUCCEEDED if found else RESPONSE_COMPLETE)

    def _clear_aca(self, request: TaskManagement) -> None:
        """There is never one."""
        self._managed(request)

    def _addressed(self, request: TaskManagement) -> list[Task]:
        return self.bus.matching(request.target, lun_of(request.lun))

    def _after(self, request: TaskManagement, tasks: list[Task]) -> None:
        count = len(tasks)
        self.bus.when_over(tasks, lambda: self._managed(request, count=count))

    def _managed(
        self, request: TaskManagement, status: IocStatus = IocStatus.SUCCESS, *, count: int = 0,
        response: int = RESPONSE_COMPLETE,
    ) -> None:  # fmt: skip
        reply = TaskManagementReply(
            target=request.target, bus=request.bus, length=sizeof(TaskManagementReply) // 4,
            function=Function.SCSI_TASK_MGMT, response_code=response, task_type=request.task_type,
            flags=request.flags, context=request.context, ioc_status=status, termination_count=count,
        )  # fmt: skip
        self.replies.post_reply(bytes(reply))


MANAGERS: dict[int, Callable[[Initiator, TaskManagement], None]] = {
    TaskType.ABORT_TASK:     Initiator._abort_task,
    TaskType.ABORT_TASK_SET: Initiator._abort_set,
    TaskType.TARGET_RESET:   Initiator._reset_target,
    TaskType.RESET_BUS:      Initiator._reset_bus,
    TaskType.LUN_RESET:      Initiator._reset_lun,
    TaskType.CLEAR_TASK_SET: Initiator._abort_set,
    TaskType.QUERY_TASK:     Initiator._query,
    TaskType.CLEAR_ACA:      Initiator._clear_aca,
}  # fmt: skip


def context_of(task: Task) -> int:
    assert isinstance(task.note, Note)
    return int(task.note.request.context)


def lun_of(address: object) -> int:
    """Single-level addressing of the first 256; whatever else is no unit of these targets. [SAM-2, LUN addressing]"""
    lun = bytes(address)  # type: ignore[call-overload]
    if lun == LUN_0:
        return 0
    return lun[1] if lun[0] == 0 and not any(lun[2:]) else NO_SUCH_LUN
