"""Deleted files: which survive, and what is left of them."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.vmkernel.storage.vmfs3.damaged import HEAD, TAIL, Sound
from tests.vmkernel.storage.vmfs3.specimen import MIB, File
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.tree_copy import TreeCopy
from vmkernel.storage.vmfs3.tree_ends import HostFolder
from vmkernel.storage.vmfs3.undelete import Deleted, DeletedNode, deleted
from vmkernel.storage.vmfs3.volume import Volume


def delete(sound: Sound, folder: File, index: int, file: File) -> None:
    """As ESX does: the last entry moves into the gap, links go to 0, everything is free. Contents stay."""
    count = len(folder.entries)
    last = struct.pack("<III128s", *folder.entries[count - 1])
    sound.poke(sound.entry(folder, index), "140s", last)
    folder.entries[index] = folder.entries[count - 1]
    folder.entries.pop()
    sound.poke(sound.fd(folder) + 0x214, "<Q", (count - 1) * 140)
    sound.poke(sound.fd(file) + 0x208, "<I", 0)
    sound.mark(sound.fdc, file.number, free=True)
    for word in file.words:
        if word & 7 == 1:
            sound.mark(sound.fbb, word >> 6, free=True)
        elif word & 7 == 2:
            sound.mark(sound.sbc, (word >> 6 & 0x3FFFFF) * 16 + (word >> 28), free=True)
        elif word & 7 == 3:
            number = (word >> 6 & 0x3FFFFF) * 16 + (word >> 28)
            at = sound.place(sound.pbc, sound.pbc.item(number))
            for entry in range(1024):
                inner = sound.peek(at + entry * 4, "<I")
                if inner:
                    sound.mark(sound.fbb, inner >> 6, free=True)
            sound.mark(sound.pbc, number, free=True)


def recovered(sound: Sound, one: Deleted, folder: Path) -> bytes:
    with Volume.open(sound.paths) as volume:
        TreeCopy().run(DeletedNode(volume, one), HostFolder(folder), "recovered", recursive=False)
    return (folder / "recovered").read_bytes()


def survivors(sound: Sound) -> list[Deleted]:
    with Volume.open(sound.paths) as volume:
        return deleted(volume)


def test_a_volume_where_nothing_was_deleted_has_nothing_to_recover(tmp_path: Path) -> None:
    assert survivors(Sound(tmp_path)) == []


def test_a_large_file_comes_back_through_its_pointer_blocks(tmp_path: Path) -> None:
    sound = Sound(tmp_path)
    delete(sound, sound.vm, 4, sound.large)
    assert check(sound.paths) == []
    (one,) = survivors(sound)
    assert (one.fd.length, one.free_bytes, one.reused_bytes) == (300 * MIB, 2 * MIB, 0)
    assert recovered(sound, one, tmp_path) == HEAD + bytes(298 * MIB) + TAIL
    assert (tmp_path / "recovered").stat().st_blocks * 512 == 2 * MIB


def test_a_pointer_block_in_use_again_loses_what_it_named(tmp_path: Path) -> None:
    sound = Sound(tmp_path)
    delete(sound, sound.vm, 4, sound.large)
    sound.mark(sound.pbc, 0, free=False)
    (one,) = survivors(sound)
    assert (one.free_bytes, one.reused_bytes) == (0, 300 * MIB)


def test_blocks_that_were_never_written_are_zeros(tmp_path: Path) -> None:
    sound = Sound(tmp_path)
    delete(sound, sound.vm, 3, sound.disk)
    (one,) = survivors(sound)
    assert one.is_complete and one.free_bytes == 2 * MIB
    assert recovered(sound, one, tmp_path) == HEAD + bytes(8 * MIB) + TAIL


def test_a_name_survives_behind_the_end_of_its_directory(tmp_path: Path) -> None:
    sound = Sound(tmp_path)
    delete(sound, sound.deep, 2, sound.inner)  # the last entry: nothing was moved over it
    delete(sound, sound.vm, 2, sound.small)  # the entry of another file was moved over it
    names = {one.fd.length: (one.name, one.title) for one in survivors(sound)}
    assert names == {9: ("/deeper/deep/inner", "inner"), 11: ("", f"deleted-0-{sound.small.number}")}
