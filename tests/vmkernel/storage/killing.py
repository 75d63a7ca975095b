"""A process that is killed at any of its changes to files: what it had changed by then is all that it changed."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from vmkernel.storage.block_file import BlockFile


class Killed(BaseException):
    """Nothing catches it; whatever it passes finds that it cannot change anything any more."""


class Life:
    """Counts changes to files, and ends at one of them; `torn`: half of the last write gets through."""

    def __init__(self, changes: int | None, *, torn: bool = False) -> None:
        self.left, self.torn = changes, torn
        self.made = 0

    @property
    def over(self) -> bool:
        return self.left is not None and self.made > self.left

    def change(self) -> None:
        self.made += 1
        if self.over:
            raise Killed


@contextmanager
def living(changes: int | None, *, torn: bool = False) -> Iterator[Life]:
    """The files of the host for a process that makes so many changes to them; None: as many as it likes."""
    life = Life(changes, torn=torn)
    real_pwritev, real_open, real_builtin = os.pwritev, os.open, builtins.open

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def changing(*arguments: Any, **named: Any) -> Any:
            life.change()
            return call(*arguments, **named)

        return changing

    def pwritev(fd: int, views: list[Any], offset: int) -> int:
        try:
            life.change()
        except Killed:
            if life.torn and life.left is not None and life.made == life.left + 1:
                whole = b"".join(bytes(view) for view in views)
                real_pwritev(fd, [whole[: len(whole) // 2]], offset)
            raise
        return real_pwritev(fd, views, offset)

    def opening(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & (os.O_CREAT | os.O_TRUNC):
            life.change()
        return real_open(path, flags, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        names = ("replace", "unlink", "remove", "link", "ftruncate", "posix_fallocate", "pwrite", "copy_file_range")
        for name in names:
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(os, "pwritev", pwritev)
        patch.setattr(os, "open", opening)
        patch.setattr(BlockFile, "_punch", counted(BlockFile._punch))
        assert builtins.open is real_builtin
        yield life
