"""A SCSI target with one logical unit: takes commands from an adapter, queues them, moves their data, ends each once.

What the guest can see is in the logical unit's state; commands on their way are not saved, they are waited for. With
autosense, sense data goes with the status; without, the unit keeps it until REQUEST SENSE or the next command.
Commands to other LUNs are answered here. Not modelled: linked commands, ACA, several initiators of one machine.
Source: SAM-2 and SPC-3 (T10 1157D, 1416D), cited as [sam] and [spc].
"""

from __future__ import annotations

from hw.scsi.backing import OutOfSpace
from hw.scsi.scsi_spec import (
    BUS_RESET,
    DEVICE_RESET,
    LUN_NOT_SUPPORTED,
    NO_DEVICE_AT_LUN,
    WRITE_ERROR,
    Direction,
    Op,
    Reset,
    Status,
)
from hw.scsi.sense import sense_data
from hw.scsi.task_set import Task, TaskSet
from hw.scsi.wiring import (
    CheckCondition,
    Command,
    Completion,
    Conflict,
    DataIn,
    LogicalUnit,
    Moved,
    Operator,
    Work,
    Workers,
)

ATTENTIONS = {Reset.BUS: BUS_RESET, Reset.TARGET: DEVICE_RESET, Reset.LUN: DEVICE_RESET}


class Target:
    """`begin`, `move_at_once`, `abort`, `abort_all` and `was_reset` are the adapter's, all under the machine's lock."""

    def __init__(self, unit: LogicalUnit, workers: Workers, operator: Operator) -> None:
        self.unit, self.workers, self.operator = unit, workers, operator
        self._tasks = TaskSet()
        self._advancing = False

    def reset(self) -> None:
        """Power-on."""
        self.abort_all()
        self.unit.reset()

    def sync(self) -> None:
        self.unit.sync()

    @property
    def in_flight(self) -> int:
        """Commands begun and not ended."""
        return len(self._tasks)

    # from the adapter

    def begin(self, command: Command) -> None:
        """Accept a command. Its `done` is called in here, or later. [sam: task set]"""
        operation = command.cdb[0] if command.cdb else 0
        if command.lun:
            self._answer_for_no_unit(command, operation)
            return
        if operation != Op.REQUEST_SENSE:
            self.unit.take_sense()
        if not self._tasks.add(Task(command)):
            self._end(command, Status.TASK_SET_FULL)
            return
        self._advance()

    def move_at_once(self, cdb: bytes, views: list[memoryview], length: int, *, writes: bool) -> bool | None:
        """What `begin` would do with a simple command for LUN 0, and end with GOOD, in fewer steps.

        None: it is for `begin`, as with others under way, among which it has its place. False: likewise, but `begin`
        need not try it at once.
        """
        tasks = self._tasks
        return None if tasks.active or tasks.waiting else self.unit.move_at_once(cdb, views, length, writes=writes)

    def abort(self, command: Command) -> bool:
        """End a command as aborted: now, or when its work has left the buffer alone. False: it has ended already."""
        task = self._tasks.find(command)
        if task is None:
            return False
        self._abort(task)
        self._advance()
        return True

    def abort_all(self) -> int:
        """ABORT TASK SET and CLEAR TASK SET; how many there were."""
        tasks = [*self._tasks.waiting, *self._tasks.active]
        for task in tasks:
            self._abort(task)
        return len(tasks)

    def was_reset(self, kind: Reset) -> int:
        """The bus, the target or the unit was reset; how many commands that ended. [sam: hard reset]"""
        count = self.abort_all()
        self.unit.was_reset(ATTENTIONS[kind])
        return count

    # inside

    def _answer_for_no_unit(self, command: Command, operation: int) -> None:
        """[spc: logical unit not supported]"""
        cdb = command.cdb.ljust(6, b"\0")
        if operation == Op.INQUIRY:
            self._deliver(command, NO_DEVICE_AT_LUN[: int.from_bytes(cdb[3:5], "big")])
        elif operation == Op.REQUEST_SENSE:
            self._deliver(command, sense_data(LUN_NOT_SUPPORTED)[: cdb[4]])
        else:
            sense = sense_data(LUN_NOT_SUPPORTED) if command.autosense else b""
            self._end(command, Status.CHECK_CONDITION, sense=sense)

    def _advance(self) -> None:
        """Execute and start whatever may go on. Not entered again by what ends meanwhile: the loop sees that."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while True:
                if (task := self._tasks.take_next()) is not None:
                    self._execute(task)
                elif (task := self._tasks.next_work()) is not None:
                    self._start(task)
                else:
                    return
        finally:
            self._advancing = False

    def _execute(self, task: Task) -> None:
        command = task.command
        outcome = self.unit.execute(command)
        if isinstance(outcome, Work):
            task.work = outcome
            self._tasks.active.append(task)
        elif isinstance(outcome, DataIn):
            self._deliver(command, outcome.data)
        elif isinstance(outcome, CheckCondition):
            self._end_with_sense(command)
        elif isinstance(outcome, Conflict):
            self._end(command, Status.RESERVATION_CONFLICT)
        else:
            self._end(command, Status.GOOD, outcome.taken)

    def _start(self, task: Task) -> None:
        work = task.work
        assert work is not None
        if work.at_once is not None and (moved := work.at_once()) is not None:
            self._finish(task, work, moved)
            return
        task.working = True

        def run() -> Moved | OutOfSpace:
            try:
                return work.run()
            except OutOfSpace as error:
                return error

        self.workers.submit(run, lambda result: self._worked(task, work, result))

    def _worked(self, task: Task, work: Work, result: Moved | OutOfSpace) -> None:
        task.working = False
        if task.command.aborted:
            self._finish_aborted(task)
        elif isinstance(result, OutOfSpace):
            task.held = True
            self.operator.out_of_space(result, lambda again: self._answered(task, work, again))
        else:
            self._finish(task, work, result)
        self._advance()

    def _answered(self, task: Task, work: Work, again: bool) -> None:
        """The person's answer. It comes too late for a command that was aborted meanwhile."""
        if not task.held:
            return
        task.held = False
        if not again:
            self._finish(task, work, Moved(0, CheckCondition(WRITE_ERROR, work.first)))
        self._advance()

    def _finish(self, task: Task, work: Work, moved: Moved) -> None:
        self._tasks.remove(task)
        if moved.check is not None:
            self.unit.failed(moved.check)
            self._end_with_sense(task.command, moved.count)
        else:
            self._end(task.command, Status.GOOD, moved.count, overrun=max(work.wanted - moved.count, 0))

    def _abort(self, task: Task) -> None:
        task.command.aborted = True
        if not task.working:
            self._finish_aborted(task)

    def _finish_aborted(self, task: Task) -> None:
        task.held = False
        if self._tasks.remove(task):
            self._end(task.command, Status.TASK_ABORTED)

    def _deliver(self, command: Command, data: bytes) -> None:
        """GOOD, with as much of the data as the buffer takes."""
        at = 0
        for view in command.room(Direction.IN):
            piece = data[at : at + len(view)]
            view[: len(piece)] = piece
            at += len(piece)
        self._end(command, Status.GOOD, at, overrun=len(data) - at)

    def _end_with_sense(self, command: Command, moved: int = 0) -> None:
        sense = self.unit.take_sense() if command.autosense else b""
        self._end(command, Status.CHECK_CONDITION, moved, sense=sense)

    @staticmethod
    def _end(command: Command, status: Status, moved: int = 0, *, sense: bytes = b"", overrun: int = 0) -> None:
        command.done(Completion(status, sense, max(command.length - moved, 0), overrun))
