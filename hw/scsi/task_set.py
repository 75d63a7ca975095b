"""The commands that a target has accepted and not yet ended, and which of them may go on.

A command waits, is executed, and, if the medium has a part in it, works. Head-of-queue commands wait for nobody;
ordered ones for all before them; simple ones for ordered and head-of-queue ones before them. An untagged command among
tagged ones counts as ordered. Work on common blocks, of which some is a write, is done in the order of execution.
Source: SAM-2, task attributes.
"""

from __future__ import annotations

from hw.scsi.scsi_spec import Tag
from hw.scsi.wiring import Command, Work

TASKS_MAX = 256
ALONE = (Tag.ORDERED, Tag.UNTAGGED)  # nothing before them, nothing simple beside them


class Task:
    """One command on its way."""

    __slots__ = ("command", "held", "work", "working")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.work: Work | None = None
        self.working = False  # on a worker's thread
        self.held = False  # until someone has made room


def clash(one: Work, other: Work) -> bool:
    """Have they a block in common that one of them writes?"""
    apart = one.first >= other.first + other.count or other.first >= one.first + one.count
    return not apart and (one.writes or other.writes)


class TaskSet:
    """`waiting` in the order in which they will be executed, `active` in the order in which they were."""

    def __init__(self) -> None:
        self.waiting: list[Task] = []
        self.active: list[Task] = []

    def __len__(self) -> int:
        return len(self.waiting) + len(self.active)

    def add(self, task: Task) -> bool:
        """False: the set is full."""
        if len(self) >= TASKS_MAX:
            return False
        if task.command.tag == Tag.HEAD:
            self.waiting.insert(0, task)
        else:
            self.waiting.append(task)
        return True

    def take_next(self) -> Task | None:
        """The next command to execute, if it need not wait; it is in neither list then."""
        if not self.waiting or not self._may_execute(self.waiting[0].command.tag):
            return None
        return self.waiting.pop(0)

    def _may_execute(self, tag: Tag) -> bool:
        if tag == Tag.HEAD:
            return True
        if tag in ALONE:
            return not self.active
        return all(task.command.tag == Tag.SIMPLE for task in self.active)

    def next_work(self) -> Task | None:
        """The first active task that is not being worked on, could be, and clashes with none before it."""
        for index, task in enumerate(self.active):
            if task.working or task.held or task.work is None:
                continue
            if not any(before.work is not None and clash(task.work, before.work) for before in self.active[:index]):
                return task
        return None

    def find(self, command: Command) -> Task | None:
        return next((task for task in [*self.waiting, *self.active] if task.command is command), None)

    def remove(self, task: Task) -> bool:
        """Was it still here?"""
        for tasks in (self.waiting, self.active):
            if task in tasks:
                tasks.remove(task)
                return True
        return False
