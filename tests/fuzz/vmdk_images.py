"""Damaged disks: specimens of every format, ways to damage them, and the rules that hold for whatever comes of it."""

from __future__ import annotations

import os
import random
import struct
from dataclasses import dataclass
from pathlib import Path

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.lab import SECTOR, data, put, scribble
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.create import Kind, create, create_child, create_redo
from vmkernel.storage.repair import check, repair
from vmkernel.storage.vmdk.stream_writer import write_stream

DESCRIPTORS = Path(__file__).parent / "vmdk"
SIZE = 600 * SECTOR
MODEL_BYTES_MAX = 8 << 20
PIECES_MAX = 2000
WORDS = (
    0,
    1,
    2,
    3,
    5,
    127,
    128,
    511,
    512,
    1 << 15,
    1 << 16,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 45,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
TEXTS = (
    b'"', b"=", b"\n", b"\r", b"\0", b"RW", b"NOACCESS 5 ZERO\n", b"CID=", b"parentCID=0\n", b"99999999999999999999",
    b'encoding="GBK"\n', b'encoding="utf-16"\n', b"\xff\xfe", b"../", b"/dev/null", b"version=2\n", b"VMFSSPARSE",
    b"FLAT", b'parentFileNameHint="child.vmdk"\n', b" 18014398509481983 ", b"SPARSE", b"SESPARSE", b"-1",
)  # fmt: skip


def specimens(folder: Path) -> list[tuple[Path, Path]]:
    """(disk to open, file to damage) for every format, each in a folder of its own."""
    found = []
    for kind in (Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_SPARSE, Kind.THIN):
        path = place(folder, kind)
        create(path, kind, SIZE)
        filled(path)
        found += [(path, file) for file in sorted(path.parent.iterdir()) if file.stat().st_size < SIZE * 2]
    for kind in (Kind.VMFS_SPARSE, Kind.MONOLITHIC_SPARSE):
        path = place(folder, f"child-{kind}")
        create(path.with_name("base.vmdk"), Kind.THIN, SIZE)
        filled(path.with_name("base.vmdk"))
        create_child(path, path.with_name("base.vmdk"), kind, grain_sectors=8 if kind == Kind.VMFS_SPARSE else 16)
        filled(path)
        found += [(path, file) for file in sorted(path.parent.iterdir()) if "flat" not in file.name]
    path = place(folder, "redo")
    path.write_bytes(data(3, SIZE // SECTOR))
    redo = create_redo(path)
    filled(redo)
    found.append((redo, redo))
    path, stream = place(folder, "source"), place(folder, "stream")
    create(path, Kind.MONOLITHIC_SPARSE, SIZE)
    filled(path)
    with open_disk(path) as disk, stream.open("wb") as out:
        write_stream(disk, out, "child.vmdk")
    found.append((stream, stream))
    path = place(folder, "sesparse")
    sesparse(path.with_name("e"))
    path.write_text(f'version=1\nCID=1\nparentCID=ffffffff\nRW {SIZE // SECTOR} SESPARSE "e"\n')
    found += [(path, path), (path, path.with_name("e"))]
    for text in sorted(DESCRIPTORS.glob("*.vmdk")):
        path = place(folder, f"text-{text.stem}")
        path.write_bytes(text.read_bytes())
        for name in ("a", "b"):
            path.with_name(name).write_bytes(data(5, 40))
        found.append((path, path))
    return found


def place(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name / "child.vmdk"


def filled(path: Path) -> None:
    with open_disk(path, writable=True) as disk:
        scribble(disk, 7, bytearray(disk.size_bytes), 6)


def sesparse(path: Path) -> None:
    words = {
        0: 0xCAFEBABE, 8: 0x0000000200000001, 16: SIZE // SECTOR, 24: 8, 32: 64, 80: 1, 88: 1, 128: 2, 136: 1, 144: 3,
        152: 64, 192: 67, 200: 800, 512: 0xCAFECAFE, 1024: 0x10000000 << 32,
        **{3 * SECTOR + grain * 8: 3 << 60 | grain << 48 for grain in range(20)},
        3 * SECTOR + 160: 1 << 60, 3 * SECTOR + 168: 2 << 60,
    }  # fmt: skip
    content = bytearray(67 * SECTOR) + data(2, 160)
    for offset, word in words.items():
        struct.pack_into("<Q", content, offset, word)
    path.write_bytes(content)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A few bytes, words, cuts and texts, mostly where headers and tables are."""
    result = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        limit = max(len(result), 1)
        at = chance.randrange(min(limit, chance.choice((84, 512, 2048, 16 << 10, limit))))
        match chance.randrange(7):
            case 0:
                result[at : at + 1] = chance.randbytes(1)
            case 1 | 2:
                width = chance.choice((4, 8))
                at -= at % chance.choice((1, 4, 4))
                word = chance.choice((*WORDS, chance.getrandbits(32), len(result) // SECTOR)) % (1 << 8 * width)
                result[at : at + width] = word.to_bytes(width, "little")
            case 3:
                del result[chance.randrange(limit) :]
            case 4:
                result[at:at] = chance.choice(TEXTS)
            case 5:
                text = chance.choice(TEXTS)
                result[at : at + len(text)] = text
            case _:
                other = chance.randrange(limit)
                result[at : at + 4] = result[other : other + 4]
    return bytes(result)


@dataclass(slots=True)
class Specimen:
    """A disk in a folder of its own, one file of which is damaged; `sound` is what the files held before."""

    disk: Path
    file: Path
    sound: dict[Path, bytes]

    @classmethod
    def all(cls, folder: Path) -> list[Specimen]:
        made = specimens(folder)
        return [cls(disk, file, {path: path.read_bytes() for path in disk.parent.iterdir()}) for disk, file in made]

    def examine_damaged(self, seed: int, *, thorough: bool) -> None:
        """Damage the file, see what comes of it, and make all as it was. A note at what is raised says the seed."""
        chance = random.Random(seed)
        before = self.sound | {self.file: damaged(self.sound[self.file], chance)}
        self.file.write_bytes(before[self.file])
        try:
            if thorough:
                examine(self.disk, chance)
                written = True
            else:
                written = examine_briefly(self.disk, before, chance)
        except Exception as error:
            error.add_note(f"seed {seed}: {self.disk.parent.name}/{self.file.name}")
            raise
        if not written:
            self.file.write_bytes(self.sound[self.file])
            return
        for path in {Path(entry) for entry in os.scandir(self.disk.parent)} - self.sound.keys():
            path.unlink()
        for path, content in self.sound.items():
            path.write_bytes(content)


def examine(path: Path, chance: random.Random) -> None:
    """Opened, read, checked, written and repaired: it goes, or is refused in one line; reading changes nothing."""
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.stat().st_size <= MODEL_BYTES_MAX}
    for recover in (False, True):
        attempt(path, chance, recover=recover)
    look(path)
    assert before == {file: file.read_bytes() for file in before}, "reading changed a file"
    for change in (write, mend, write):
        change(path, chance)


def examine_briefly(path: Path, before: dict[Path, bytes], chance: random.Random) -> bool:
    """One of these, by chance. Was it one that may change files?"""
    match chance.randrange(8):
        case 0 | 1 | 2:
            attempt(path, chance, recover=False)
        case 3:
            attempt(path, chance, recover=True)
        case 4:
            look(path)
        case 5 | 6:
            write(path, chance)
            return True
        case _:
            mend(path, chance)
            write(path, chance)
            return True
    if not chance.randrange(8):
        assert before == {file: file.read_bytes() for file in before}, "reading changed a file"
    return False


def look(path: Path) -> None:
    for finding in refused(lambda: check(path, deep=True)) or []:
        assert "\n" not in str(finding)


def mend(path: Path, chance: random.Random) -> None:
    refused(lambda: repair(path, accept_parent=chance.random() < 0.5))


def refused(call):  # type: ignore[no-untyped-def]
    """What the call returns; None where it is refused in one line."""
    try:
        return call()
    except RingfenceError as error:
        assert "\n" not in str(error)
        return None


def attempt(path: Path, chance: random.Random, *, recover: bool) -> None:
    disk: Chain | None = refused(lambda: open_disk(path, relaxed=True, recover=recover))
    if disk is None:
        return
    with disk:
        for at in (0, max(disk.sectors - 64, 0), chance.randrange(disk.sectors)):
            view = memoryview(bytearray(min(disk.sectors - at, 300) * SECTOR))
            refused(lambda at=at, view=view: disk.read(at * SECTOR, [view]))
        refused(lambda: [piece for piece, _ in zip(disk.runs(0, disk.size_bytes), range(PIECES_MAX), strict=False)])


def write(path: Path, chance: random.Random) -> None:
    refused(lambda: write_somewhere(path, chance))


def write_somewhere(path: Path, chance: random.Random) -> None:
    with open_disk(path, writable=True) as disk:
        at = chance.randrange(disk.sectors)
        count = min(disk.sectors - at, chance.choice((1, 8, 200)))
        put(disk, at, data(chance.randrange(99), count))
        disk.flush()
        disk.read(at * SECTOR, [memoryview(bytearray(count * SECTOR))])
        disk.zero(at * SECTOR, count * SECTOR)
