"""`ringfence disk snapshot`, `commit`, `revert`, `rebase`: what they print, refuse and leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.lab import SECTOR, contents, qemu_reads, scribble, written
from tools.disk import add_disk_verb
from tools.ringfence import OneLineParser
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create

SIZE = 640 * SECTOR


def disk(*words: str | Path) -> int:
    top = OneLineParser(prog="ringfence")
    add_disk_verb(top.add_subparsers(dest="verb", required=True))
    options = top.parse_args(["disk", *map(str, words)])
    status: int = options.action(options)
    return status


@pytest.fixture
def base(tmp_path: Path) -> tuple[Path, bytes]:
    return tmp_path / "vm.vmdk", written(tmp_path / "vm.vmdk", Kind.THIN, SIZE)


def change(path: Path, shown: bytes, seed: int) -> bytes:
    with open_disk(path, writable=True) as chain:
        return scribble(chain, seed, bytearray(shown), 5)


def test_snapshots_are_numbered_and_committed_at_once(
    base: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path, shown = base
    for number in (1, 2):
        newest = path if number == 1 else path.with_name("vm-000001.vmdk")
        assert disk("snapshot", newest) == 0
        child = path.with_name(f"vm-{number:06}.vmdk")
        assert capsys.readouterr().out == f"{child}\n"
        shown = change(child, shown, number)
    assert qemu_reads(child) == shown
    assert disk("commit", child, "--into", path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"disk": str(path)}
    assert contents(path) == shown and not list(path.parent.glob("vm-0*.vmdk"))


def test_a_child_has_the_name_that_it_is_given_and_is_emptied(base: tuple[Path, bytes], tmp_path: Path) -> None:
    path, shown = base
    (tmp_path / "elsewhere").mkdir()
    child = tmp_path / "elsewhere" / "clone.vmdk"
    disk("snapshot", path, child)
    assert change(child, shown, 3) != shown
    disk("revert", child)
    assert contents(child) == shown


def test_a_rebased_disk_shows_the_same(base: tuple[Path, bytes], tmp_path: Path) -> None:
    path, shown = base
    create(tmp_path / "other.vmdk", Kind.MONOLITHIC_SPARSE, SIZE)
    child = tmp_path / "clone.vmdk"
    disk("snapshot", path, child)
    shown = change(child, shown, 3)
    disk("rebase", child, "--parent", tmp_path / "other.vmdk")
    path.unlink()
    assert contents(child) == shown


def test_what_is_no_child_is_refused(base: tuple[Path, bytes]) -> None:
    path, _ = base
    for words, said in (
        (["commit", path], "expected a link with a parent"),
        (["revert", path], "expected a link with a descriptor and a parent"),
        (["rebase", path, "--parent", path], "expected a link with a parent"),
        (["snapshot", path.with_name("none.vmdk")], "none of this name"),
    ):
        with pytest.raises(RingfenceError, match=said):
            disk(*words)
