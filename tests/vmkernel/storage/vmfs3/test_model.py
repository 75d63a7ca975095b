"""Random operations on a volume beside a plain dictionary; after each sequence everybody finds the volume right."""

from __future__ import annotations

import posixpath
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.hosts import MIB, ONE_EXTENT, make, opened
from tests.vmkernel.storage.vmfs3.test_names import CLEAN
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.errors import VolumeFull
from vmkernel.storage.vmfs3.geometry import Counts
from vmkernel.storage.vmfs3.growing import Provision
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.writable import WritableVolume

NAMES = ("a", "b", "Ünï", "long name with blanks")
SIZES = (0, 1, 700, 65536, 65537, MIB, MIB + 1, 2 * MIB + 5)
COUNTS = Counts(fds=64, pbs=2, sbs=12, fds_per_cluster=32)
Node = bytearray | str | None  # a file, a link, a directory


class Model:
    """The dictionary, and the volume beside it. Every method does one thing to both."""

    def __init__(self, folder: Path) -> None:
        self.paths = make(folder, ONE_EXTENT, counts=COUNTS)
        self.volume: WritableVolume = opened(self.paths)
        self.nodes: dict[str, Node] = {"/": None}

    # what must be

    def is_there(self, path: str) -> bool:
        return path in self.nodes

    def is_folder(self, path: str) -> bool:
        return path in self.nodes and self.nodes[path] is None

    def below(self, path: str) -> list[str]:
        return [name for name in self.nodes if name != path and name.startswith(path.rstrip("/") + "/")]

    def attempt(self, good: bool, act) -> bool:  # type: ignore[no-untyped-def]
        """It works exactly when it should; a full volume may refuse what should."""
        try:
            act()
        except VolumeFull:
            return False
        except RingfenceError as error:
            assert not good, error
            return False
        assert good
        return True

    # what is done

    def make(self, path: str, kind: str) -> None:
        good = self.is_folder(posixpath.dirname(path)) and not self.is_there(path)
        act = {
            "file": lambda: self.volume.create(path), "folder": lambda: self.volume.mkdir(path),
            "link": lambda: self.volume.symlink("nowhere", path),
        }[kind]  # fmt: skip
        if self.attempt(good, act):
            self.nodes[path] = {"file": bytearray(), "folder": None, "link": "nowhere"}[kind]

    def remove(self, path: str) -> None:
        folder = self.is_folder(path)
        good = self.is_there(path) and path != "/" and not (folder and self.below(path))
        if self.attempt(good, lambda: (self.volume.rmdir if folder else self.volume.remove)(path)):
            del self.nodes[path]

    def rename(self, old: str, new: str) -> None:
        good = self.is_there(old) and self.is_folder(posixpath.dirname(new)) and new != "/" and old != "/"
        if good and self.is_there(new) and old != new:
            good = self.is_folder(old) == self.is_folder(new) and not self.below(new)
        if self.is_folder(old) and new.startswith(old + "/"):
            good = False
        if self.attempt(good, lambda: self.volume.rename(old, new)) and old != new:
            self.nodes.pop(new, None)
            for path in [old, *self.below(old)]:
                self.nodes[new + path[len(old) :]] = self.nodes.pop(path)

    def write(self, path: str, offset: int, data: bytes) -> None:
        node = self.nodes.get(path)
        if not isinstance(node, bytearray):
            return
        with self.volume.open_for_write(path) as file:
            if self.attempt(True, lambda: file.write(offset, [data])):
                if not data:
                    return
                node.extend(bytes(max(offset + len(data) - len(node), 0)))
                node[offset : offset + len(data)] = data
            else:
                del node[file.size :]
                node[:] = file.bytes_at(0, file.size)  # cut at a block

    def truncate(self, path: str, size: int, kind: Provision) -> None:
        node = self.nodes.get(path)
        if not isinstance(node, bytearray):
            return
        with self.volume.open_for_write(path) as file:
            if self.attempt(True, lambda: file.truncate(size)):
                node.extend(bytes(max(size - len(node), 0)))
                del node[size:]
                self.attempt(True, lambda: file.reserve(size, kind))

    def again(self) -> None:
        """Closed and opened."""
        self.volume.close()
        self.volume = opened(self.paths)

    # judging

    def judge(self, volume: Volume) -> None:
        found: dict[str, Node] = {"/": None}
        todo = [("", volume.root)]
        while todo:
            above, folder = todo.pop()
            for entry in volume.entries(folder):
                fd = volume.descriptor(entry.address)
                path = f"{above}/{entry.name}"
                if fd.is_directory:
                    found[path] = None
                    todo.append((path, fd))
                elif fd.is_symlink:
                    found[path] = volume.readlink(fd)
                elif above or not entry.name.endswith(".sf"):
                    file = volume.open_file(fd)
                    found[path] = bytearray(file.bytes_at(0, file.size))
        assert sorted(found) == sorted(self.nodes)
        assert found == self.nodes

    def judge_all(self, *, with_peers: bool) -> None:
        self.judge(self.volume)
        self.volume.close()
        assert check(self.paths) == []
        with Volume.open(self.paths) as volume:
            self.judge(volume)
            tbz = sum(volume.lookup(path).tbz for path, node in self.nodes.items() if isinstance(node, bytearray))
        if with_peers:
            assert peers.fsck(self.paths) == {**CLEAN, "Lost blocks": tbz}
            with peers.dissected(self.paths, 128 * 512) as seen:
                for path, node in self.nodes.items():
                    if isinstance(node, bytearray) and node:
                        assert peers.dissect_reads(seen, path) == node
                        assert peers.debugvmfs(self.paths, "cat", path) == node


paths = some.lists(some.sampled_from(NAMES), min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
sizes = some.sampled_from(SIZES)


class Operations(RuleBasedStateMachine):
    """Up to 50 of them."""

    with_peers = True

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.model = Model(Path(self.folder.name))

    @rule(path=paths, kind=some.sampled_from(("file", "file", "folder", "folder", "link")))
    def make(self, path: str, kind: str) -> None:
        self.model.make(path, kind)

    @rule(path=paths)
    def remove(self, path: str) -> None:
        self.model.remove(path)

    @rule(old=paths, new=paths)
    def rename(self, old: str, new: str) -> None:
        self.model.rename(old, new)

    @rule(path=paths, offset=sizes, length=sizes, seed=some.integers(0, 255))
    def write(self, path: str, offset: int, length: int, seed: int) -> None:
        self.model.write(path, offset, bytes([seed]) * length)

    @rule(path=paths, size=sizes, kind=some.sampled_from([kind for kind in Provision if kind is not Provision.THICK]))
    def truncate(self, path: str, size: int, kind: Provision) -> None:
        self.model.truncate(path, size, kind)

    @rule(what=some.sampled_from(("sync", "settle", "again")))
    def durability(self, what: str) -> None:
        if what == "again":
            self.model.again()
        else:
            getattr(self.model.volume, what)()

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.model.judge_all(with_peers=self.with_peers)
            self.folder.cleanup()


def test_random_operations_are_those_of_a_dictionary() -> None:
    run_state_machine_as_test(
        Operations,
        settings=settings(
            max_examples=25, stateful_step_count=50, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate],
        ),
    )  # fmt: skip


@pytest.mark.long
def test_a_hundred_thousand_random_operations(tmp_path: Path) -> None:
    chance = random.Random(1)

    def path() -> str:
        return "/" + "/".join(chance.choice(NAMES) for _ in range(chance.choice((1, 2, 2, 3))))

    model = Model(tmp_path)
    kinds = [kind for kind in Provision if kind is not Provision.THICK]
    for number in range(100_000):
        which = chance.random()
        if which < 0.35:
            model.make(path(), chance.choice(("file", "folder", "link")))
        elif which < 0.55:
            model.remove(path())
        elif which < 0.7:
            model.rename(path(), path())
        elif which < 0.85:
            model.write(path(), chance.choice(SIZES), bytes([number & 0xFF]) * chance.choice(SIZES))
        elif which < 0.95:
            model.truncate(path(), chance.choice(SIZES), chance.choice(kinds))
        else:
            model.volume.settle()
        if number % 5000 == 4999:
            model.judge_all(with_peers=True)
            model.volume = opened(model.paths)
    model.judge_all(with_peers=True)
