"""`ringfence vmfs`: what it prints and answers, with vmfs-tools and the image's own bytes as the judges."""

from __future__ import annotations

import json
import os
import random
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tools.command import ringfence_here
from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.damaged import Sound, lost_block
from vmkernel.storage.datastores import Datastores
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.writable import WritableVolume, open_for_writing

MIB = 1 << 20
SIZE = "300M"
LBA_128 = 128 * 512
NONE_WRONG = {
    "Unallocated blocks": 0, "Lost blocks": 0, "Undefined inodes": 0, "Orphaned inodes": 0, "Directory errors": 0,
}  # fmt: skip


def vmfs(*words: str | Path, status: int = 0) -> str:
    """What the verb printed; of an error, its line."""
    done = ringfence_here("vmfs", *map(str, words))
    assert done.returncode == status, done.stdout + done.stderr
    assert status < 2 or done.stderr.count("\n") == 1
    return done.stderr if status >= 2 else done.stdout


def answer(*words: str | Path, status: int = 0) -> Any:
    return json.loads(vmfs(*words, "--json", status=status))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> tuple[Path, Path]:
    """An empty volume, and one with the tree in it; both are copied before they are used."""
    folder = tmp_path_factory.mktemp("volumes")
    vmfs("mkfs", folder / "empty.img", "--size", SIZE, "--label", "store")
    filled = copied(folder / "empty.img", folder / "filled.img")
    vmfs("cp", "-r", tree, f"{filled}:/")
    return folder / "empty.img", filled


def copied(path: Path, target: Path) -> Path:
    subprocess.run(["cp", "--sparse=always", path, target], check=True)
    return target


@pytest.fixture
def image(tmp_path: Path, made: tuple[Path, Path]) -> Path:
    return copied(made[0], tmp_path / "lun.img")


@pytest.fixture
def filled(tmp_path: Path, made: tuple[Path, Path]) -> Path:
    return copied(made[1], tmp_path / "lun.img")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On the host: small and large files, an empty one, a hole, a link, folders."""
    folder = tmp_path_factory.mktemp("host") / "tree"
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "a/hello").write_bytes(b"hello")
    (folder / "a/b/random").write_bytes(random.Random(1).randbytes(3 * MIB + 5))
    (folder / "a/b/c/empty").touch(mode=0o640)
    (folder / "a/link").symlink_to("b/random")
    with (folder / "sparse").open("wb") as file:
        file.truncate(40 * MIB)
        file.seek(20 * MIB)
        file.write(b"in the middle")
    os.utime(folder / "a/hello", (10**9, 10**9))
    return folder


def same(one: Path, other: Path) -> bool:
    names = sorted(path.relative_to(one) for path in one.rglob("*"))
    assert names == sorted(path.relative_to(other) for path in other.rglob("*"))
    for name in names:
        ours, theirs = one / name, other / name
        assert ours.is_symlink() == theirs.is_symlink() and ours.is_dir() == theirs.is_dir()
        if ours.is_symlink():
            assert ours.readlink() == theirs.readlink()
        else:
            assert int(ours.stat().st_mtime) == int(theirs.stat().st_mtime)
            assert ours.stat().st_mode == theirs.stat().st_mode
            assert ours.is_dir() or ours.read_bytes() == theirs.read_bytes()
    return True


# making, copying


@pytest.mark.parametrize("block", ["1M", "2M", "4M", "8M"])
def test_others_find_nothing_wrong_with_a_new_volume(tmp_path: Path, block: str) -> None:
    path = tmp_path / "lun.img"
    vmfs("mkfs", path, "--size", "600M", "--label", "new", "--block-size", block)
    assert peers.fsck([path]) == NONE_WRONG and peers.bitmap_errors([path]) == 0
    assert vmfs("label", path) == "new\n"
    facts = answer("info", path)
    assert (facts["label"], facts["block_size"], facts["version"]) == ("new", int(block[0]) * MIB, "3.31")
    assert vmfs("check", path) == "nothing is wrong\n"


def test_what_is_there_is_not_formatted(image: Path) -> None:
    vmfs("mkfs", image, status=2)
    vmfs("mkfs", image, "--size", SIZE, status=2)
    assert answer("info", image)["label"] == "store"
    vmfs("mkfs", image, "--force", "--label", "other")
    assert answer("info", image)["label"] == "other"


def test_a_tree_comes_back_as_it_was(filled: Path, tree: Path, tmp_path: Path) -> None:
    vmfs("cp", "-r", f"{filled}:/tree", tmp_path / "back")
    assert same(tree, tmp_path / "back")
    assert (tmp_path / "back/sparse").stat().st_blocks * 512 <= MIB
    assert peers.fsck([filled]) == NONE_WRONG
    assert peers.debugvmfs([filled], "cat", "/tree/a/b/random") == (tree / "a/b/random").read_bytes()


def test_holes_stay_holes_in_the_volume(filled: Path) -> None:
    rows = answer("blocks", f"{filled}:/tree/sparse")
    assert [row["file_offset"] for row in rows] == [20 * MIB]
    assert answer("ls", f"{filled}:/tree/sparse")[0]["allocated"] == MIB


def test_a_tree_goes_from_volume_to_volume(filled: Path, tree: Path, tmp_path: Path) -> None:
    parts = [tmp_path / "a.img", tmp_path / "b.img"]
    second = "+".join(map(str, parts))
    vmfs("mkfs", second, "--size", SIZE, "--block-size", "2M")
    vmfs("cp", "-r", f"{filled}:/tree", f"{second}:/copy")
    vmfs("cp", "-r", f"{second}:/copy", tmp_path / "back")
    assert same(tree, tmp_path / "back")
    assert peers.fsck(parts) == NONE_WRONG


def test_nothing_is_written_over_unasked(filled: Path, tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "hello"
    target.write_bytes(b"mine")
    vmfs("cp", f"{filled}:/tree/a/hello", target, status=2)
    vmfs("cp", target, f"{filled}:/tree/a", status=2)
    assert target.read_bytes() == b"mine" and vmfs("check", filled) == "nothing is wrong\n"
    vmfs("cp", "--force", target, f"{filled}:/tree/a")
    vmfs("cp", "--force", f"{filled}:/tree/a/b/random", target)
    assert peers.debugvmfs([filled], "cat", "/tree/a/hello") == b"mine"
    assert target.read_bytes() == (tree / "a/b/random").read_bytes()
    assert peers.fsck([filled]) == NONE_WRONG


def test_an_incomplete_copy_does_not_stay(image: Path, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        for at in range(300):
            file.seek(at * MIB)
            file.write(b"x")
    before = answer("df", image)
    assert "no space left" in vmfs("cp", tmp_path / "large", f"{image}:/", status=2)
    assert vmfs("ls", image) == "" and answer("df", image) == before


def test_several_files_need_a_folder(filled: Path, tree: Path) -> None:
    vmfs("cp", tree / "a/hello", tree / "a/b/random", f"{filled}:/new", status=2)
    vmfs("mkdir", f"{filled}:/new")
    vmfs("cp", tree / "a/hello", tree / "a/b/random", f"{filled}:/new")
    assert vmfs("ls", f"{filled}:/new") == "hello\nrandom\n"


def test_names_are_moved_and_removed(filled: Path) -> None:
    vmfs("mv", f"{filled}:/tree/a/hello", f"{filled}:/hello")
    vmfs("mv", f"{filled}:/hello", "/tree/a/b")
    assert vmfs("find", filled, "--name", "hell*") == "/tree/a/b/hello\n"
    vmfs("rm", f"{filled}:/tree", status=2)
    vmfs("rm", f"{filled}:/tree/a/link")
    vmfs("rm", "-r", f"{filled}:/tree")
    vmfs("mkdir", f"{filled}:/x/y", status=2)
    vmfs("mkdir", "-p", f"{filled}:/x/y/z", f"{filled}:/x")
    assert vmfs("tree", filled).splitlines() == ["/", "`- x", "   `- y", "      `- z"]
    assert vmfs("check", filled) == "nothing is wrong\n"
    assert peers.fsck([filled]) == NONE_WRONG


def test_a_datastore_is_a_place_too(
    filled: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    Datastores.of_user().add("store", [filled])
    (tmp_path / "host").mkdir()
    Datastores.of_user().add("folder", [tmp_path / "host"])
    vmfs("cp", "[store] tree/a/hello", "[folder] copy")
    assert (tmp_path / "host/copy").read_bytes() == b"hello"
    assert vmfs("ls", "[store] tree") == "a\nsparse\n"
    vmfs("ls", "[folder]", status=2)
    vmfs("ls", "[unknown] x", status=2)


# looking


def at(image: Path, offset: int, length: int) -> bytes:
    """Bytes of the volume, which is on one device."""
    with image.open("rb") as file:
        return os.pread(file.fileno(), length, LBA_128 + 0x1100000 + offset)


def test_listings_say_what_descriptors_say(filled: Path) -> None:
    rows = {row["name"]: row for row in answer("ls", f"{filled}:/tree/a")}
    assert {name: row["kind"] for name, row in rows.items()} == {"hello": "file", "link": "link", "b": "directory"}
    assert (rows["hello"]["size"], rows["hello"]["mtime"], rows["link"]["target"]) == (5, 10**9, "b/random")
    for row in rows.values():
        cluster, resource = row["address"] >> 6 & 0xFFFF, row["address"] >> 22
        assert row["descriptor"] == f"FD {cluster}/{resource}"
    line = vmfs("ls", "-l", f"{filled}:/tree/a").splitlines()[1]
    assert line.startswith("-rw-") and line.endswith("5 2001-09-09 01:46:40 hello")
    nested = answer("tree", f"{filled}:/tree")
    assert [child["name"] for child in nested["children"]] == ["a", "sparse"]
    assert vmfs("find", filled, "--kind", "file", "--larger", "1M") == "/tree/a/b/random\n/tree/sparse\n"
    assert [row["path"] for row in answer("find", filled, "--kind", "link")] == ["/tree/a/link"]
    assert ".fbb.sf" in vmfs("ls", "-a", filled) and ".fbb.sf" not in vmfs("ls", filled)


def test_every_field_lies_where_it_is_said_to(filled: Path) -> None:
    facts = answer("stat", f"{filled}:/tree/a/hello")
    fields = facts["fields"]
    assert sum(field["size"] for field in fields) == 1024
    expected = facts["offset"]
    for field in fields:
        assert field["offset"] == expected
        assert bytes.fromhex(field["raw"]) == at(filled, expected, field["size"])
        expected += field["size"]
    values = {field["name"]: field["value"] for field in fields}
    assert values["length"] == "5" and values["type"] == "3 regular" and values["mtime"].endswith("2001-09-09 01:46:40")
    structures = answer("info", filled)["structures"]
    header = next(one for one in structures if one["structure"] == "LVM header")
    with filled.open("rb") as file:
        for field in header["fields"]:
            assert os.pread(file.fileno(), field["size"], LBA_128 + field["offset"]).hex() == field["raw"]
    superblock = next(one for one in structures if one["structure"] == "superblock")
    label = next(field for field in superblock["fields"] if field["name"] == "label")
    assert label["offset"] == 0x20001D and at(filled, label["offset"], 5) == b"store"
    assert "  0x000020001d  73 74 6f 72 65" in vmfs("info", filled, "--fields")


def test_blocks_name_the_bytes_of_the_file(filled: Path, tree: Path) -> None:
    data = (tree / "a/b/random").read_bytes()
    rows = answer("blocks", f"{filled}:/tree/a/b/random")
    assert len(rows) == 4
    with filled.open("rb") as file:
        for row in rows:
            word = struct.unpack("<I", at(filled, row["address_offset"], 4))[0]
            assert word & 7 == 1 and row["lv_offset"] == (word >> 6) * MIB
            start, length = row["file_offset"], min(row["length"], len(data) - row["file_offset"])
            assert os.pread(file.fileno(), length, LBA_128 + row["device_offset"]) == data[start : start + length]
    assert len(vmfs("blocks", f"{filled}:/tree/a/b/random").splitlines()) == 5


def test_the_dump_is_of_the_bytes_that_were_asked_for(filled: Path) -> None:
    assert answer("dump", filled, "0x20001d", "5")["hex"] == b"store".hex()
    assert answer("dump", f"{filled}:/tree/sparse", "20M", "13")["hex"] == b"in the middle".hex()
    magic = answer("dump", filled, "0x100000", "4", "--device", "0")["hex"]
    assert magic == "0dd001c0"
    lines = vmfs("dump", filled, "0x20001d", "512").splitlines()
    assert lines[0].startswith("00000020001d  73 74 6f 72 65") and "*" in lines
    vmfs("dump", filled, "1T", status=2)
    vmfs("dump", filled, "0", "4", "--device", "3", status=2)


def test_space_is_counted_as_others_count_it(filled: Path) -> None:
    rows = {row["kind"]: row for row in answer("df", filled)}
    text = subprocess.run([peers.program("fsck.vmfs"), filled], capture_output=True, text=True, check=True).stdout
    counted = dict(re.findall(r"^ +(File Blocks|Sub-Blocks|Pointer Blocks|Inodes) +: (\d+)$", text, re.MULTILINE))
    kinds = {"file_block": "File Blocks", "sub_block": "Sub-Blocks", "pointer_block": "Pointer Blocks",
             "file_descriptor": "Inodes"}  # fmt: skip
    assert {name: rows[kind]["used"] for kind, name in kinds.items()} == {name: int(counted[name]) for name in counted}
    assert all(row["used"] + row["free"] == row["total"] for row in rows.values())


def test_locks_are_shown_in_the_form_of_vmkfstools(filled: Path) -> None:
    lines = vmfs("stat", "--lock", f"{filled}:/tree/a/hello").splitlines()
    assert lines[0].startswith("Lock [type 10c00001 offset ") and "mode 0, owner 00000000-" in lines[1]
    assert "links 1, type reg, flags 0x0, uid 0, gid 0, mode " in lines[2] and lines[3].startswith("len 5, nb 1 tbz 0")


@pytest.fixture
def host(filled: Path) -> Iterator[WritableVolume]:
    """Another host that has the volume, and a file of it open."""
    volume = open_for_writing([filled], background=False)
    volume.create("/held")
    writer = volume.open_for_write("/held")
    writer.write(0, [memoryview(b"x" * MIB)])
    volume.settle()
    yield volume
    volume.abandon()


def test_hosts_and_their_locks_are_shown(host: WritableVolume, filled: Path) -> None:
    slots = answer("heartbeats", filled)
    assert [slot["fields"][0]["value"] for slot in slots][-1].endswith("in-use")
    assert answer("info", filled)["hosts"] == 1
    held = [lock for lock in answer("locks", filled) if lock["path"] == "/held"]
    assert len(held) == 1 and held[0]["mode"] == "exclusive" and held[0]["held"]
    assert held[0]["owner_name"] == str(host.session.host)
    assert f"/held: exclusive, {host.session.host}" in vmfs("locks", filled)
    journals = answer("journal", filled)
    assert len(journals) == 1 and journals[0]["owner"] == str(host.session.host) and not journals[0]["replay"]
    assert len(answer("locks", filled, "--all")) > 10
    assert vmfs("check", filled).endswith("(harmless)\n")


def test_what_a_host_has_is_neither_written_nor_repaired(host: WritableVolume, filled: Path) -> None:
    assert f"locked by {host.session.host}" in vmfs("rm", f"{filled}:/held", status=2)
    assert f"{host.session.host} has the volume mounted" in vmfs("repair", filled, "--yes", status=2)


# checking, rescuing


@pytest.fixture
def sound(tmp_path: Path) -> Sound:
    return Sound(tmp_path)


def test_nothing_is_repaired_without_yes(sound: Sound) -> None:
    where = lost_block(sound)
    path = sound.paths[0]
    said = f"LV {where:#x}: lost space: file block 250: state in the bitmap: expected free, as nothing refers to it, "
    assert vmfs("check", path) == f"{said}found in use (harmless)\n"
    sound.poke(sound.fd(sound.disk) + 0x208, "<I", 5)
    before = path.stat().st_mtime_ns
    assert "link count: /vm/disk (FD <0,8>): nlink: expected 1, found 5\n" in vmfs("check", path, status=1)
    said = vmfs("repair", path, status=1)
    assert "(it is freed)" in said and "(it is written)" in said and "repeat with --yes" in said
    assert path.stat().st_mtime_ns == before
    assert all(row["would_mend"] for row in answer("repair", path, status=1))
    assert vmfs("repair", path, "--yes").count("(mended)") == 2
    assert answer("check", path) == [] and vmfs("repair", path) == "there is nothing to mend\n"


def test_deleted_files_come_back(filled: Path, tree: Path, tmp_path: Path) -> None:
    data = (tree / "a/b/random").read_bytes()
    vmfs("rm", f"{filled}:/tree/a/b/random", f"{filled}:/tree/a/hello")
    assert vmfs("undelete", filled).count("\n") == 3
    found = {row["size"]: row for row in answer("undelete", filled)}
    assert found[len(data)]["complete"] and found[len(data)]["name"] == "/tree/a/b/random"
    target = tmp_path / "found"
    target.mkdir()
    before = filled.stat().st_mtime_ns
    vmfs("undelete", filled, "--all", "--to", target)
    assert (target / "random").read_bytes() == data
    assert b"hello" in [path.read_bytes() for path in target.iterdir()]
    assert filled.stat().st_mtime_ns == before
    vmfs("undelete", filled, "--all", status=2)
    vmfs("undelete", filled, "9/9", "--to", target, status=2)


def test_what_was_used_again_is_lost_and_said_to_be(filled: Path, tree: Path, tmp_path: Path) -> None:
    data = (tree / "a/b/random").read_bytes()
    rows = answer("blocks", f"{filled}:/tree/a/b/random")
    vmfs("rm", f"{filled}:/tree/a/b/random")
    one = next(row for row in answer("undelete", filled) if row["size"] == len(data))
    number = rows[1]["lv_offset"] // MIB
    fbb = answer("blocks", f"{filled}:/.fbb.sf")[0]["device_offset"]
    with filled.open("r+b") as file:  # as if somebody else had taken the second block
        place = LBA_128 + fbb + 0x10000 + number // 200 * 1024 + 0x210 + number % 200 // 8
        byte = os.pread(file.fileno(), 1, place)[0]
        os.pwrite(file.fileno(), bytes([byte & ~(1 << number % 200 % 8)]), place)
    again = next(row for row in answer("undelete", filled) if row["size"] == len(data))
    assert one["reused_bytes"] == 0 and again["reused_bytes"] == MIB and not again["complete"]
    (tmp_path / "found").mkdir()
    name = again["descriptor"].removeprefix("FD ")
    assert "1 MiB lost" in vmfs("undelete", filled, name, "--to", tmp_path / "found", status=1)
    assert (tmp_path / "found/random").read_bytes() == data[:MIB] + bytes(MIB) + data[2 * MIB :]


def test_extracting_passes_over_damage(sound: Sound, tmp_path: Path) -> None:
    sound.poke(sound.fd(sound.other) + 0x400, "<I", 0xFFFFFFC1)
    sound.poke(sound.entry(sound.deep, 2) + 4, "<I", 0xFFFFFFC4)
    vmfs("extract", sound.paths[0], tmp_path / "out", status=1)
    assert (tmp_path / "out/vm/small").read_bytes() == b"a few bytes"
    assert (tmp_path / "out/link").readlink() == Path("vm/small")
    facts = answer("extract", sound.paths[0], tmp_path / "again", status=1)
    assert any("/other" in text for text in facts["skipped"]) and facts["files"] >= 4
    assert not (tmp_path / "out/deeper/deep/inner").exists()


def test_a_volume_grows_and_is_renamed(filled: Path, tree: Path, tmp_path: Path) -> None:
    second = tmp_path / "more.img"
    vmfs("grow", filled, second, "--size", SIZE)
    whole = f"{filled}+{second}"
    vmfs("label", whole, "grown")
    assert answer("info", whole)["label"] == "grown" and answer("info", whole)["bytes"] == 512 * MIB
    vmfs("info", filled, status=2)
    assert check([second, filled]) == []
    assert peers.fsck([filled, second]) == NONE_WRONG
    assert peers.debugvmfs([filled, second], "cat", "/tree/a/b/random") == (tree / "a/b/random").read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ("info", "missing.img"), ("check", "missing.img"), ("repair", "missing.img"), ("ls", "missing.img:/"),
        ("mkfs", "missing.img"), ("mkfs", "new.img", "--size", "10M"), ("mkfs", "new.img", "--size", "1Q"),
        ("mkfs", "new.img", "--size", SIZE, "--block-size", "3M"), ("mkfs", "a+", "--size", SIZE),
        ("mkfs", "new.img", "--size", SIZE, "--label", "x" * 200), ("mount", "missing.img", "folder"),
        ("cp", "a", "b"), ("cp", "a", "missing.img:/"), ("mv", "missing.img:/a", "b"), ("odd",),
        ("cat", "missing.img:/a"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert vmfs(*words, status=2).startswith("ringfence: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ("ls", ":/missing"), ("stat", ":/missing"), ("blocks", ":/missing"), ("rm", ":/missing"), ("rm", "-r", ":/"),
        ("rm", ":/.fbb.sf"), ("mkdir", ":/tree"), ("mkdir", ":/" + "n" * 128), ("find", ":/missing"),
        ("undelete", "", "1/1"), ("check", ":/tree/missing:/"),
    ],
)  # fmt: skip
def test_what_a_volume_does_not_have_is_one_line_and_status_2(filled: Path, words: tuple[str, ...]) -> None:
    before = answer("df", filled)
    verb, *rest = words
    vmfs(verb, *(f"{filled}{word}" if word.startswith(":") or not word else word for word in rest), status=2)
    assert answer("df", filled) == before


@pytest.mark.parametrize(("sparse", "inside"), [("auto", 2), ("always", 2), ("never", 4)])
def test_zeros_become_holes_where_they_are_to(tmp_path: Path, sparse: str, inside: int) -> None:
    """Of four blocks the second is zeros that were written, the third a hole, the last ends with one sector."""
    image, source, back = tmp_path / "lun.img", tmp_path / "source", tmp_path / "back"
    assert ringfence_here("vmfs", "mkfs", str(image), "--size", "300M").returncode == 0
    data = b"x".ljust(2 * MIB, b"\0") + bytes(MIB) + b"y".rjust(MIB, b"\0")
    with source.open("wb") as file:
        file.write(data[: 2 * MIB])
        file.seek(3 * MIB)
        file.write(data[3 * MIB :])
    assert ringfence_here("vmfs", "cp", "--sparse", sparse, str(source), f"{image}:/file").returncode == 0
    with Volume.open([image]) as volume:
        fd = volume.lookup("/file")
        assert (fd.length, fd.num_blocks) == (4 * MIB, inside)
    full = tmp_path / "full"
    full.write_bytes(data)
    assert ringfence_here("vmfs", "cp", str(full), f"{image}:/full").returncode == 0
    assert ringfence_here("vmfs", "cp", "--sparse", sparse, f"{image}:/full", str(back)).returncode == 0
    assert back.read_bytes() == data
    kib = back.stat().st_blocks // 2
    assert kib == 4096 if sparse == "never" else kib <= (192 if sparse == "always" else 2048)
