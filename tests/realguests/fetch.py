"""The real guests: every file that the tests and benchmarks boot, made from Debian's packages on first use.

`python -m tests.realguests.fetch` makes them and prints where they are; `--refresh` looks for newer packages.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from ringfence.errors import RingfenceError
from tests.realguests import iso
from tests.realguests.cache import alone, built, folder
from tests.realguests.initramfs import initramfs
from tests.realguests.packages import KERNELS, Packages, PackagesUnavailable, fetch_packages, opened, unpack
from tests.realguests.rawkernel import raw_kernel, vmlinux

FLAVOURS = tuple(KERNELS)
STOCK, RAW, ELF = "vmlinuz", "vmlinuz.raw", "vmlinux"
INITRAMFS, SIGNED_INITRAMFS = "initramfs.cpio.gz", "initramfs-signed.cpio.gz"
KERNEL_RECIPE = ("fetch.py", "initramfs.py", "init.sh", "lspci.sh", "rawkernel.py", "packages.py")
ISO_RECIPE = ("fetch.py", "iso.py")


@cache
def fetched() -> Packages | PackagesUnavailable:
    """Tried once: a host without network would wait for each test anew."""
    try:
        with alone("packages"):
            return fetch_packages(folder())
    except PackagesUnavailable as error:
        return error


def packages() -> Packages:
    """The packages that everything here is made of. Raises PackagesUnavailable, as all below."""
    found = fetched()
    if isinstance(found, PackagesUnavailable):
        raise found
    return found


def unpacked(name: str) -> Path:
    """The files of one of the small packages."""
    return built(name, packages().identity(name), (), lambda into: unpack(packages().files[name], into))


def kernel(flavour: str) -> Path:
    """The folder with STOCK, RAW, ELF, INITRAMFS and SIGNED_INITRAMFS of one of FLAVOURS."""
    name = KERNELS[flavour]

    def build(into: Path) -> None:
        busybox = (unpacked("busybox-static") / "bin/busybox").read_bytes()
        with opened(packages().files[name], into) as package:
            member = next(m for m in package.getmembers() if m.name.startswith("./boot/vmlinuz-"))
            file = package.extractfile(member)
            assert file is not None, f"{member.name} is a plain file"
            image = file.read()
            (into / STOCK).write_bytes(image)
            (into / RAW).write_bytes(raw_kernel(image))
            (into / ELF).write_bytes(vmlinux(image))
            (into / INITRAMFS).write_bytes(initramfs(package, busybox, signed=False))
            (into / SIGNED_INITRAMFS).write_bytes(initramfs(package, busybox, signed=True))

    return built(f"linux-{flavour}", packages().identity(name, "busybox-static"), KERNEL_RECIPE, build)


def programs() -> iso.Programs:
    """xorriso and grub-mkimage."""
    files = packages().programs

    def build(into: Path) -> None:
        for file in files:
            unpack(file, into)

    return iso.Programs(built("programs", " ".join(file.name for file in files), (), build))


def image(name: str, inputs: str, write: Callable[[Path, Path], None]) -> Path:
    """A CD image: `write` is given its path and a folder to work in."""

    def build(into: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder()) as scratch:
            write(into / f"{name}.iso", Path(scratch))

    return built(name, inputs, ISO_RECIPE, build) / f"{name}.iso"


def data_iso() -> Path:
    return image("data", "", lambda out, scratch: iso.data_iso(programs(), out, scratch))


def isolinux_iso(flavour: str, append: str, *, stock: bool = False) -> Path:
    """Boots the kernel (RAW, or STOCK with signed modules) with iso.COMMAND_LINE and `append`."""
    loader, modules = unpacked("isolinux"), unpacked("syslinux-common")
    boot = boot_files(flavour, append, stock=stock)
    return image(
        f"isolinux-{flavour}", f"{loader} {modules} {boot}",
        lambda out, scratch: iso.isolinux_iso(programs(), out, scratch, loader, modules, boot),
    )  # fmt: skip


def grub_iso(flavour: str, append: str, *, stock: bool = False) -> Path:
    """The same by GRUB, from CD or from hard disk."""
    loader = unpacked("grub-pc-bin")
    boot = boot_files(flavour, append, stock=stock)
    return image(
        f"grub-{flavour}", f"{loader} {boot}",
        lambda out, scratch: iso.grub_iso(programs(), out, scratch, loader, boot),
    )  # fmt: skip


def boot_files(flavour: str, append: str, *, stock: bool = False) -> iso.Boot:
    """The kernel and initramfs that belong together, and the whole command line."""
    files = kernel(flavour)
    line = f"{iso.COMMAND_LINE} {append}".strip()
    if stock:
        return iso.Boot(files / STOCK, files / SIGNED_INITRAMFS, line)
    return iso.Boot(files / RAW, files / INITRAMFS, line)


def memtest() -> Path:
    """memtest86+ for a loader of the Linux boot protocol."""
    return unpacked("memtest86+") / "boot/memtest86+ia32.bin"


def memtest_iso() -> Path:
    """memtest86+ as the bootable CD that Debian ships."""
    return unpacked("memtest86+") / "usr/lib/memtest86+/memtest86+ia32.iso"


def seabios(name: str = "bios-256k.bin") -> Path:
    """A firmware image or VGA BIOS of Debian's seabios."""
    return unpacked("seabios") / "usr/share/seabios" / name


def video_bios() -> Path:
    """The video BIOS that fits our display adapter, from the same package."""
    return seabios("vgabios-vmware.bin")


def everything() -> dict[str, Path]:
    """Make all that does not depend on a command line, two kernels at a time."""
    packages()
    with ThreadPoolExecutor() as pool:
        kernels = dict(zip(FLAVOURS, pool.map(kernel, FLAVOURS), strict=True))
        rest = {"data CD": pool.submit(data_iso), "seabios": pool.submit(seabios), "memtest86+": pool.submit(memtest),
                "memtest86+ CD": pool.submit(memtest_iso)}  # fmt: skip
        found = {f"Linux {flavour}": path for flavour, path in kernels.items()}
        return found | {name: making.result() for name, making in rest.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.realguests.fetch", description=__doc__)
    parser.add_argument("--refresh", action="store_true", help="look for newer packages")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        if options.refresh:
            with alone("packages"):
                fetch_packages(folder(), refresh=True)
        for name, path in everything().items():
            sys.stdout.write(f"{name}: {path}\n")
    except RingfenceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{time.monotonic() - started:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
