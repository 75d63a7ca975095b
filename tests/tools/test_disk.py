"""`ringfence disk`: what it prints and answers, with QEMU's tools as the judge of the disks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.tools.command import ringfence_here
from tests.vmkernel.storage.lab import MIB, SECTOR, data, put, qemu_img
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind
from vmkernel.storage.formats import TARGETS, Plain

COMMAND = "import sys; from tools.ringfence import main; sys.exit(main())"


def disk(*words: str | Path, status: int = 0) -> str:
    """What the verb printed."""
    done = ringfence_here("disk", *map(str, words))
    assert done.returncode == status, done.stderr
    assert done.stderr == "" if status < 2 else done.stderr.count("\n") == 1
    return done.stdout if status < 2 else done.stderr


def answer(*words: str | Path, status: int = 0) -> Any:
    return json.loads(disk(*words, "--json", status=status))


def qemu_info(path: Path, form: str = "vmdk") -> dict[str, Any]:
    return json.loads(qemu_img("info", "--output=json", "-f", form, path))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Bare sectors: data, a hole, data."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.write(data(1, 256))
        file.truncate(3 * MIB)
        file.seek(2 * MIB)
        file.write(random.Random(3).randbytes(128 * SECTOR))
    return path


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A child over a base, with data in both."""
    base, child = tmp_path / "base.vmdk", tmp_path / "base-000001.vmdk"
    disk("create", base, "4M", "--kind", "thin")
    with open_disk(base, writable=True) as one:
        put(one, 0, data(1, 256))
    disk("create", child, "--parent", base)
    with open_disk(child, writable=True) as one:
        put(one, 128, data(2, 64))
    return child


# create, convert, compare


@pytest.mark.parametrize("kind", TARGETS)
def test_created_disks_have_the_size_that_was_asked_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk.vmdk"
    disk("create", path, "1.5M", "--kind", kind.upper(), "--adapter", "ide")
    assert qemu_info(path, "raw" if kind == Plain.RAW else "vmdk")["virtual-size"] == 3 * MIB // 2


def test_the_grain_is_as_asked(tmp_path: Path) -> None:
    disk("create", tmp_path / "disk.vmdk", "1G", "--grain", "16K")
    extent = qemu_info(tmp_path / "disk.vmdk")["format-specific"]["data"]["extents"][0]
    assert extent["cluster-size"] == 16384
    for wrong in ("48K", "2G", "100"):
        disk("create", tmp_path / "other.vmdk", "1G", "--grain", wrong, status=2)
    disk("create", tmp_path / "other.vmdk", "1G", "--kind", "thin", "--grain", "64K", status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["disk.vmdk"]


@pytest.mark.parametrize("kind", TARGETS)
def test_a_converted_disk_is_the_same_for_qemu(tmp_path: Path, bare: Path, kind: str) -> None:
    target = tmp_path / "copy.vmdk"
    assert disk("convert", bare, target, "--to", kind) == ""
    form = "raw" if kind == Plain.RAW else "vmdk"
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", form, bare, target)
    assert disk("compare", bare, target, "--second-format", form) == "the same\n"


def test_the_targets_name_says_what_it_becomes(tmp_path: Path, bare: Path) -> None:
    disk("convert", bare, tmp_path / "copy.vmdk")
    disk("convert", tmp_path / "copy.vmdk", tmp_path / "copy.img")
    assert qemu_info(tmp_path / "copy.vmdk")["format-specific"]["data"]["create-type"] == "monolithicSparse"
    assert (tmp_path / "copy.img").read_bytes() == bare.read_bytes()


def piped(words: list[str], given: bytes) -> bytes:
    command = [sys.executable, "-c", COMMAND, "disk", *words]
    done = subprocess.run(command, input=given, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_streams_go_through_pipes(tmp_path: Path, bare: Path) -> None:
    stream = piped(["convert", "-", "-"], bare.read_bytes())
    (tmp_path / "stream.vmdk").write_bytes(stream)
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "vmdk", bare, tmp_path / "stream.vmdk")
    assert piped(["convert", "-", "-", "--to", "raw"], stream) == bare.read_bytes()


def test_a_difference_is_told_with_its_first_byte(tmp_path: Path, bare: Path, chain: Path) -> None:
    other = tmp_path / "other.raw"
    content = bytearray(bare.read_bytes())
    content[2 * MIB + 77] ^= 1
    other.write_bytes(content)
    assert disk("compare", bare, other, status=1) == f"different at byte {2 * MIB + 77} (sector 4096)\n"
    assert answer("compare", bare, other, status=1)["offset"] == 2 * MIB + 77
    other.write_bytes(bare.read_bytes() + bytes(SECTOR))
    assert answer("compare", bare, other)["same"] is True
    assert disk("compare", bare, other, "--strict", status=1).startswith("different: ")
    assert disk("compare", chain, chain.with_name("base.vmdk"), status=1) == "different at byte 65543 (sector 128)\n"


# info, chain, map, hexdump


@pytest.mark.parametrize("form", ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "streamOptimized"])
def test_info_says_what_qemu_says(tmp_path: Path, bare: Path, form: str) -> None:
    path = tmp_path / "disk.vmdk"
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={form}", bare, path)
    theirs, ours = qemu_info(path), answer("info", path)
    special = theirs["format-specific"]["data"]
    link = ours["links"][0]
    assert ours["bytes"] == theirs["virtual-size"]
    assert link["create_type"] == special["create-type"] == form
    assert (int(link["cid"], 16), int(link["parent_cid"], 16)) == (special["cid"], special["parent-cid"])
    assert len(link["extents"]) == len(special["extents"])
    assert ours["findings"] == [] and ours["error"] == "" and ours["use"] == "free"
    if "flat" not in form.lower():
        assert [extent["grain_bytes"] for extent in link["extents"]] == [
            extent["cluster-size"] for extent in special["extents"]
        ]
        assert sum(extent["grains"] for extent in link["extents"]) == 3  # 128 KiB, and 64 KiB


def test_info_tells_every_link_and_who_uses_the_disk(chain: Path) -> None:
    ours = answer("info", chain)
    assert [link["create_type"] for link in ours["links"]] == ["vmfsSparse", "vmfs"]
    assert ours["links"][0]["parent_cid"] == ours["links"][1]["cid"]
    assert ours["links"][0]["extents"][0]["data_bytes"] == 64 * SECTOR
    assert ours["links"][1]["ddb"]["ddb.thinProvisioned"] == "1"
    with open_disk(chain, writable=True):
        assert answer("info", chain)["use"] == "written"
        assert "in use                    for writing" in disk("info", chain)
    with open_disk(chain):
        assert answer("info", chain)["use"] == "read"


def test_info_tells_what_is_wrong(chain: Path) -> None:
    base = chain.with_name("base.vmdk")
    with open_disk(base, writable=True) as one:
        put(one, 0, data(9, 1))
    assert [finding["fault"] for finding in answer("info", chain)["findings"]] == ["content ID"]
    assert "the parent was modified since" in disk("chain", chain)
    base.unlink()
    assert "parent: expected a file 'base.vmdk'" in answer("info", chain)["error"]


def test_the_chain_is_a_tree_with_content_ids(chain: Path) -> None:
    base = chain.with_name("base.vmdk")
    disk("create", chain.with_name("branch.vmdk"), "--parent", base, "--kind", "monolithicSparse")
    found = answer("chain", chain)
    assert [Path(one["path"]).name for one in found["children"]] == ["base-000001.vmdk", "branch.vmdk"]
    assert {one["parent_cid"] for one in found["children"]} == {found["cid"]}
    lines = disk("chain", chain).splitlines()
    assert len(lines) == 3 and lines[1].startswith("|- * ") and lines[2].startswith("`- ")


def test_the_map_is_qemus(tmp_path: Path, bare: Path) -> None:
    path = tmp_path / "disk.vmdk"
    disk("convert", bare, path)
    ours = answer("map", path)
    assert sum(run["length"] for run in ours) == 3 * MIB
    theirs = json.loads(qemu_img("map", "--output=json", "-f", "vmdk", path))
    joined: list[list[int]] = []
    for run in theirs:
        if run["data"] and joined and joined[-1][0] + joined[-1][1] == run["start"]:
            joined[-1][1] += run["length"]
        elif run["data"]:
            joined.append([run["start"], run["length"]])
    assert [[run["start"], run["length"]] for run in ours if run["data"]] == joined
    assert ours[0]["offset"] == theirs[0]["offset"]
    assert len(disk("map", path).splitlines()) == len(ours)


def test_the_drawing_has_a_colour_for_each_link(tmp_path: Path, chain: Path) -> None:
    assert disk("map", chain, "--png", tmp_path / "map.png", "--width", "64", "--height", "64") == ""
    with Image.open(tmp_path / "map.png") as image:
        assert image.size == (64, 64)  # a pixel is 1 KiB
        pixels = [image.getpixel((at % 64, at // 64)) for at in (0, 63, 64, 95, 96, 4000)]
    assert pixels[0] == pixels[1] == pixels[4] and pixels[2] == pixels[3]
    assert len({pixels[0], pixels[2], pixels[5]}) == 3
    text = disk("map", chain, "--picture")
    assert text.startswith("|@@@@") and "link 1: 32 KiB of what is read" in text


def test_hexdump_says_which_link_bytes_come_from(chain: Path) -> None:
    lines = disk("hexdump", chain, str(128 * SECTOR - 16), "0x20").splitlines()
    assert lines[0].startswith("-- link 0, ") and "base-flat.vmdk" in lines[0]
    assert lines[1].startswith(f"{128 * SECTOR - 16:012x}  30 30 30 30 30 30 30 31  30")
    assert lines[2].startswith("-- link 1, ") and "delta.vmdk" in lines[2]
    runs = answer("hexdump", chain, "127s", "2s")
    assert bytes.fromhex("".join(run["hex"] for run in runs)) == data(1, 128)[-SECTOR:] + data(2, 1)
    assert [run["layer"] for run in runs] == [0, 1]
    assert disk("hexdump", chain, "3M", "64").splitlines()[0] == "-- zeros"
    disk("hexdump", chain, "4M", status=2)


# check, repair, resize


def test_a_sound_disk_has_nothing_wrong(chain: Path) -> None:
    assert disk("check", chain) == "nothing is wrong\n"
    assert answer("check", chain) == []
    assert disk("repair", chain) == "there is nothing to mend\n"


def test_nothing_is_repaired_without_yes(tmp_path: Path, bare: Path) -> None:
    path = tmp_path / "disk.vmdk"
    disk("convert", bare, path)
    with open_disk(path) as one:
        table = int(one.links[0].extents[0].tables.directory[0])
    with path.open("r+b") as file:
        file.seek(table * SECTOR)
        file.write((0x7FFFFFFF).to_bytes(4, "little"))
    before = path.read_bytes()
    assert "place of a grain" in disk("check", path, status=1)
    said = disk("repair", path, status=1)
    assert "would be" in said and "repeat with --yes" in said and path.read_bytes() == before
    assert all(row["would_mend"] or row["harmless"] for row in answer("repair", path, status=1))
    assert "(mended)" in disk("repair", path, "--yes")
    assert all(row["harmless"] for row in answer("check", path))


def test_a_parent_is_accepted_on_request_only(chain: Path) -> None:
    with open_disk(chain.with_name("base.vmdk"), writable=True) as one:
        put(one, 0, data(9, 1))
    disk("convert", chain, chain.with_name("copy.vmdk"), status=2)
    assert "the parent's CID would be taken" in disk("repair", chain, "--accept-parent", status=1)
    disk("repair", chain, "--accept-parent", "--yes")
    assert disk("check", chain) == "nothing is wrong\n"


@pytest.mark.parametrize("kind", [*Kind, Plain.RAW])
def test_a_resized_disk_has_its_data_and_the_new_size(tmp_path: Path, bare: Path, kind: str) -> None:
    path = tmp_path / ("disk.img" if kind == Plain.RAW else "disk.vmdk")
    disk("convert", bare, path, "--to", kind)
    disk("resize", path, "+2M")
    form = "raw" if kind == Plain.RAW else "vmdk"
    assert qemu_info(path, form)["virtual-size"] == 5 * MIB
    assert disk("compare", bare, path).startswith("the same")
    assert "--shrink" in disk("resize", path, "3M", status=2)
    assert "data at byte" in disk("resize", path, "1M", "--shrink", status=2)
    disk("resize", path, "3M", "--shrink")
    assert disk("compare", bare, path, "--strict") == "the same\n"


@pytest.mark.parametrize(
    "words",
    [
        ("info", "missing.vmdk"),
        ("check", "missing.vmdk"),
        ("chain", "missing.vmdk"),
        ("map", "."),
        ("create", "x.vmdk"),
        ("create", "x.vmdk", "1Q"),
        ("create", "x.vmdk", "100"),
        ("create", "x.vmdk", "1G", "--kind", "odd"),
        ("create", "no/such/folder/x.vmdk", "1G"),
        ("create", "x.vmdk", "1G", "--parent", "y.vmdk"),
        ("convert", "missing.vmdk", "x.vmdk"),
        ("convert", "missing.raw", "-", "--to", "thin"),
        ("convert", "missing.raw", "x", "--workers", "0"),
        ("resize", "missing.vmdk", "1G"),
        ("resize", "missing.vmdk", "much"),
        ("odd",),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert disk(*words, status=2).startswith("ringfence: ")
    assert not list(tmp_path.iterdir())


def open_files(pid: int) -> list[str]:
    names = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.append(os.readlink(file))
    return names


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """Pressed while the command waits for more of its input, part of which it has kept."""
    command = [sys.executable, "-c", COMMAND, "disk", "convert", "-", str(tmp_path / "disk.vmdk")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(data(1, 64))
        process.stdin.flush()
        give_up = time.monotonic() + 120
        while not any(name.startswith(str(tmp_path)) for name in open_files(process.pid)):
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.wait(120)
        assert process.stderr.read() == b""
    assert process.returncode == 130
    assert not list(tmp_path.iterdir())
