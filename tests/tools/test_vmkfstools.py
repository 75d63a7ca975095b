"""`vmkfstools`: ESX 3's options on files, and what it says."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, put, qemu_img
from tools.vmkfstools import CLONE_FORMATS, FORMATS, main
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import create_child


def vmkfstools(*words: str | Path, status: int = 0) -> str:
    """What it printed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        found = main([str(word) for word in words])
    assert found == status, err.getvalue()
    assert err.getvalue().count("\n") == (1 if status else 0)
    return err.getvalue() if status else out.getvalue()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.vmdk"
    vmkfstools("-c", "2m", path, "-d", "thin")
    with open_disk(path, writable=True) as one:
        put(one, 5, data(1, 300))
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_a_new_disk(tmp_path: Path, form: str) -> None:
    said = vmkfstools("-c", "3M", "-d", form, "-a", "buslogic", tmp_path / "disk.vmdk")
    assert said.splitlines()[-1] == "Create: 100% done."
    assert ("zeroing it out" in said) == (form == "eagerzeroedthick")
    info = json.loads(qemu_img("info", "--output=json", tmp_path / "disk.vmdk"))
    assert info["virtual-size"] == 3 * MIB and info["format-specific"]["data"]["create-type"] == "vmfs"
    text = (tmp_path / "disk.vmdk").read_text()
    assert 'ddb.adapterType = "buslogic"' in text and ("thinProvisioned" in text) == (form == "thin")


@pytest.mark.parametrize("form", CLONE_FORMATS)
def test_a_clone_is_the_whole_chain(tmp_path: Path, disk: Path, form: str) -> None:
    child, copy = tmp_path / "disk-000001.vmdk", tmp_path / "copy.vmdk"
    create_child(child, disk)
    with open_disk(child, writable=True) as one:
        put(one, 100, data(2, 8))
    said = vmkfstools("-i", child, copy, "-d", form).splitlines()
    assert said[0].startswith("Destination disk format: ")
    assert said[1:] == [f"Cloning disk '{child}'...", "Clone: 100% done."]
    (tmp_path / "raw").write_bytes(contents(child))
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "vmdk", tmp_path / "raw", copy)


def test_a_clone_onto_a_device(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "device").write_bytes(b"x" * 3 * MIB)
    vmkfstools("-i", disk, tmp_path / "copy.vmdk", "-d", f"rdm:{tmp_path / 'device'}")
    assert (tmp_path / "device").read_bytes() == contents(disk) + b"x" * MIB


def test_renamed_extended_deleted(tmp_path: Path, disk: Path) -> None:
    model = contents(disk)
    assert vmkfstools("-E", disk, tmp_path / "new.vmdk") == ""
    assert vmkfstools("-X", "4m", tmp_path / "new.vmdk") == "Grow: 100% done.\n"
    assert contents(tmp_path / "new.vmdk") == model.ljust(4 * MIB, b"\0")
    assert vmkfstools("-g", tmp_path / "new.vmdk") == "Geometry information 4/64/32\n"
    assert "smaller" not in vmkfstools("-X", "1m", tmp_path / "new.vmdk", status=2)
    vmkfstools("-U", tmp_path / "new.vmdk")
    assert not list(tmp_path.iterdir())


def test_a_disk_is_inflated_and_zeroed(tmp_path: Path, disk: Path) -> None:
    model = contents(disk)
    assert vmkfstools("-j", disk) == "Inflate: 100% done.\n"
    assert contents(disk) == model and (tmp_path / "disk-flat.vmdk").stat().st_blocks * SECTOR >= 2 * MIB
    vmkfstools("-w", disk)
    assert contents(disk) == bytes(2 * MIB)


@pytest.mark.parametrize(("option", "words"), [("-r", "a non Pass through"), ("-z", "a Passthrough")])
def test_raw_device_mappings(tmp_path: Path, disk: Path, option: str, words: str) -> None:
    (tmp_path / "device").write_bytes(data(3, 64))
    vmkfstools(option, tmp_path / "device", tmp_path / "map.vmdk")
    said = vmkfstools("-q", tmp_path / "map.vmdk").splitlines()
    assert said == [
        f"Disk {tmp_path / 'map.vmdk'} is {words} Raw Device Mapping", f"Maps to: {tmp_path / 'device'}",
    ]  # fmt: skip
    assert contents(tmp_path / "map.vmdk") == data(3, 64)
    assert vmkfstools("-q", disk) == f"Disk {disk} is not an rdm\n"


def test_the_dump_tells_lock_and_length(disk: Path) -> None:
    with open_disk(disk, writable=True):
        said = vmkfstools("-D", disk)
    assert "<START disk-flat.vmdk>" in said and "Lock [type host, mode 1," in said
    assert f"len {2 * MIB}, nb " in said
    assert "mode 0," in vmkfstools("-D", disk)


@pytest.mark.parametrize(
    "words",
    [
        ("x.vmdk",),
        ("-c", "1m"),
        ("-c", "1x", "x.vmdk"),
        ("-c", "1m", "-d", "2gbsparse", "x.vmdk"),
        ("-c", "3t", "x.vmdk"),
        ("-X", "1m", "-d", "thin", "x.vmdk"),
        ("-i", "missing.vmdk", "x.vmdk"),
        ("-i", "missing.vmdk", "x.vmdk", "-d", "thin:/dev/null"),
        ("-E", "missing.vmdk", "x.vmdk"),
        ("-U", "missing.vmdk"),
        ("-q", "missing.vmdk"),
        ("-D", "missing.vmdk"),
        ("-r", "missing", "x.vmdk"),
        ("-C", "vmfs3", "x"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert vmkfstools(*words, status=2).startswith("vmkfstools: ")
    assert not list(tmp_path.iterdir())
