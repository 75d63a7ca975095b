"""`ringfence vmfs mount`: a volume's files in a folder, by FUSE, for as long as the command runs."""

from __future__ import annotations

import argparse
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tools.vmfs_words import add_volume, reading, shown, whole, writing

DESCRIPTION = """\
Show a volume's files in a folder. It needs no root, but the binding mfusepy and the program fusermount3. It is there
until Ctrl-C, SIGTERM, or `fusermount3 -u FOLDER`. Without --rw nothing is written to the volume, not even a heartbeat;
with it the volume is used as a host of its own, beside others that have it.
"""


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    mount = subparsers.add_parser(
        "mount", help="show a volume's files in a folder (FUSE)", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_volume(mount, as_json=False)
    mount.add_argument("folder", type=Path, metavar="FOLDER", help="an empty folder")
    mount.add_argument("--rw", action="store_true", help="files may be written")
    mount.add_argument("--allow-other", action="store_true", help="for other users too (user_allow_other in fuse.conf)")
    mount.set_defaults(run=mount_run)


def mount_run(options: argparse.Namespace) -> int:
    from tools.disk_mount import Mount, check_folder, fuse_binding
    from vmkernel.storage.vmfs3.fuse_volume import VolumeFolder
    from vmx.ending import signals_wait

    where = whole(options.volume)
    binding: Any = fuse_binding()
    check_folder(options.folder)
    with ExitStack() as stack:
        volume = stack.enter_context(writing(where) if options.rw else reading(where))
        changed = threading.Event()
        folder = VolumeFolder(volume, started=changed.set, clock=time.time_ns)
        shared: Any = folder  # the mount asks of a folder nothing but what the binding does
        mount = Mount(binding, shared, options, changed)
        try:
            mount.begin()
            print(f"{options.folder}: {shown(volume.label) or where}", flush=True)
            mount.wait()
        finally:
            with signals_wait():
                mount.end()
                folder.close()
    return 0
