"""Snapshot dictionaries: read, changed and written back, with nothing lost; what cannot be true is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ringfence.errors import BadInput, RingfenceError
from vmx.vmsd import Snapshot, SnapshotDisk, SnapshotTree

# As ESX Server writes one, with a key that nobody here knows and one of another product's.
TEXT = """\
.encoding = "UTF-8"
snapshot.lastUID = "3"
snapshot.numSnapshots = "3"
snapshot.current = "2"
snapshot.mru0.uid = "3"
snapshot.mru1.uid = "2"
snapshot0.uid = "1"
snapshot0.filename = "web-Snapshot1.vmsn"
snapshot0.displayName = "fresh |22install|22"
snapshot0.description = "one|0Atwo"
snapshot0.createTimeHigh = "388745"
snapshot0.createTimeLow = "1991180826"
snapshot0.numDisks = "1"
snapshot0.disk0.fileName = "web.vmdk"
snapshot0.disk0.node = "scsi0:0"
snapshot.strange = "kept"
snapshot1.uid = "2"
snapshot1.filename = "web-Snapshot2.vmsn"
snapshot1.parent = "1"
snapshot1.displayName = "patched"
snapshot1.description = ""
snapshot1.type = "1"
snapshot1.createTimeHigh = "388745"
snapshot1.createTimeLow = "-5"
snapshot1.numDisks = "1"
snapshot1.disk0.fileName = "web-000001.vmdk"
snapshot1.disk0.node = "scsi0:0"
snapshot2.uid = "3"
snapshot2.filename = "web-Snapshot3.vmsn"
snapshot2.parent = "1"
snapshot2.displayName = "branch"
snapshot2.description = ""
snapshot2.createTimeHigh = "388745"
snapshot2.createTimeLow = "7"
snapshot2.numDisks = "0"
snapshot2.clone0 = "/vm/clone.vmx"
"""


def dictionary(tmp_path: Path, text: str = TEXT) -> Path:
    path = tmp_path / "web.vmsd"
    path.write_text(text)
    return path


def test_what_is_not_changed_keeps_its_bytes(tmp_path: Path) -> None:
    path = dictionary(tmp_path)
    SnapshotTree.read(path).write()
    assert path.read_text() == TEXT


def test_a_tree_is_read(tmp_path: Path) -> None:
    tree = SnapshotTree.read(dictionary(tmp_path))
    assert tree.snapshots[0] == Snapshot(
        1, "web-Snapshot1.vmsn", 0, 'fresh "install"', "one\ntwo", 1669649052664346,
        (SnapshotDisk("web.vmdk", "scsi0:0"),),
    )  # fmt: skip
    assert tree.snapshots[1].created_us == (388745 << 32) + (1 << 32) - 5
    assert tree.snapshots[1].others == (("type", "1"),)
    assert (tree.current, tree.last_uid, tree.depth(3)) == (2, 3, 2)
    assert [child.uid for child in tree.children(1)] == [2, 3] and tree.descendants(1) == [1, 2, 3]


def test_one_that_goes_takes_its_keys_and_others_theirs_along(tmp_path: Path) -> None:
    path = dictionary(tmp_path)
    tree = SnapshotTree.read(path)
    tree.remove(2)
    tree.write()
    text = path.read_text()
    assert tree.current == 1
    for line in (
        'snapshot.numSnapshots = "2"', 'snapshot.current = "1"', 'snapshot.mru0.uid = "3"', 'snapshot1.uid = "3"',
        'snapshot1.clone0 = "/vm/clone.vmx"', 'snapshot.strange = "kept"', 'snapshot0.description = "one|0Atwo"',
    ):  # fmt: skip
        assert line + "\n" in text
    for gone in ("snapshot2", "mru1", "snapshot1.type", "snapshot1.disk0", "patched"):
        assert gone not in text
    again = SnapshotTree.read(path)
    assert again.snapshots == tree.snapshots and again.last_uid == 3


def test_a_time_before_1970_and_one_in_the_far_future_come_back(tmp_path: Path) -> None:
    path = dictionary(tmp_path, "")
    for number, time_us in enumerate((-1, 0, (1 << 32) - 1, 1 << 32, (1 << 62) + 12345), 1):
        tree = SnapshotTree.read(path)
        tree.add(Snapshot(number, "x.vmsn", created_us=time_us))
        tree.write()
        assert SnapshotTree.read(path).get(number).created_us == time_us


def test_what_is_unfinished_is_kept_and_forgotten(tmp_path: Path) -> None:
    path = dictionary(tmp_path)
    tree = SnapshotTree.read(path)
    left = tree.unfinished
    left.fold, left.remove, left.revert, left.revert_to = ["a.vmdk"], ["b", "c"], 3, ["d"]
    tree.write()
    again = SnapshotTree.read(path)
    assert again.unfinished == left
    again.unfinished = SnapshotTree.read(dictionary(tmp_path / ".." / tmp_path.name)).unfinished
    again.write()
    assert path.read_text() == TEXT


@pytest.mark.parametrize("text", ["", "\n\n", None])
def test_a_machine_without_snapshots_has_an_empty_file_or_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "web.vmsd"
    if text is not None:
        path.write_text(text)
    assert SnapshotTree.read(path).snapshots == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('snapshot1.uid = "2"', 'snapshot1.uid = "1"', "expected each uid once, found 1, 1, 3"),
        ('snapshot1.uid = "2"', 'snapshot1.uid = "x"', r"web\.vmsd:17: snapshot1\.uid: expected a number"),
        ('snapshot1.uid = "2"', "", r"snapshot1\.uid, found none"),
        ('snapshot1.parent = "1"', 'snapshot1.parent = "9"', "expected a parent of snapshot 2, found 9"),
        ('snapshot1.parent = "1"', 'snapshot1.parent = "2"', "snapshot 2 is its own ancestor"),
        ('numSnapshots = "3"', 'numSnapshots = "99999"', r"numSnapshots: expected a number up to 1024"),
        ('current = "2"', 'current = "9"', "expected a snapshot as the current one, found 9"),
        ('createTimeLow = "7"', 'createTimeLow = "7.5"', r"createTimeLow: expected a number of 32 bits"),
        ('numDisks = "0"', 'numDisks = "4000000000"', r"numDisks: expected a number up to 64"),
    ],
)
def test_what_cannot_be_true_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        SnapshotTree.read(dictionary(tmp_path, TEXT.replace(old, new, 1)))


def test_damaged_dictionaries_are_read_or_refused(tmp_path: Path) -> None:
    chance = random.Random(3)
    path = tmp_path / "web.vmsd"
    for _ in range(400):
        data = bytearray(TEXT.encode())
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice(b'"=.09a|\n\x00\xff-')
        path.write_bytes(data)
        try:
            tree = SnapshotTree.read(path)
            tree.write()
            assert SnapshotTree.read(path).snapshots == tree.snapshots
        except RingfenceError:
            continue
