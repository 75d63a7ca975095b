"""The root file system of the Linux guests: busybox, /init and the modules of one kernel, as a newc cpio archive.

    bin/busybox, bin/sh, bin/lspci      Debian's static busybox; lspci in shell, which it lacks
    init                                init.sh
    dev/console                         so that the kernel can open it before devtmpfs is mounted
    lib/modules/VERSION/...             the closure of MODULES, modules.dep, modules.builtin, modules.order

The archive is written here, so making a device node needs no root. modules.dep is made from what each module says that
it depends on.
Source: Documentation/driver-api/early-userspace/buffer-format.rst; Documentation/admin-guide/module-signing.rst;
modules.dep(5).
"""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from elftools.elf.elffile import ELFFile

HERE = Path(__file__).resolve().parent
MODULES = (
    "pcnet32", "mptspi", "mptsas", "mptctl", "BusLogic", "ata_piix", "ata_generic", "sr_mod", "sd_mod", "sg", "isofs",
    "vmw_balloon", "vmxnet3", "vmw_pvscsi", "qemu_fw_cfg", "floppy", "i2c-piix4", "psmouse", "e1000", "sym53c8xx",
    "evdev", "loop", "parport_pc", "lp", "ext4", "crc32c_generic", "8021q",
)  # fmt: skip
TABLES = ("modules.builtin", "modules.order")
SIGNATURE_MARK = b"~Module signature appended~\n"
SIGNATURE_BLOCK_BYTES = 12
GZIP_LEVEL = 6

MAGIC = "070701"
TRAILER = "TRAILER!!!"
ALIGN = 4
CONSOLE = (5, 1)


@dataclass(slots=True)
class Cpio:
    """A newc archive in the making. All files belong to root and were changed in 1970."""

    out: bytearray = field(default_factory=bytearray)
    inode: int = 0
    folders: set[str] = field(default_factory=set)

    def folder(self, name: str) -> None:
        """A directory and those above it, once each."""
        for path in [*reversed(PurePosixPath(name).parents), PurePosixPath(name)]:
            if str(path) != "." and str(path) not in self.folders:
                self.folders.add(str(path))
                self._entry(str(path), stat.S_IFDIR | 0o755)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self.folder(str(PurePosixPath(name).parent))
        self._entry(name, stat.S_IFREG | mode, content)

    def link(self, name: str, target: str) -> None:
        self.folder(str(PurePosixPath(name).parent))
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name: str, device: tuple[int, int]) -> None:
        self.folder(str(PurePosixPath(name).parent))
        self._entry(name, stat.S_IFCHR | 0o600, device=device)

    def finish(self) -> bytes:
        self._entry(TRAILER, 0)
        return bytes(self.out)

    def _entry(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self.inode += 1
        path = name.encode() + b"\0"
        # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        numbers = (self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        self.out += (MAGIC + "".join(f"{number:08X}" for number in numbers)).encode()
        self.out += path
        self.out += bytes(-len(self.out) % ALIGN)
        self.out += content
        self.out += bytes(-len(self.out) % ALIGN)


def module_name(path: str) -> str:
    """A module's name: its file's, with underscores."""
    return PurePosixPath(path).stem.replace("-", "_")


def depends(module: bytes) -> list[str]:
    """The modules that this one says it needs."""
    section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
    assert section is not None, "every module has .modinfo"
    for line in section.data().split(b"\0"):
        if line.startswith(b"depends="):
            return [name.replace("-", "_") for name in line.removeprefix(b"depends=").decode().split(",") if name]
    return []


def strip_signature(module: bytes) -> bytes:
    """The module without the signature that is appended to it, if any."""
    if not module.endswith(SIGNATURE_MARK):
        return module
    block = module[: -len(SIGNATURE_MARK)][-SIGNATURE_BLOCK_BYTES:]
    return module[: -len(SIGNATURE_MARK) - SIGNATURE_BLOCK_BYTES - int.from_bytes(block[-4:], "big")]


class ModuleTree:
    """The modules of one kernel package."""

    def __init__(self, package: tarfile.TarFile) -> None:
        self.package = package
        self.paths = {module_name(name): name for name in package.getnames() if name.endswith(".ko")}
        self.root = next(name for name in package.getnames() if name.endswith("/modules.order")).rsplit("/", 1)[0]
        self.version = PurePosixPath(self.root).name

    def read(self, path: str) -> bytes:
        file = self.package.extractfile(path)
        assert file is not None, f"{path} is a plain file in the package"
        return file.read()

    def closure(self, names: tuple[str, ...]) -> tuple[dict[str, bytes], dict[str, list[str]]]:
        """The contents of these modules and of all that they need, and what each needs, by name."""
        contents: dict[str, bytes] = {}
        needs: dict[str, list[str]] = {}
        waiting = [name.replace("-", "_") for name in names]
        while waiting:
            name = waiting.pop()
            if name in contents or name not in self.paths:
                continue  # built into this flavour's kernel
            contents[name] = self.read(self.paths[name])
            needs[name] = depends(contents[name])
            waiting += needs[name]
        return contents, needs


def everything_needed(name: str, needs: dict[str, list[str]]) -> list[str]:
    """What a module needs, directly or not, the most basic last."""
    found: list[str] = []
    waiting = list(needs[name])
    while waiting:
        other = waiting.pop(0)
        if other in found:
            found.remove(other)
        found.append(other)
        waiting += needs[other]
    return found


def initramfs(kernel_package: tarfile.TarFile, busybox: bytes, *, signed: bool) -> bytes:
    """The gzipped archive for the kernel of this package; its modules as shipped, or without signatures."""
    tree = ModuleTree(kernel_package)
    contents, needs = tree.closure(MODULES)
    archive = Cpio()
    archive.character_device("dev/console", CONSOLE)
    archive.file("init", (HERE / "init.sh").read_bytes(), 0o755)
    archive.file("bin/busybox", busybox, 0o755)
    archive.file("bin/lspci", (HERE / "lspci.sh").read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    for name in ("proc", "sys", "tmp", "mnt", "root"):
        archive.folder(name)
    root = f"lib/modules/{tree.version}"
    inside = {name: tree.paths[name].removeprefix(tree.root + "/") for name in contents}
    lines = [f"{inside[name]}: {' '.join(inside[n] for n in everything_needed(name, needs))}" for name in contents]
    archive.file(f"{root}/modules.dep", "".join(f"{line.rstrip()}\n" for line in sorted(lines)).encode())
    for table in TABLES:
        archive.file(f"{root}/{table}", tree.read(f"{tree.root}/{table}"))
    for name in sorted(contents, key=inside.__getitem__):
        archive.file(f"{root}/{inside[name]}", contents[name] if signed else strip_signature(contents[name]))
    return gzip.compress(archive.finish(), GZIP_LEVEL, mtime=0)
