"""What the vmfs verbs share: volumes and places as people write them, and how they are opened."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption
from tools.disk_words import add_json
from vmkernel.storage.vmfs3.place_names import ROOT, PlaceName, normal, place_name, volume_name
from vmx.ending import signals_wait

if TYPE_CHECKING:
    from vmkernel.storage.vmfs3.volume import Volume

PLACE_HELP = "IMAGE:/path, IMAGE+IMAGE:/path or '[datastore] path'"


def add_volume(verb: argparse.ArgumentParser, *, as_json: bool = True) -> None:
    verb.add_argument("volume", metavar="VOLUME", help="IMAGE, or IMAGE+IMAGE of several devices")
    if as_json:
        add_json(verb)


def add_place(
    verb: argparse.ArgumentParser, name: str = "place", metavar: str = "PLACE", help_more: str = "", **options: Any
) -> None:  # fmt: skip
    verb.add_argument(name, metavar=metavar, help=PLACE_HELP + help_more, **options)


def place(text: str) -> PlaceName:
    """A place of a volume; its root, where a volume alone is given. Raises BadOption."""
    found = datastore_place(text) or volume_name(text)
    if isinstance(found, Path):
        raise BadOption(f"{text}: expected a datastore on VMFS, found a directory of the host")
    return found


def whole(text: str) -> PlaceName:
    """A volume. Raises BadOption for a place within one."""
    found = place(text)
    if found.path != ROOT:
        raise BadOption(f"{text}: expected a volume, not a place in one")
    return found


def place_or_host(text: str) -> PlaceName | Path:
    """A place of a volume, or a file of the host."""
    return datastore_place(text) or place_name(text) or Path(text)


def datastore_place(text: str) -> PlaceName | Path | None:
    """`[datastore] path`; None for another text. Raises BadOption for an unknown one."""
    from vmkernel.storage.datastores import Datastores, Kind, clean, in_brackets

    found = in_brackets(text)
    if found is None:
        return None
    store, inside = Datastores.of_user().find(found[0]), clean(found[1], text)
    return PlaceName(store.places, normal(inside)) if store.kind is Kind.VMFS else store.places[0] / inside


@contextmanager
def reading(where: PlaceName) -> Iterator[Volume]:
    from vmkernel.storage.vmfs3.volume import Volume

    with Volume.open(where.images) as volume:
        for lun, missing in volume.lv.missing():
            warn(f"{lun}: it was cut short: {missing} of {lun.file.size + missing} bytes are missing")
        yield volume


@contextmanager
def writing(where: PlaceName) -> Iterator[Any]:
    """As a host of its own, with a heartbeat and locks."""
    from vmkernel.storage.vmfs3.writable import open_for_writing

    volume = open_for_writing(where.images)
    try:
        yield volume
    finally:
        with signals_wait():
            volume.close()


def answer(facts: Any) -> None:
    print(json.dumps(facts, indent=2))


def warn(text: str) -> None:
    sys.stderr.write(f"ringfence: warning: {' '.join(text.split())}\n")


def shown(name: str) -> str:
    """A name as a terminal may have it: what could steer one is escaped."""
    if name.isprintable():
        return name
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in name
    )
