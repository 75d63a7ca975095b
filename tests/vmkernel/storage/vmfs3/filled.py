"""A volume with one of everything, and what its files hold."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

from tests.vmkernel.storage.vmfs3.specimen import MIB, TBZ, Specimen

DISK_ID = struct.pack("<BBHBB8s16s4s44s", 1, 26, 3, 0, 5, b"", b"", b"", b"0123456789abcdefghijQEMU H")
RDM_BYTES = 5 << 30
BIG_BLOCKS = 3000


class Filled:
    """`files`: contents by path. `links`: targets. `big`: a file past one pointer block, with its written blocks."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.made = Specimen(folder, **options)
        self.files: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self.directories = ["/", "/folder", "/folder/deep", "/folder/deep/er"]
        self._fill(random.Random(3))
        self.paths = self.made.finish()

    def _fill(self, chance: random.Random) -> None:
        made, size = self.made, self.made.block_size
        folder = made.mkdir("folder")
        deep = made.mkdir("deep", folder)
        deeper = made.mkdir("er", deep)
        self._put("/empty", b"")
        self._put("/small.vmx", b'displayName = "x"\n')
        self._put("/Grüße 😘", b"utf-8\n")
        self._put("/" + "n" * 127, b"longest\n")
        for number in range(18):  # sub-block 14 lies across the border of two file blocks
            self._put(f"/folder/sub{number}", chance.randbytes(65536 - number), folder)
        self._put("/folder/deep/er/leaf", chance.randbytes(100), deeper)
        self._put("/blocks", chance.randbytes(2 * size + 777))
        self._link("/folder/deep/up", "../sub0", deep)
        self._link("/absolute", f"/vmfs/volumes/{made.label}/folder/sub1")
        self._link("/loop", "loop")
        self._link("/away", "/vmfs/volumes/another/x")
        data = chance.randbytes(size)
        made.sparse("zeroed", 4 * size, {0: data, 1: TBZ, 2: TBZ, 3: b"tail"})
        self.files["/zeroed"] = data + bytes(2 * size) + b"tail".ljust(size, b"\0")
        made.sparse("thin", 3 * size - 100, {1: data})
        self.files["/thin"] = bytes(size) + data + bytes(size - 100)
        made.sparse("pointed", 5 * size, {0: data, 3: b"three", 4: TBZ}, pointers=True)
        self.files["/pointed"] = data + bytes(2 * size) + b"three".ljust(size, b"\0") + bytes(size)
        self.big: dict[int, bytes] = {0: b"first", 1023: b"end of one", 1024: b"start of two", 2999: b"last"}
        made.sparse("big", BIG_BLOCKS * size, {**self.big, 1025: TBZ})
        made.rdm("mapped", DISK_ID, RDM_BYTES)

    def _put(self, path: str, data: bytes, folder: Any = None) -> None:
        self.made.file(path.rpartition("/")[2], data, folder)
        self.files[path] = data

    def _link(self, path: str, target: str, folder: Any = None) -> None:
        self.made.symlink(path.rpartition("/")[2], target, folder)
        self.links[path] = target


def small(folder: Path, **options: Any) -> list[Path]:
    """The least volume: two files and a directory."""
    made = Specimen(folder, **options)
    made.file("a", b"contents of a\n", made.mkdir("d"))
    made.file("blocks", bytes(range(256)) * 300)
    return made.finish()


__all__ = ["BIG_BLOCKS", "DISK_ID", "MIB", "RDM_BYTES", "Filled", "small"]
