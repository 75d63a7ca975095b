"""Finds the guest programs and builds them with the host's gcc and ld into the user's cache.

    guests/NAME/guest.toml      purpose = "one line", arguments = {word = "what it does"}, optional extra sources
    guests/NAME/*.c *.S         the program: a multiboot ELF when linked with guests/lib, or, where `boots = true`, the
                                image of a disk as disk.ld lays it out, in real mode, without the library
    ~/.cache/ringfence/guests/  NAME-KEY/NAME.elf: KEY is a digest of sources, flags and compiler version

A build happens in a folder of its own which is renamed into place, so concurrent builders never see half a file. A
program that hosts the workloads elsewhere (`native.c`, `flat.c`) is linked from the same `workloads.c`, compiled with
the same flags, so that a comparison runs the same object code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ringfence.errors import RingfenceError

HERE = Path(__file__).resolve().parent
LIBRARY = HERE / "lib"
COMPILER = os.environ.get("RINGFENCE_GUEST_CC", "gcc")
BUILD_TIMEOUT_S = 300

COMPILE_FLAGS = (
    "-m32", "-march=i686", "-mtune=generic", "-O2", "-g", "-std=gnu11", "-ffreestanding", "-fno-pic",
    "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer",
    "-fno-strict-aliasing", "-fno-tree-loop-distribute-patterns", "-Wall", "-Wextra", "-Werror",
)  # fmt: skip
LINK_FLAGS = (
    "-nostdlib", "-no-pie", "-static", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-z,max-page-size=4096",
)  # fmt: skip

REAL_MODE = ("-m16", "-Wl,--no-warn-rwx-segments")
FLAT = (".bin", ".img")  # images without their ELF

# Sources that belong to another host of the same workloads, never to the guest itself.
OTHER_HOSTS = frozenset({"native.c", "flat.c"})


class BuildFailed(RingfenceError):
    """The compiler, the linker or objcopy refused; the message carries what it said."""


class UnknownGuest(RingfenceError):
    """No guest, or no such build of it, has this name."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One program: `arguments` are the words it understands on its command line, each with its meaning."""

    name: str
    purpose: str
    folder: Path
    arguments: dict[str, str] = field(default_factory=dict)
    boots: bool = False  # firmware boots it from a disk


def list_guests() -> list[Guest]:
    """Every guest, by name. Raises BuildFailed when a guest.toml cannot be read."""
    return [_read_guest(path) for path in sorted(HERE.glob("*/guest.toml"))]


def build(name: str) -> Path:
    """The multiboot ELF of a guest, or its disk image, built if no build of these very sources is cached."""
    guest = _find(name)
    folder = guest.folder
    if guest.boots:
        return _cached(f"{name}.img", _sources(folder), (f"-I{folder}", *REAL_MODE), _required(folder, "disk.ld"))
    sources = _sources(LIBRARY) + [s for s in _sources(folder) if s.name not in OTHER_HOSTS]
    script = LIBRARY / "guest.ld"
    return _cached(f"{name}.elf", sources, (f"-I{LIBRARY}", f"-I{folder}"), script)


def build_native(name: str) -> Path:
    """The guest's workloads as a static 32-bit Linux program without a C library (`native.c`)."""
    folder = _find(name).folder
    sources = [_required(folder, "native.c"), _required(folder, "workloads.c"), LIBRARY / "division.c"]
    return _cached(f"{name}-native", sources, (f"-I{folder}",), None)


def build_flat(name: str) -> Path:
    """The guest's workloads as a raw image for a bare processor model (`flat.c`, laid out by `flat.ld`)."""
    folder = _find(name).folder
    sources = [_required(folder, "flat.c"), _required(folder, "workloads.c"), LIBRARY / "division.c"]
    return _cached(f"{name}.bin", sources, (f"-I{folder}",), _required(folder, "flat.ld"))


def cache_folder() -> Path:
    """Where builds are kept: $XDG_CACHE_HOME, if it is an absolute path, or ~/.cache. Raises BuildFailed."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # [XDG Base Directory Specification: such a path is invalid and ignored]
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise BuildFailed("no place for built guests: expected HOME or XDG_CACHE_HOME to be set") from error
    return base / "ringfence" / "guests"


def _read_guest(path: Path) -> Guest:
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
        boots = facts.get("boots", False)
        return Guest(path.parent.name, facts["purpose"], path.parent, facts.get("arguments", {}), boots)
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise BuildFailed(f'{path}: expected purpose = "...": {error}') from error


def _find(name: str) -> Guest:
    guests = {guest.name: guest for guest in list_guests()}
    if name not in guests:
        raise UnknownGuest(f"no guest is called {name!r}; there are {', '.join(guests)}")
    return guests[name]


def _sources(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.c"), *folder.glob("*.S")])


def _required(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise UnknownGuest(f"{folder.name} has no {name}, so it cannot be built that way")
    return path


@lru_cache
def _compiler_version() -> str:
    return _run([COMPILER, "--version"], "compiler").splitlines()[0]


def _run(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    except OSError as error:
        wanted = "expected a gcc for i386 programs; RINGFENCE_GUEST_CC names another"
        raise BuildFailed(f"{what}: cannot run {command[0]}: {error.strerror}: {wanted}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"{what}: {command[0]} was not done after {BUILD_TIMEOUT_S} s") from error
    if done.returncode != 0:
        raise BuildFailed(f"{what}: {command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _key(target: str, inputs: list[Path], flags: tuple[str, ...]) -> str:
    """A digest of everything that can change the output; headers and scripts of the folders involved included."""
    digest = hashlib.sha256()
    for text in (target, _compiler_version(), *flags):
        digest.update(text.encode() + b"\0")
    headers = {header for folder in {path.parent for path in inputs} for header in folder.glob("*.h")}
    for path in sorted(headers | set(inputs)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(HERE)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _cached(target: str, sources: list[Path], includes: tuple[str, ...], script: Path | None) -> Path:
    """Compile and link `sources` as `target` unless it is there. A FLAT target is the image without its ELF."""
    key = _key(target, [*sources, *([script] if script else [])], (*COMPILE_FLAGS, *LINK_FLAGS))
    place = cache_folder() / f"{target}-{key}"
    try:
        if _is_built(place / target):
            return place / target
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target}-", dir=place.parent))
    except OSError as error:
        raise BuildFailed(f"{target}: cannot use the cache {place.parent}: {error.strerror}") from error
    try:
        elf = scratch / (target[: -len(FLAT[0])] + ".flat.elf" if target.endswith(FLAT) else target)
        layout = [f"-Wl,-T,{script}"] if script else []
        names = [str(source) for source in sources]
        _run([COMPILER, *COMPILE_FLAGS, *includes, *LINK_FLAGS, *layout, "-o", str(elf), *names], target)
        if elf.name != target:
            _run(["objcopy", "-O", "binary", str(elf), str(scratch / target)], target)
        if not _is_built(scratch / target):
            raise BuildFailed(f"{target}: {COMPILER} said nothing and wrote nothing")
        _publish(scratch, place, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place / target


def _is_built(path: Path) -> bool:
    """An empty file is what a host that lost power makes of a build."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def _publish(scratch: Path, place: Path, target: str) -> None:
    """Rename into place. Another builder may have been faster: then its result, made from the same bytes, stands."""
    scratch.chmod(0o755)
    try:
        if place.is_dir() and not _is_built(place / target):
            shutil.rmtree(place)
        scratch.rename(place)
    except OSError as error:
        if not _is_built(place / target):
            raise BuildFailed(f"{place}: cannot be written: {error.strerror}") from error
