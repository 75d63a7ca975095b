"""A return to a snapshot by a machine that runs: it is switched off, and goes on from the snapshot's memory, if any.

What can fail is done while the machine runs: the snapshot is looked at, and the disks get their new links. Then the
machine ends, without asking anybody, and what was done since the snapshot is lost. Whoever asked for the return waits
until the machine runs again, or is off.
Not kept: connections to the host's ends of its cables, which are opened anew.
Source: VMware, Basic System Administration (ESX Server 3), "Restoring Snapshots".
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ringfence.errors import HostRefused, RingfenceError
from vmx.machine_actions import Returned
from vmx.power import PowerState
from vmx.snapshot_files import MachineFiles
from vmx.snapshots import Reverting, give_up

LOOK_S = 0.1


class LiveReturn:
    """`begin` and `wait` are called by whoever asks, the rest by the thread that runs the machine."""

    def __init__(self, files: MachineFiles, uid: int) -> None:
        """Make ready, while the machine runs. Raises BadOption, BadInput and HostRefused; it runs on then."""
        files.tidy(running=True)
        self.uid = uid
        self._reverting = Reverting(files, uid)
        try:
            self._reverting.prepare()
        except RingfenceError:
            give_up(files, running=True)
            raise
        self._over = threading.Event()
        self._state = PowerState.OFF
        self._failure: RingfenceError | None = None

    @property
    def resumes(self) -> bool:
        return self._reverting.has_memory

    @property
    def notes(self) -> list[str]:
        return self._reverting.notes

    def carry_out(self) -> None:
        """The machine is switched off, and its disks are closed. Raises HostRefused and BadInput."""
        self._reverting.carry_out()

    def over(self, state: PowerState, failure: RingfenceError | None = None) -> None:
        """Whoever waits need not any more; what comes first counts."""
        if not self._over.is_set():
            self._state, self._failure = state, failure
            self._over.set()

    def wait(self, is_lost: Callable[[], bool]) -> Returned:
        """How it ended. Raises what went wrong, and HostRefused when the process is about to end without it."""
        while not self._over.wait(LOOK_S):
            if is_lost():
                raise HostRefused("the machine ended before that")
        if self._failure is not None:
            raise self._failure
        return Returned(self.uid, self._state, tuple(self.notes))
