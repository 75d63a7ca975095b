"""What `ringfence run TARGET` means: a guest's name, built on demand, or the path of a program.

A guest that is the image of a disk is put on a SCSI disk of its own, from which firmware boots it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from guests import builder
from ringfence.errors import BadInput, HostRefused


def resolve(target: str | None) -> Path | None:
    """The file to load, if any. A word with a slash is a path; otherwise a guest's name goes first, then a file.

    Raises BadInput naming the guests there are, or what the builder raises.
    """
    if target is None:
        return None
    names = [guest.name for guest in builder.list_guests()]
    if "/" not in target and target in names:
        return builder.build(target)
    path = Path(target)
    if not target or not exists(path):
        raise BadInput(target or "TARGET", "no such file or guest", f"a path, or one of {', '.join(names)}", "neither")
    return path


def disk_of(target: str | None) -> Path | None:
    """The image of a guest that firmware boots from a disk; None for any other target. Raises what the builder does."""
    boots = {guest.name for guest in builder.list_guests() if guest.boots}
    return builder.build(target) if target in boots else None


@contextmanager
def own_copy(image: Path) -> Iterator[Path]:
    """A disk to be written to, gone afterwards. Raises HostRefused."""
    with ExitStack() as held:
        try:
            copied = shutil.copy(image, held.enter_context(tempfile.TemporaryDirectory(prefix="ringfence-")))
        except OSError as error:
            raise HostRefused(f"{image}: cannot copy the guest's disk: {error.strerror or error}") from error
        yield Path(copied)


def exists(path: Path) -> bool:
    """Whether something has this name; one that no file can have, such as a too long one, is nobody's."""
    try:
        return path.exists()
    except OSError:
        return False


def guests_text(*, as_json: bool, build: bool) -> str:
    """The guests, one line each: name, purpose, and the build's path when they are built."""
    rows = []
    for guest in builder.list_guests():
        row: dict[str, object] = {"name": guest.name, "purpose": guest.purpose, "arguments": guest.arguments}
        if build:
            row["path"] = str(builder.build(guest.name))
        rows.append(row)
    if as_json:
        return json.dumps(rows, indent=2)
    width = max((len(str(row["name"])) for row in rows), default=0)
    return "\n".join(f"{row['name']:{width}}  {row['purpose']}" + (f"  {row['path']}" if build else "") for row in rows)
