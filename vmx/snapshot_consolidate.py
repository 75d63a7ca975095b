"""Folds redo logs of a machine that runs, after snapshots of it were deleted; it stands still at switch-overs only.

    base <- ... <- target <- top        top is written
    base <- ... <- target <- top <- helper      helper is written; top goes into target meanwhile
    base <- ... <- target <- helper             likewise, with another helper, until there is little in it
    base <- ... <- target               the last of it went in while the machine stood still

A link that has a child already needs no helper. While links are folded the machine has its disk open without locks on
them: what goes into the target is hidden from it by the link that it comes from. Links above the folded ones are locked
by guards. The order of changes is that of a machine that is off, so whoever finds them cut short goes on likewise.
Source: VMware, "Understanding iterative redolog consolidations"; VMware KB 1002836.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from ringfence.errors import HostRefused, RingfenceError
from vmkernel.storage.chain import Chain
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.place import Place
from vmkernel.storage.redo.child import child_path, files_made, make_child
from vmkernel.storage.vmdk.link import open_link
from vmx.live_disks import live_chains, open_again, open_unlocked
from vmx.machine import Machine
from vmx.snapshot_disks import redo_folder
from vmx.snapshot_files import MachineFiles

SMALL_BYTES = 8 << 20  # of a link: so much is folded while the machine stands still
HELPERS_MAX = 10  # a guest that writes faster than the host copies stands still for the rest
US_PER_MS = 1000
AtRest = Callable[[Callable[[], None]], None]


class LiveConsolidation:
    """Called without the machine's lock. `at_rest` runs something with the machine at rest, and comes back then.

    `is_over` says that the machine has ended: copying stops then, to be gone on with later. `stuns_ms` are the times
    for which the machine stood still.
    """

    def __init__(self, machine: Machine, files: MachineFiles, at_rest: AtRest, is_over: Callable[[], bool]) -> None:
        self._machine, self._files, self._run_at_rest, self._is_over = machine, files, at_rest, is_over
        self.stuns_ms: list[float] = []
        shown = files.progress

        def progress(link: str, done: int, total: int) -> None:
            if self._is_over():
                raise HostRefused("the machine ended before its links were folded: consolidate goes on")
            shown(link, done, total)

        files.progress = progress

    def run(self) -> None:
        """Fold all that is listed. Raises HostRefused, BadInput and MediaError; the machine runs on."""
        if self._machine.questions.is_open:
            raise HostRefused(f"snapshot: the machine waits for an answer: {self._machine.questions.text}")
        files = self._files
        for link in files.folded():
            self._finish(self._node_with(link), link)
        while (run := files.next_fold()) is not None:
            node = self._node_with(*run)
            if node is None:
                files.fold(run)
                files.finish(run[-1])
            else:
                self._fold_under(node, run)
        files.tidy(running=True)
        files.consolidated()

    def _node_with(self, *links: Place) -> str | None:
        """The running disk that these are links of. Raises HostRefused where there are several."""
        wanted = set(links)
        found = [node for node, chain in live_chains(self._machine).items() if wanted & names_of(chain)]
        if len(found) > 1:
            raise HostRefused(f"{links[0]}: a link of {' and '.join(found)}: it cannot be folded while they are used")
        return found[0] if found else None

    def _finish(self, node: str | None, link: Place) -> None:
        if node is None:
            self._files.finish(link)
        else:
            self._switch(node, lambda: self._files.finish(link))

    # one disk

    def _fold_under(self, node: str, run: list[Place]) -> None:
        """[target, ..., last]; the last one may be the link that is written."""
        target, top = run[0], self._top(node)
        if run[-1] != top:
            self._fold_frozen(node, run)
            return
        if len(run) > 2:
            self._fold_frozen(node, run[:-1])
        for _ in range(HELPERS_MAX):
            if self._bytes_in_top(node) <= SMALL_BYTES:
                break
            try:
                top = self._fold_with_helper(node, target, top)
            except Unsupported:  # as many links as there may be: without a helper, then
                break
        last = [target, top]

        def fold() -> None:
            self._files.fold(last)
            self._files.finish(last[-1])

        self._switch(node, fold)

    def _top(self, node: str) -> Place:
        return live_chains(self._machine)[node].links[-1].path.resolve()

    def _bytes_in_top(self, node: str) -> int:
        return sum(file.allocated() for file in live_chains(self._machine)[node].links[-1].files.values())

    def _fold_with_helper(self, node: str, target: Place, top: Place) -> Place:
        """The link that is written goes into the target, and another one is: that one."""
        files = self._files
        helper = child_path(top, redo_folder(files.vmx, top))
        files.to_remove(files_made(helper))
        files.to_fold([top])
        files.tree.write()

        def push(chain: Chain) -> Place:
            make_child(helper, chain)
            key = f"{node}.fileName"
            before = files.vmx.get(key)
            files.vmx.set(key, files.name(helper))
            try:
                files.vmx.write()
            except RingfenceError:
                files.vmx.set(key, before)
                raise
            return helper

        self._fold_frozen(node, [target, top], push)
        return helper

    def _fold_frozen(self, node: str, run: list[Place], push: Callable[[Chain], Place] | None = None) -> None:
        """Links that are not written, or by `push` not any more, while the machine runs."""
        machine = self._machine
        self._at_rest(lambda: open_unlocked(machine, node, push or (lambda chain: chain.links[-1].path)))
        guards = ExitStack()
        try:
            with guards:
                self._guard(guards, node, run[-1])
                self._files.fold(run)
        except BaseException:
            if not self._is_over():
                self._switch(node, lambda: None)
            raise
        self._switch(node, lambda: self._files.finish(run[-1]))

    def _guard(self, guards: ExitStack, node: str, last: Place) -> None:
        """Locks on the links above the folded ones, which the chain itself does not hold now."""
        links = live_chains(self._machine)[node].links
        above = [link.path for link in links]
        for path in above[[link.resolve() for link in above].index(last) + 1 :]:
            guard = open_link(path, writable=path == above[-1])
            guards.callback(guard.abandon)

    # standing still

    def _switch(self, node: str, change: Callable[[], None]) -> None:
        """Change the files of a disk while nobody uses it, and open it by what the .vmx file says then."""
        files = self._files

        def changed() -> Place:
            change()
            return files.path(files.vmx.get(f"{node}.fileName"))

        self._at_rest(lambda: open_again(self._machine, node, changed))

    def _at_rest(self, action: Callable[[], None]) -> None:
        """With guest time standing still. What `action` raises is raised here."""
        failures: list[BaseException] = []
        clock = self._machine.interrupts

        def act() -> None:
            started = time.monotonic()
            clock.stun()
            try:
                action()
            except RingfenceError as error:
                failures.append(error)
            finally:
                clock.resume()
                self.stuns_ms.append(round((time.monotonic() - started) * US_PER_MS, 3))

        self._run_at_rest(act)
        if failures:
            raise failures[0]


def names_of(chain: Chain) -> set[Place]:
    return {link.path.resolve() for link in chain.links}
