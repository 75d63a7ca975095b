"""How people write a file of a volume: `IMAGE:/path`, over several devices `IMAGE+IMAGE:/path`.

Everything before the first `:/` names image files or devices of the host, joined by `+`; a host file whose own name
has a `+` in it is taken whole. What has no `:/` is a file of the host. `[datastore] path` is another spelling, and
resolved by whoever knows the datastores.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path

from ringfence.errors import BadOption

SEPARATOR = ":/"
JOINT = "+"
ROOT = "/"


@dataclass(frozen=True, slots=True)
class PlaceName:
    """A file or folder of a volume: the volume's devices in any order, and an absolute path without `.` and `..`."""

    images: tuple[Path, ...]
    path: str = ROOT

    def __str__(self) -> str:
        return f"{JOINT.join(map(str, self.images))}:{self.path}"

    def child(self, name: str) -> PlaceName:
        return PlaceName(self.images, posixpath.join(self.path, name))

    @property
    def name(self) -> str:
        """The last part of the path; of the root, none."""
        return posixpath.basename(self.path)


def place_name(text: str) -> PlaceName | None:
    """None for a file of the host."""
    images, found, path = text.partition(SEPARATOR)
    if not found or not images:
        return None
    return PlaceName(image_names(images), normal(ROOT + path))


def volume_name(text: str) -> PlaceName:
    """Likewise, where a volume alone is meant too: its root then. Raises BadOption for nothing."""
    place = place_name(text)
    if place is not None:
        return place
    if not text:
        raise BadOption("a volume: expected IMAGE or IMAGE:/path, found nothing")
    return PlaceName(image_names(text.removesuffix(":")), ROOT)


def image_names(text: str) -> tuple[Path, ...]:
    """The devices of a volume. Raises BadOption for an empty name among them."""
    if Path(text).exists():
        return (Path(text),)
    names = text.split(JOINT)
    if not all(names):
        raise BadOption(f"{text}: expected IMAGE{JOINT}IMAGE, found an empty name")
    return tuple(Path(name) for name in names)


def normal(path: str) -> str:
    """Absolute, with one slash between names. `..` is resolved by its text; the root's is the root."""
    return posixpath.normpath(ROOT + path.lstrip(ROOT))
