"""`vmkfstools`: ESX Server 3's command for virtual disks and VMFS volumes.

Not modelled: what concerns devices (-L, -B, -s), and vml names of devices.
Source: ESX Server 3 configuration guide, "Using vmkfstools".
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ringfence.errors import BadOption, HostRefused, RingfenceError
from tools import vmkfstools_volume as volumes
from tools.disk_words import place, size
from tools.process import as_process

if TYPE_CHECKING:
    from vmkernel.storage.formats import Target
    from vmkernel.storage.place import Place
    from vmkernel.storage.vmfs_place import VolumePlace

STATUS_BAD_INPUT, STATUS_UNREAD = 2, 1
DESCRIPTION = (
    "Make, copy, rename, enlarge and delete virtual disks, whose descriptor is the target; make and show VMFS volumes."
)
EPILOG = """\
Without -i, -E and -q one option says what is done to TARGET:
  vmkfstools -c 10g -d thin -a lsilogic vm.vmdk        vmkfstools -X 20g vm.vmdk
  vmkfstools -i vm.vmdk copy.vmdk -d 2gbsparse         vmkfstools -E old.vmdk new.vmdk
  vmkfstools -i vm.vmdk mapping.vmdk -d rdm:/dev/sdb
  vmkfstools -C vmfs3 -b 1m -S store lun.img           vmkfstools -P -h lun.img

exit status: 0; 2 bad input, options or host; 130 Ctrl-C
"""
FORMATS = ("zeroedthick", "eagerzeroedthick", "thick", "thin")
CLONE_FORMATS = (*FORMATS, "2gbsparse", "monosparse", "monoflat")
DEVICE_FORMATS = ("rdm", "rdmp")  # with :DEVICE
FORMAT_NAMES = {
    "thin": "VMFS thin-provisioned", "thick": "VMFS thick", "zeroedthick": "VMFS zeroedthick",
    "eagerzeroedthick": "VMFS eagerzeroedthick", "2gbsparse": "sparse with 2GB maximum extent size",
    "monosparse": "monolithic sparse", "monoflat": "monolithic flat", "rdm": "raw disk mapping",
    "rdmp": "pass-through raw disk mapping",
}  # fmt: skip
ADAPTERS = ("buslogic", "lsilogic", "ide")
LOCK_MODES = {"free": 0, "written": 1, "read": 2}


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise BadOption(message)


def parser() -> argparse.ArgumentParser:
    top = OneLineParser(
        prog="vmkfstools", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False, add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    what = top.add_mutually_exclusive_group(required=True)
    what.add_argument("-c", "--createvirtualdisk", dest="create", metavar="SIZE", type=size, help="make a disk")
    what.add_argument("-i", "--clonevirtualdisk", "--importfile", dest="clone", metavar="SOURCE", help="copy a chain")
    what.add_argument("-E", "--renamevirtualdisk", dest="rename", metavar="OLD", help="TARGET is the new name")
    what.add_argument("-U", "--deletevirtualdisk", dest="delete", action="store_true", help="delete a disk's files")
    what.add_argument("-X", "--extendvirtualdisk", dest="extend", metavar="SIZE", type=size, help="new size, in all")
    what.add_argument("-j", "--inflatedisk", dest="inflate", action="store_true", help="thin becomes eagerzeroedthick")
    what.add_argument("-k", "--eagerzero", dest="inflate", action="store_true", help="likewise")
    what.add_argument("-w", "--writezeros", dest="zero", action="store_true", help="overwrite everything with zeros")
    what.add_argument("-g", "--geometry", dest="geometry", action="store_true", help="cylinders, heads and sectors")
    what.add_argument("-D", dest="dump", action="store_true", help="lock and metadata of a file")
    what.add_argument("-q", "--queryrdm", dest="query", action="store_true", help="is it a raw device mapping?")
    what.add_argument("-r", "--createrdm", dest="rdm", metavar="DEVICE", help="make a raw device mapping")
    what.add_argument("-z", "--createrdmpassthru", dest="rdmp", metavar="DEVICE", help="likewise, passing commands on")
    what.add_argument("-H", "--help", action="help", help="show this and exit; -h alone too")
    volumes.add_options(top, what, size)
    top.add_argument("-d", "--diskformat", dest="form", metavar="FORMAT", help=f"{', '.join(CLONE_FORMATS)}")
    top.add_argument("-a", "--adaptertype", dest="adapter", choices=ADAPTERS, default="lsilogic", help="the controller")
    top.add_argument("-v", "--verbose", dest="verbosity", metavar="N", type=int, default=0, help="accepted")
    top.add_argument("target", metavar="TARGET", help="a descriptor; of -C, -Z and -P a volume")
    return top


class Percent:
    """`Clone: 42% done.` in place on a terminal, in a pipe the last one only."""

    def __init__(self, word: str) -> None:
        self.word, self.shown = word, -1

    def __call__(self, done: int, whole: int) -> None:
        percent = min(done * 100 // whole, 99) if whole else 0
        if percent > self.shown and sys.stdout.isatty():
            print(f"\r{self.word}: {percent}% done.", end="", flush=True)
            self.shown = percent

    def finish(self) -> None:
        start = "\r" if self.shown >= 0 else ""
        print(f"{start}{self.word}: 100% done.")


def act(options: argparse.Namespace) -> None:
    """The one thing that was asked for."""
    if options.form is not None and options.create is None and options.clone is None:
        raise BadOption("-d: expected with -c or -i only")
    volumes.judge(options)
    on_volumes: tuple[tuple[bool, Callable[[argparse.Namespace], None]], ...] = (
        (options.make is not None, volumes.make), (options.span is not None, volumes.span),
        (options.query_volume, volumes.query),
    )  # fmt: skip
    for asked, order in on_volumes:
        if asked:
            order(options)
            return
    options.target = target_place(options.target)
    orders: tuple[tuple[bool, Callable[[argparse.Namespace], None]], ...] = (
        (options.create is not None, create), (options.clone is not None, clone), (options.rename is not None, rename),
        (options.delete, delete), (options.extend is not None, extend), (options.inflate, inflate),
        (options.zero, zero), (options.geometry, geometry), (options.dump, dump), (options.query, query),
        (options.rdm is not None or options.rdmp is not None, map_device),
    )  # fmt: skip
    for asked, order in orders:
        if asked:
            order(options)


def target_place(text: str) -> Place:
    """Raises BadOption."""
    try:
        return place(text)
    except argparse.ArgumentTypeError as error:
        raise BadOption(str(error)) from error


def kind_of(form: str, known: tuple[str, ...]) -> Target:
    from vmkernel.storage.formats import target

    if form not in known:
        raise BadOption(f"-d {form}: expected one of {', '.join(known)}")
    return target(form)


def create(options: argparse.Namespace) -> None:
    from vmkernel.storage import create as making
    from vmkernel.storage.vmdk.descriptor_spec import Adapter

    kind = kind_of(options.form or "zeroedthick", FORMATS)
    assert isinstance(kind, making.Kind)
    if kind is making.Kind.EAGER_ZEROED_THICK:
        print(f"Creating disk '{options.target}' and zeroing it out...")
    making.create(options.target, kind, options.create, Adapter(options.adapter))
    Percent("Create").finish()


def clone(options: argparse.Namespace) -> None:
    from vmkernel.storage.chain import open_disk
    from vmkernel.storage.convert import convert
    from vmkernel.storage.copying import copy_disk
    from vmkernel.storage.raw_device import create_mapping
    from vmkernel.storage.vmdk.descriptor_spec import Adapter

    form, _, device = (options.form or "zeroedthick").partition(":")
    if device and form not in DEVICE_FORMATS:
        raise BadOption(f"-d {options.form}: expected a device with {' and '.join(DEVICE_FORMATS)} only")
    kind = None if device else kind_of(form, CLONE_FORMATS)
    percent, adapter = Percent("Clone"), Adapter(options.adapter)
    with open_disk(place(options.clone)) as source:
        print(f"Destination disk format: {FORMAT_NAMES[form]}")
        print(f"Cloning disk '{options.clone}'...", flush=True)
        if kind is not None:
            convert(source, options.target, kind, adapter, progress=percent)
        else:
            create_mapping(options.target, Path(device), passthrough=form == "rdmp", adapter=adapter)
            with open_disk(options.target, writable=True) as target:
                copy_disk(source, target, progress=percent)
    percent.finish()


def rename(options: argparse.Namespace) -> None:
    from vmkernel.storage.renaming import rename_disk

    rename_disk(place(options.rename), options.target)


def delete(options: argparse.Namespace) -> None:
    from vmkernel.storage.renaming import delete_disk

    delete_disk(options.target)


def extend(options: argparse.Namespace) -> None:
    from vmkernel.storage.resize import resize

    resize(options.target, options.extend)
    Percent("Grow").finish()


def inflate(options: argparse.Namespace) -> None:
    from vmkernel.storage.inflate import inflate as fill

    percent = Percent("Inflate")
    fill(options.target, percent)
    percent.finish()


def zero(options: argparse.Namespace) -> None:
    from vmkernel.storage.inflate import write_zeros

    percent = Percent("Zero")
    write_zeros(options.target, percent)
    percent.finish()


def geometry(options: argparse.Namespace) -> None:
    from vmkernel.storage.chain import open_disk
    from vmkernel.storage.vmdk import geometry as chs
    from vmkernel.storage.vmdk.descriptor_spec import Adapter

    with open_disk(options.target, lock=False) as disk:
        base = disk.links[0].descriptor
        found = [base.get(f"ddb.geometry.{name}") if base else None for name in ("cylinders", "heads", "sectors")]
        shown = "/".join(map(str, found if None not in found else chs.geometry(Adapter.LSILOGIC, disk.sectors)))
    print(f"Geometry information {shown}")


def dump(options: argparse.Namespace) -> None:
    """The lock and inode of any file, and of a disk's extents, in the form of VMFS's dump."""
    from vmkernel.storage.facts import use
    from vmkernel.storage.formats import holds_vmdk
    from vmkernel.storage.vmdk.link import open_link

    paths = [options.target]
    mode = 0
    if options.target.is_file() and holds_vmdk(options.target):
        link = open_link(options.target, lock=False)
        link.abandon()
        paths += [path for path in link.files if path != options.target.resolve()]
        mode = LOCK_MODES.get(use(options.target), 0)
    for path in paths:
        for line in dump_lines(path, mode) if isinstance(path, Path) else lines_on_volume(path):
            print(line)


def dump_lines(path: Path, lock_mode: int) -> list[str]:
    try:
        status = path.stat()
    except OSError as error:
        raise HostRefused(f"{path}: cannot read its metadata: {error.strerror}") from error
    kind = "reg" if stat.S_ISREG(status.st_mode) else "dir" if stat.S_ISDIR(status.st_mode) else "dev"
    blocks = -(-status.st_blocks * 512 // status.st_blksize)
    return [
        f"<START {path.name}>",
        f"Lock [type host, mode {lock_mode}, mtime {int(status.st_mtime)}]",
        f"Addr <{os.major(status.st_dev)}, {os.minor(status.st_dev)}, {status.st_ino}>, links {status.st_nlink}, "
        f"type {kind}, uid {status.st_uid}, gid {status.st_gid}, mode {stat.S_IMODE(status.st_mode):o}",
        f"len {status.st_size}, nb {blocks} tbz 0, bs {status.st_blksize}",
        f"<END {path.name}>",
    ]


def lines_on_volume(path: VolumePlace) -> list[str]:
    """The same of a file that has these fields."""
    from tools.vmfs_look import lock_lines

    return [f"<START {path.name}>", *lock_lines(path.descriptor()), f"<END {path.name}>"]


def query(options: argparse.Namespace) -> None:
    from vmkernel.storage.raw_device import mapping

    found = mapping(options.target)
    if found is None:
        print(f"Disk {options.target} is not an rdm")
        return
    kind = "Passthrough" if found.is_passthrough else "non Pass through"
    print(f"Disk {options.target} is a {kind} Raw Device Mapping")
    unknown = f"LUN {found.lun}, which is no device known here"
    print(f"Maps to: {found.device if found.device is not None else unknown}")


def map_device(options: argparse.Namespace) -> None:
    from vmkernel.storage.raw_device import create_mapping
    from vmkernel.storage.vmdk.descriptor_spec import Adapter

    device = Path(options.rdm if options.rdm is not None else options.rdmp)
    create_mapping(options.target, device, passthrough=options.rdm is None, adapter=Adapter(options.adapter))


def complain(text: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"vmkfstools: {' '.join(text.split())}\n")
        sys.stderr.flush()


def run(arguments: Sequence[str]) -> int:
    """Whatever cannot be done is one line on stderr."""
    try:
        act(parser().parse_args(["--help"] if list(arguments) == ["-h"] else arguments))
        sys.stdout.flush()
        return 0
    except RingfenceError as error:
        complain(str(error))
    except BrokenPipeError:
        return STATUS_UNREAD
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        complain(f"{what}the host refused: {error.strerror or error}")
    except MemoryError:
        complain("the host has no memory left for this")
    return STATUS_BAD_INPUT


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: the exit status."""
    return as_process(lambda: run(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
