"""CD images for the real guests, written by Debian's xorriso and grub-mkimage.

    data        files of awkward sizes and names, whose contents are known here: DATA_FILES
    isolinux    El Torito without emulation, ISOLINUX, a kernel and its initramfs
    grub        the same by GRUB; the image also boots as a hard disk, by its hybrid boot sector

The programs are i386 and run with the loader and libraries of their own packages, so the host needs none of them.
Source: ECMA-119; El Torito 1.0; xorrisofs(1); grub-mkimage(1); syslinux.cfg(5).
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.realguests.packages import PackagesUnavailable

TIMEOUT_S = 120
COMMAND_LINE = "console=ttyS0,115200 panic=-1 net.ifnames=0 nokaslr quiet cryptomgr.notests"
NO_EMULATION = ("-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")

# Names and lengths: around the sector's and the DMA transfer's ends, long names, a deep folder.
DATA_LENGTHS = {
    "empty": 0, "one": 1, "sector-less-one": 2047, "sector": 2048, "sector-and-one": 2049, "64k-and-one": 65537,
    "a rather long name, with spaces and Capitals.text": 5000, "deep/er/and/deeper/still/file": 12345,
    "megabyte": 1 << 20,
}  # fmt: skip

ISOLINUX_CFG = """\
SERIAL 0 115200
DEFAULT linux
PROMPT 0
LABEL linux
KERNEL /vmlinuz
INITRD /initrd.gz
APPEND {append}
"""
GRUB_CFG = """\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
echo "GRUB read its configuration"
linux /vmlinuz {append}
initrd /initrd.gz
echo "GRUB boots"
boot
"""
GRUB_BUILT_IN = ("biosdisk", "iso9660")
GRUB_READ = ("normal", "linux", "echo", "serial", "terminal", "boot")
GRUB_LISTS = ("command.lst", "fs.lst", "crypto.lst", "terminal.lst")


@dataclass(frozen=True, slots=True)
class Boot:
    """What a boot loader is to load: a kernel, its initramfs and its command line."""

    kernel: Path
    initrd: Path
    append: str


@dataclass(frozen=True, slots=True)
class Programs:
    """The unpacked packages of the programs, and what they need, in one folder."""

    root: Path

    def run(self, name: str, *arguments: str | Path) -> None:
        """Run usr/bin/`name`. Raises PackagesUnavailable when the host cannot run it."""
        libraries = ":".join(str(self.root / part) for part in ("lib/i386-linux-gnu", "usr/lib/i386-linux-gnu"))
        loader = self.root / "lib/i386-linux-gnu/ld-linux.so.2"
        command = [loader, "--library-path", libraries, self.root / "usr/bin" / name, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PackagesUnavailable(f"{name} (i386) does not run here: {error}") from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise PackagesUnavailable(f"{name} failed: {said[-1]}")


def data_bytes(name: str) -> bytes:
    """What the data CD holds under a name of DATA_LENGTHS."""
    return hashlib.shake_128(name.encode()).digest(DATA_LENGTHS[name])


def data_sums() -> dict[str, str]:
    """SHA-256 of every file on the data CD."""
    return {name: hashlib.sha256(data_bytes(name)).hexdigest() for name in DATA_LENGTHS}


def mkisofs(programs: Programs, out: Path, options: Sequence[str], files: dict[str, Path]) -> None:
    """An ISO 9660 image with Rock Ridge and Joliet names: `files` by their names on the CD."""
    grafts = [f"{name}={path}" for name, path in files.items()]
    programs.run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-o", out, *options, "-graft-points", *grafts)


def data_iso(programs: Programs, out: Path, scratch: Path) -> None:
    """The data CD."""
    files = {}
    for number, name in enumerate(DATA_LENGTHS):
        files[name] = scratch / str(number)
        files[name].write_bytes(data_bytes(name))
    mkisofs(programs, out, ("-V", "RINGFENCE_DATA"), files)


def isolinux_iso(programs: Programs, out: Path, scratch: Path, isolinux: Path, syslinux: Path, boot: Boot) -> None:
    """A CD that boots by ISOLINUX; the folders are those of the unpacked packages."""
    configuration = scratch / "isolinux.cfg"
    configuration.write_text(ISOLINUX_CFG.format(append=boot.append), encoding="ascii")
    files = {
        "isolinux/isolinux.bin": isolinux / "usr/lib/ISOLINUX/isolinux.bin",
        "isolinux/ldlinux.c32": syslinux / "usr/lib/syslinux/modules/bios/ldlinux.c32",
        "isolinux/isolinux.cfg": configuration, "vmlinuz": boot.kernel, "initrd.gz": boot.initrd,
    }  # fmt: skip
    options = ("-V", "RINGFENCE_BOOT", "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", *NO_EMULATION)
    mkisofs(programs, out, options, files)


def grub_closure(moddep: str, names: Sequence[str]) -> list[str]:
    """These modules and all that they need; `moddep` has a line "module: needs needs" for each."""
    needs = {name: rest.split() for name, _, rest in (line.partition(":") for line in moddep.splitlines())}
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            waiting += needs[name]
    return sorted(found)


def grub_iso(programs: Programs, out: Path, scratch: Path, grub: Path, boot: Boot) -> None:
    """A CD, or hard disk, that boots by GRUB; its modules are read from the image."""
    modules = grub / "usr/lib/grub/i386-pc"
    configuration, core = scratch / "grub.cfg", scratch / "eltorito.img"
    configuration.write_text(GRUB_CFG.format(append=boot.append), encoding="ascii")
    programs.run(
        "grub-mkimage", "-O", "i386-pc-eltorito", "-d", modules, "-p", "/boot/grub", "-o", core, *GRUB_BUILT_IN
    )
    names = [*GRUB_LISTS, *(f"{name}.mod" for name in grub_closure((modules / "moddep.lst").read_text(), GRUB_READ))]
    files = {f"boot/grub/i386-pc/{name}": modules / name for name in names}
    files |= {"boot/grub/eltorito.img": core, "boot/grub/grub.cfg": configuration, "vmlinuz": boot.kernel,
              "initrd.gz": boot.initrd}  # fmt: skip
    options = (
        "-V", "RINGFENCE_GRUB", "-b", "boot/grub/eltorito.img", "-c", "boot/boot.cat", *NO_EMULATION,
        "--grub2-boot-info", "--grub2-mbr", str(modules / "boot_hybrid.img"),
    )  # fmt: skip
    mkisofs(programs, out, options, files)
