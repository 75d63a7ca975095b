"""The measures of reading VMFS: every contender reads the same bytes and lists the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.plan import QUICK, Plan
from bench.transcript import RunFailed
from bench.vmfs import BIG, MANY, MIB, OURS, PREAD, Scene, find_tools, make, read_by
from bench.vmfs_reader import CHECKED, list_all, listing, read_all


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    made = Scene(tmp_path_factory.mktemp("vmfs"), CHECKED, 20, {}, has_dissect=False)
    make(made)
    return made


def test_the_large_file_is_half_holes_and_the_same_for_all(scene: Scene) -> None:
    assert scene.bare.stat().st_size == CHECKED * MIB
    assert scene.bare.stat().st_blocks * 512 == CHECKED * MIB // 2
    checksum = read_all(PREAD, str(scene.bare), BIG)[1]
    assert read_all(OURS, str(scene.image), BIG)[1] == checksum


def test_a_listing_is_the_same_for_all(scene: Scene) -> None:
    pytest.importorskip("dissect.vmfs")
    facts = listing(OURS, str(scene.image), MANY)
    assert [name for name, *_ in facts] == [f"file-{number:05}" for number in range(20)]
    assert list_all("dissect", str(scene.image), MANY)[1] == list_all(OURS, str(scene.image), MANY)[1]


def test_a_reader_is_a_program_of_its_own(scene: Scene) -> None:
    seconds, checksum = read_by(scene, OURS, "read")
    assert seconds > 0 and checksum == read_by(scene, PREAD, "read")[1]
    with pytest.raises(RunFailed):
        read_by(Scene(Path("/no/such"), 1, 1, {}, has_dissect=False), OURS, "list")


def test_a_tool_that_is_not_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(None, None, QUICK, lambda text: None)  # type: ignore[arg-type]  # no guest takes part
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert find_tools(plan) == {}
    assert len(plan.notes) == 2
