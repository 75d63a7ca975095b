"""Takes a snapshot of a machine that runs, which stands still for that moment.

Its disks are flushed, its memory is saved if that is asked for, each disk gets a new youngest link; then it goes on.
What can fail comes before the .vmx file names the new links, and after that nothing does: the machine writes to what
the file names. The old links can be read by others from then on.
Return to one while it runs: snapshot_return.py; deleting one: snapshot_consolidate.py.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from ringfence.errors import BadInput, BadOption, RingfenceError
from vmkernel.storage.chain import Chain
from vmkernel.storage.redo.child import make_child
from vmkernel.storage.vmdk.link import Link, open_link
from vmx.live_disks import live_chains
from vmx.machine import Machine
from vmx.machine_actions import TakenSnapshot
from vmx.snapshot_disks import machine_disks
from vmx.snapshot_files import MachineFiles
from vmx.snapshot_state import state_group, write_state
from vmx.snapshots import Taking, give_up
from vmx.suspend import suspend, unfinished

US_PER_S = 1_000_000


class LiveTaking:
    """`begin` and `finish` while the machine runs; `freeze` in between, with the machine at rest and its lock held."""

    def __init__(self, machine: Machine, files: MachineFiles, name: str, description: str, *, memory: bool) -> None:
        """Raises BadOption and BadInput."""
        self.machine, self.files, self.memory = machine, files, memory
        files.tidy(running=True)
        now_us = int(time.time() * US_PER_S)
        self.taking = Taking(files, name, description, now_us, with_memory=memory)
        self.chains = live_chains(machine)
        self.stun_s = 0.0
        self.failure: RingfenceError | None = None
        self._check()

    def _check(self) -> None:
        vmx = self.files.vmx
        for disk in machine_disks(vmx):
            if self.memory and not disk.takes_part:
                said = f"{vmx.path}: {disk.node} is {disk.mode.value}: its contents would not go with the memory"
                raise BadOption(f"{said}: take a snapshot without memory")
        for node, (disk, _) in self.taking.children.items():
            if node not in self.chains or not disk.path.samefile(self.chains[node].links[-1].path):
                where = f"{vmx.where(disk.key)}: {disk.key}"
                raise BadInput(where, "disk of the running machine", disk.path.name, "another")

    def begin(self) -> None:
        self.files.to_remove([unfinished(self.taking.state)])
        self.taking.announce()

    def freeze(self) -> None:
        """What fails is kept for `finish`: the machine goes on."""
        started = time.monotonic()
        self.machine.stun()
        try:
            self._freeze()
        except RingfenceError as error:
            self.failure = error
        finally:
            self.machine.interrupts.resume()
            self.stun_s = time.monotonic() - started

    def _freeze(self) -> None:
        self.machine.board.scsi.settle()  # before a chain is held: what is under way needs it
        made: list[tuple[Chain, Link]] = []
        with ExitStack() as held, ExitStack() as failed:
            for node in self.taking.children:
                held.enter_context(self.chains[node].hold())
                self.chains[node].settle()
            self._save()
            for node, (_, path) in self.taking.children.items():
                make_child(path, self.chains[node])
                link = open_link(path, writable=True)
                failed.callback(link.abandon)
                made.append((self.chains[node], link))
            self.taking.plug()
            failed.pop_all()
            for chain, link in made:
                chain.push(link)

    def _save(self) -> None:
        taking = self.taking
        if self.memory:
            suspend(self.machine, taking.state, more=(state_group(taking.uid, taking.config),))
        else:
            write_state(taking.state, taking.uid, taking.config)

    def finish(self) -> TakenSnapshot:
        """Raises what `freeze` met."""
        if self.failure is not None:
            raise self.failure
        snapshot = self.taking.record()
        return TakenSnapshot(snapshot.uid, snapshot.name, self.memory, round(self.stun_s * 1000, 3))

    def give_up(self) -> None:
        """What was made goes; what the .vmx file names by then stays."""
        give_up(self.files, running=True)
