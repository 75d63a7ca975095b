"""Records what is written to files, and makes the files that a power failure leaves after any part of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.vmkernel.storage.lab import SECTOR
from vmkernel.storage.block_file import BlockFile, View
from vmkernel.storage.vmdk import text_home


class Event(NamedTuple):
    """`write` at an offset, `truncate` to it, `sync`, `replace` of a whole file, or `mark`: what the test did."""

    what: str
    path: Path
    offset: int = 0
    data: bytes = b""


@dataclass
class Recording:
    """The files as they were, and what happened to them then."""

    before: dict[Path, bytes]
    events: list[Event] = field(default_factory=list)

    def mark(self, what: str) -> None:
        self.events.append(Event(what, Path()))

    def restore(self, length: int, chance: random.Random | None = None) -> None:
        """Write the files as they are after `length` events.

        With `chance`, what was not synced by then is on the disk or is not, by sectors, each write on its own.
        """
        files = {path: bytearray(content) for path, content in self.before.items()}
        synced = {}
        for number, event in enumerate(self.events[:length]):
            if event.what == "sync":
                synced[event.path] = number
        for number, event in enumerate(self.events[:length]):
            durable = chance is None or number < synced.get(event.path, -1)
            apply(files, event, None if durable else chance)
        for path, content in files.items():
            path.write_bytes(content)


def apply(files: dict[Path, bytearray], event: Event, chance: random.Random | None) -> None:
    file = files.setdefault(event.path, bytearray()) if event.path.name else bytearray()
    if event.what == "replace":
        file[:] = event.data
    elif event.what == "truncate":
        del file[event.offset :]
        file.extend(bytes(event.offset - len(file)))
    elif event.what == "write":
        fate = 1.0 if chance is None else chance.choice((0.0, 0.5, 1.0))
        end = event.offset + len(event.data)
        if fate and end > len(file):
            file.extend(bytes(end - len(file)))
        for at in range(0, len(event.data), SECTOR):
            if chance is None or chance.random() < fate:
                piece = event.data[at : at + SECTOR]
                file[event.offset + at : event.offset + at + len(piece)] = piece


@contextmanager
def recorded(folder: Path) -> Iterator[Recording]:
    recording = Recording({path: path.read_bytes() for path in folder.iterdir()})
    write, sync, truncate, replace = BlockFile.write, BlockFile.sync, BlockFile.truncate, text_home.replace_file

    def writing(file: BlockFile, offset: int, views: list[View]) -> None:
        recording.events.append(Event("write", file.path, offset, b"".join(views)))
        write(file, offset, views)

    def syncing(file: BlockFile) -> None:
        sync(file)
        recording.events.append(Event("sync", file.path))

    def truncating(file: BlockFile, size: int) -> None:
        recording.events.append(Event("truncate", file.path, size))
        truncate(file, size)

    def replacing(path: Path, data: bytes) -> None:
        replace(path, data)
        recording.events += [Event("replace", path, 0, data), Event("sync", path)]

    def not_punching(file: BlockFile, offset: int, length: int) -> int:
        return -1

    changes: dict[str, Callable[..., object]] = {
        "write": writing, "sync": syncing, "truncate": truncating, "reserve": truncating, "_punch": not_punching,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, change in changes.items():
            patch.setattr(BlockFile, name, change)
        patch.setattr(text_home, "replace_file", replacing)
        yield recording
