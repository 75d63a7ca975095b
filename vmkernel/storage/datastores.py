"""The datastores of this host: names for a VMFS volume, a directory, or an NFS mount, and files in them.

    [store] vm/vm.vmdk      a file of a datastore
    IMAGE:/vm/vm.vmdk       a file of a VMFS volume that has no name; IMAGE+IMAGE:/... of one on several devices
    vm/vm.vmdk              a file of the host

The names are in $XDG_CONFIG_HOME/ringfence/datastores.json (else ~/.config), one file that is replaced as a whole under
a lock. Nothing is opened to read them: a datastore may be away, and is an error when one of its files is asked for.
A path does not leave its datastore by `..`.
"""

from __future__ import annotations

import fcntl
import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ringfence.errors import BadInput, BadOption, HostRefused
from vmkernel.storage.block_file import replace_file
from vmkernel.storage.place import Place
from vmkernel.storage.vmfs3.place_names import JOINT, image_names, place_name

FILE_BYTES_MAX = 1 << 20
DATASTORES_MAX = 256
NAME_BYTES_MAX = 127  # a volume's label has room for no more
NAME = re.compile(r"[^\[\]/\x00-\x1f\x7f]+")
IN_BRACKETS = re.compile(r"\[(?P<name>[^\]]*)\](?P<path>.*)", re.DOTALL)
MOUNTS = Path("/proc/self/mounts")
NFS = re.compile(r"nfs[34]?")


class Kind(StrEnum):
    """What a datastore is on."""

    VMFS = "vmfs"
    DIRECTORY = "directory"
    NFS = "nfs"


@dataclass(frozen=True, slots=True)
class Datastore:
    """`places` are absolute: the devices of one volume, or one directory of the host."""

    name: str
    places: tuple[Path, ...]

    @property
    def kind(self) -> Kind:
        if len(self.places) == 1 and self.places[0].is_dir():
            return Kind.NFS if is_nfs(self.places[0]) else Kind.DIRECTORY
        return Kind.VMFS

    def place(self, path: str) -> Place:
        """A file or folder of it; the empty path is its root. Raises BadInput, BadOption and HostRefused."""
        inside = clean(path, f"[{self.name}] {path}")
        if self.kind is not Kind.VMFS:
            return self.places[0] / inside
        return in_volume(self.places, inside, self.name)

    def __str__(self) -> str:
        return f"[{self.name}] {JOINT.join(map(str, self.places))}"


class Datastores:
    """The file of names."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> Datastores:
        """Raises HostRefused where the user has no home."""
        return cls(config_folder(environment) / "datastores.json")

    def all(self) -> list[Datastore]:
        """By name. Raises BadInput for a file that cannot be right, and HostRefused."""
        return sorted(self._read().values(), key=lambda datastore: datastore.name)

    def find(self, name: str) -> Datastore:
        """Raises BadOption, which says what there is."""
        known = self._read()
        if name not in known:
            raise BadOption(f"[{name}]: expected a datastore: {', '.join(sorted(known)) or 'none is known here'}")
        return known[name]

    def add(self, name: str, places: Sequence[Path]) -> Datastore:
        """Raises BadOption for a name that is taken or cannot be one, HostRefused for places that are not there."""
        if not is_name(name):
            raise BadOption(f"datastore {name!r}: expected 1 to {NAME_BYTES_MAX} bytes without [, ] and /")
        made = Datastore(name, tuple(Path(os.path.abspath(place)) for place in places))
        judge(made)
        with self._changing() as known:
            if name in known:
                raise BadOption(f"datastore {name}: there is one of this name already, at {known[name]}")
            if len(known) >= DATASTORES_MAX:
                raise BadOption(f"datastore {name}: expected at most {DATASTORES_MAX} datastores")
            known[name] = made
        return made

    def remove(self, name: str) -> Datastore:
        """The name; what is in the datastore stays. Raises BadOption."""
        with self._changing() as known:
            if name not in known:
                self.find(name)
            return known.pop(name)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Datastore]]:
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HostRefused(f"{self.file}: cannot write: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            known = self._read()
            yield known
            rows = {one.name: {"places": [str(place) for place in one.places]} for one in known.values()}
            replace_file(self.file, (json.dumps({"datastores": rows}, indent=2) + "\n").encode())
        finally:
            os.close(fd)

    def _read(self) -> dict[str, Datastore]:
        try:
            with open(self.file, "rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise HostRefused(f"{self.file}: cannot read: {error.strerror}") from error
        try:
            rows = json.loads(data)["datastores"] if len(data) <= FILE_BYTES_MAX else None
            return {name: parsed(name, row["places"]) for name, row in rows.items()}  # type: ignore[union-attr]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            expected = '{"datastores": {NAME: {"places": [PATH, ...]}}}'
            raise BadInput(str(self.file), "datastores", expected, f"something else ({error})") from None


def config_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the user's names are kept. Raises HostRefused where the user has no home."""
    configured = environment.get("XDG_CONFIG_HOME", "")
    try:
        folder = Path(configured) if os.path.isabs(configured) else Path.home() / ".config"
    except RuntimeError as error:
        raise HostRefused(f"home directory: {error}") from error
    return folder / "ringfence"


def parsed(name: object, places: object) -> Datastore:
    """Raises ValueError."""
    if not isinstance(name, str) or not is_name(name):
        raise ValueError(f"name {name!r}")
    if not isinstance(places, list) or not places:
        raise ValueError(f"places of {name}")
    if not all(isinstance(place, str) and os.path.isabs(place) and "\0" not in place for place in places):
        raise ValueError(f"places of {name}")
    return Datastore(name, tuple(map(Path, places)))


def is_name(name: str) -> bool:
    length = len(name.encode("utf-8", "replace"))
    return NAME.fullmatch(name) is not None and name == name.strip() and length <= NAME_BYTES_MAX


def judge(datastore: Datastore) -> None:
    """Raises HostRefused or BadInput where there is nothing, or no volume."""
    for place in datastore.places:
        if not place.exists():
            raise HostRefused(f"{place}: no such file or directory")
        if place.is_dir() and len(datastore.places) > 1:
            raise BadOption(f"{place}: expected a device or an image beside others, found a directory")
    if datastore.kind is Kind.VMFS:
        datastore.place("").exists()


def is_nfs(folder: Path) -> bool:
    """By the mount that holds it."""
    try:
        rows = [line.split() for line in MOUNTS.read_text(errors="replace").splitlines()]
        real = str(folder.resolve())
    except OSError:
        return False
    best, kind = "", ""
    for row in rows:
        point = row[1].replace("\\040", " ") if len(row) > 2 else ""
        if point and len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, kind = point, row[2]
    return NFS.fullmatch(kind) is not None


def clean(path: str, said: str) -> str:
    """Relative to the root of a datastore, without `.` and `..`. Raises BadOption for one that leaves it."""
    if "\0" in path:
        raise BadOption(f"{said!r}: expected a path, found a NUL in it")
    inside = posixpath.normpath(path.strip().strip("/") or ".")
    if inside == ".." or inside.startswith("../"):
        raise BadOption(f"{said}: expected a path inside the datastore")
    return inside


def in_brackets(text: str) -> tuple[str, str] | None:
    """(datastore, path) of `[datastore] path`; None for another text."""
    found = IN_BRACKETS.fullmatch(text)
    return None if found is None else (found["name"].strip(), found["path"].strip())


def resolve(text: str) -> Place:
    """The file that a person means. Raises BadOption, and where a volume does not open BadInput and HostRefused."""
    if (named := in_brackets(text)) is not None:
        return Datastores.of_user().find(named[0]).place(named[1])
    if ":/" in text and "\0" not in text and not os.path.lexists(text) and (inside := place_name(text)) is not None:
        return in_volume(inside.images, inside.path.lstrip("/"))
    return Path(text)


def locate(folder: Place, name: str) -> Place:
    """The file that a text in `folder` names: relative to it, absolute, or in a datastore. Raises as `resolve`."""
    if (named := in_brackets(name)) is not None:
        return Datastores.of_user().find(named[0]).place(named[1])
    return folder / name


def in_volume(devices: Sequence[Path], inside: str, name: str = "") -> Place:
    from vmkernel.storage.vmfs_place import place_in  # noqa: PLC0415 - files of the host need none of it

    return place_in(devices, inside, name)


def images_of(text: str) -> tuple[Path, ...]:
    """PLACE+PLACE. Raises BadOption."""
    return image_names(text)
