"""`ringfence datastore`: names for VMFS volumes, directories and NFS mounts, so that `[NAME] path` is a file in one."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from tools.disk_words import add_json, size_text

if TYPE_CHECKING:
    from vmkernel.storage.datastores import Datastore
    from vmkernel.storage.place import Place

DESCRIPTION = "Name the places where machines and disks are kept; `[NAME] folder/file.vmdk` is a file in one."
EPILOG = """\
PLACE is the image or device of a VMFS volume (several: IMAGE+IMAGE), a directory, or an NFS mount of this host.

exit status: 0; 2 bad input, options or host
"""


def add_datastore_verb(verbs: argparse._SubParsersAction[Any]) -> None:
    """`ringfence datastore add|rm|list|browse`."""
    datastore = verbs.add_parser(
        "datastore", help="names for VMFS volumes and folders of machines", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    subparsers = datastore.add_subparsers(dest="datastore_verb", required=True, metavar="VERB")
    add = subparsers.add_parser("add", help="give a place a name")
    add.add_argument("name", metavar="NAME", help="what it is called between brackets")
    add.add_argument("place", metavar="PLACE[+PLACE]", help="a volume, a directory or a mount")
    add.set_defaults(run=add_run)
    remove = subparsers.add_parser("rm", help="forget a name; what is in the datastore stays")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=remove_run)
    listing = subparsers.add_parser("list", help="the datastores of this host, and the room in each")
    add_json(listing)
    listing.set_defaults(run=list_run)
    browse = subparsers.add_parser("browse", help="what is in a datastore, or in a folder of it")
    browse.add_argument("place", metavar="NAME|[NAME] FOLDER", help="a datastore, or a folder in one")
    add_json(browse)
    browse.set_defaults(run=browse_run)
    datastore.set_defaults(action=datastore_verb)


def datastore_verb(options: argparse.Namespace) -> int:
    options.run(options)
    return 0


def add_run(options: argparse.Namespace) -> None:
    from vmkernel.storage.datastores import Datastores, images_of

    made = Datastores.of_user().add(options.name, images_of(options.place))
    print(f"{made} ({made.kind})")


def remove_run(options: argparse.Namespace) -> None:
    from vmkernel.storage.datastores import Datastores

    Datastores.of_user().remove(options.name)


def list_run(options: argparse.Namespace) -> None:
    from vmkernel.storage.datastores import Datastores

    rows = [facts(one) for one in Datastores.of_user().all()]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        room = row["error"] or f"{size_text(row['free_bytes'])} free"
        print(f"{row['name']:<20} {row['kind']:<10} {room:<20} {'+'.join(row['places'])}")


def facts(datastore: Datastore) -> dict[str, Any]:
    """What is asked of the datastore itself may fail: it is in the list nevertheless."""
    from ringfence.errors import RingfenceError
    from vmkernel.storage.place import free_bytes

    row: dict[str, Any] = {
        "name": datastore.name, "kind": str(datastore.kind), "places": list(map(str, datastore.places)),
        "free_bytes": None, "error": "",
    }  # fmt: skip
    try:
        row["free_bytes"] = free_bytes(datastore.place(""))
    except RingfenceError as error:
        row["error"] = str(error)
    except OSError as error:
        row["error"] = error.strerror or str(error)
    return row


def browse_run(options: argparse.Namespace) -> None:
    from vmkernel.storage.datastores import Datastores, in_brackets

    name, path = in_brackets(options.place) or (options.place, "")
    folder = Datastores.of_user().find(name).place(path)
    rows = [entry_facts(one) for one in sorted(folder.iterdir(), key=lambda one: one.name)]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        size = "folder" if row["kind"] == "folder" else size_text(row["bytes"])
        print(f"{size:>16}  {row['name']}{'/' if row['kind'] == 'folder' else ''}")


def entry_facts(place: Place) -> dict[str, Any]:
    kind = "link" if place.is_symlink() else "folder" if place.is_dir() else "file" if place.is_file() else "other"
    try:
        status = place.stat()
        return {"name": place.name, "kind": kind, "bytes": status.st_size, "host_bytes": status.st_blocks * 512}
    except OSError:  # a link that leads nowhere
        return {"name": place.name, "kind": kind, "bytes": 0, "host_bytes": 0}
