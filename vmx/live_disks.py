"""The disks of a machine that runs, as chains that can be closed and opened again under it.

The machine is at rest then, and nothing is under way: a disk's files can be changed between closing and opening, and
the guest finds a disk that shows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from ringfence.errors import HostRefused, RingfenceError
from vmkernel.storage.blocks import DiskBlocks
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.place import Place
from vmx.attachments import Attachments, Disk
from vmx.machine import Machine
from vmx.scsi_disk import ScsiDisk
from vmx.stop import STATUS_HOST_ERROR, StopKind, StopReason


def live_chains(machine: Machine) -> dict[str, Chain]:
    """The open chains of a machine's disks, by node."""
    ide = {
        f"ide{channel}:{unit}": drive.medium.disk
        for (channel, unit), drive in machine.attachments.drives.items()
        if isinstance(drive, Disk) and isinstance(drive.medium, DiskBlocks) and isinstance(drive.medium.disk, Chain)
    }
    return ide | machine.attachments.chains


def put_in(attached: Attachments, node: str, chain: Chain) -> None:
    """In the place of the chain that the machine had there, which is not closed."""
    drive = attached.nodes()[node]
    old: object = None
    if isinstance(drive, ScsiDisk):
        old, drive.backing.chain = drive.backing.chain, chain
    elif isinstance(drive, Disk) and isinstance(drive.medium, DiskBlocks):
        old, drive.medium.disk = drive.medium.disk, chain
    attached.owned[:] = [chain if thing is old else thing for thing in attached.owned]
    if node in attached.chains:
        attached.chains[node] = chain


@contextmanager
def quiet(machine: Machine, node: str) -> Iterator[Chain]:
    """The disk's chain, flushed, with nothing under way; the machine is at rest, and its lock is held."""
    machine.board.scsi.settle()
    flusher = machine.attachments.flusher
    with flusher.paused() if flusher is not None else nullcontext():
        chain = live_chains(machine)[node]
        chain.settle()
        yield chain


def open_unlocked(machine: Machine, node: str, prepare: Callable[[Chain], Place]) -> None:
    """Have the disk open without locks: others may change its parents, as long as it shows the same.

    `prepare` says by which link it is to be opened, and may make one over the chain. What it or the opening raises
    leaves the disk as it was.
    """
    with quiet(machine, node) as old:
        new = open_disk(prepare(old), writable=True, lock=False)
        put_in(machine.attachments, node, new)
        old.close()


def open_again(machine: Machine, node: str, change: Callable[[], Place]) -> None:
    """Close the disk, have its files changed, and open the link that `change` names, with locks.

    What `change` raises comes out when the disk is open again by its old name. If it cannot be, the machine ends.
    """
    with quiet(machine, node) as old:
        path, failure = old.links[-1].path, None
        old.close()
        try:
            path = change()
        except RingfenceError as error:
            failure = error
        try:
            put_in(machine.attachments, node, open_disk(path, writable=True))
        except RingfenceError as error:
            text = f"{node}: the disk cannot be opened again: {error}"
            machine.stop(StopReason(StopKind.FAILED, STATUS_HOST_ERROR, text))
            raise HostRefused(text) from error
    if failure is not None:
        raise failure
