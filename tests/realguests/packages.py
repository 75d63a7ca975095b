"""Debian packages for the real guests, fetched with apt into a private root that belongs to the user.

    apt/        sources, lists and status of the private root; nothing of the host's apt is read or changed
    debs/       the packages as downloaded
    debs.json   the names of the files that belong together, written last

apt checks the archive's signature with Debian's keyring and every package against the signed lists. Everything is i386
or architecture-independent: the programs that build images come from the same lists and run on any x86 Linux host.
Once complete, the set is used without apt or network until it is fetched anew.
Source: apt.conf(5), sources.list(5), apt-get(8).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ringfence.errors import RingfenceError

SUITE = "bookworm"
HOST_SOURCES = Path("/etc/apt")
ARCHIVE = re.compile(r"https?://\S+/debian/?(?=\s|$)")
KEYRINGS = tuple(
    Path("/usr/share/keyrings") / name for name in ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")
)
KERNELS = {"686": "linux-image-686", "686-pae": "linux-image-686-pae"}
GUESTS = ("busybox-static", "memtest86+", "isolinux", "syslinux-common", "grub-pc-bin", "seabios")
PROGRAMS = ("xorriso", "grub-common")
TIMEOUT_S = 600

CONFIGURATION = """\
Dir "{root}";
Dir::Etc "{root}/etc";
Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
APT::Architecture "i386";
APT::Architectures {{ "i386"; }};
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
"""
PROXY_SETTINGS = ("Acquire::http::Proxy", "Acquire::https::Proxy")


class PackagesUnavailable(RingfenceError):
    """The packages cannot be had on this host: why, in one line."""


@dataclass(frozen=True, slots=True)
class Packages:
    """Package files by name. A kernel stands under its flavour's metapackage, `programs` under their own names."""

    files: dict[str, Path]
    programs: tuple[Path, ...]

    def identity(self, *names: str) -> str:
        """Names and versions of these packages: what a build out of them depends on."""
        return " ".join(self.files[name].name for name in names)


def fetch_packages(folder: Path, *, refresh: bool = False) -> Packages:
    """The packages, downloaded unless `folder` has them all. Raises PackagesUnavailable."""
    index = folder / "debs.json"
    if not refresh and (kept := read_index(index)) is not None:
        return kept
    keyring = next((path for path in KEYRINGS if path.exists()), None)
    if keyring is None:
        raise PackagesUnavailable(f"{KEYRINGS[0]} is missing (package debian-archive-keyring)")
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise PackagesUnavailable(f"{program} is not installed, which fetches Debian's packages")
    apt = Apt(folder / "apt", keyring)
    apt.run("apt-get", "-q", "update")
    kernels = {meta: apt.dependency(meta) for meta in KERNELS.values()}
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        apt.run("apt-get", "-q", "download", *kernels.values(), *GUESTS, cwd=Path(fresh))
        apt.run("apt-get", "-q", "--yes", "--download-only", "install", *PROGRAMS)
        downloaded = keep(sorted(Path(fresh).glob("*.deb")), folder / "debs")
        programs = keep(sorted((apt.root / "cache" / "archives").glob("*.deb")), folder / "debs")
    wanted = kernels | {name: name for name in GUESTS}
    files = {key: next(file for file in downloaded if file.startswith(f"{name}_")) for key, name in wanted.items()}
    scratch = index.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps({"files": files, "programs": programs}, indent=1), encoding="utf-8")
    scratch.replace(index)
    kept = read_index(index)
    if kept is None:
        raise PackagesUnavailable(f"{folder}: packages were downloaded, and are gone")
    return kept


def archive(sources: Path = HOST_SOURCES) -> str:
    """A Debian archive: RINGFENCE_DEBIAN_MIRROR, or the host's own apt's. Raises PackagesUnavailable."""
    if named := os.environ.get("RINGFENCE_DEBIAN_MIRROR"):
        return named
    for path in (sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))):
        with suppress(OSError, UnicodeDecodeError):
            for line in path.read_text(encoding="utf-8").splitlines():
                found = None if line.lstrip().startswith("#") else ARCHIVE.search(line)
                if found is not None:
                    return found[0]
    raise PackagesUnavailable("no Debian archive in this host's apt sources: name one in RINGFENCE_DEBIAN_MIRROR")


def read_index(index: Path) -> Packages | None:
    """The set that is there, or None when anything of it is missing."""
    try:
        facts = json.loads(index.read_text(encoding="utf-8"))
        files = {name: index.parent / "debs" / file for name, file in facts["files"].items()}
        programs = tuple(index.parent / "debs" / file for file in facts["programs"])
    except (OSError, ValueError, KeyError):
        return None
    complete = files.keys() >= {*KERNELS.values(), *GUESTS} and all(p.exists() for p in (*files.values(), *programs))
    return Packages(files, programs) if complete else None


def keep(files: list[Path], folder: Path) -> list[str]:
    """Move these into the folder; their names."""
    folder.mkdir(exist_ok=True)
    for file in files:
        shutil.move(file, folder / file.name)
    return [file.name for file in files]


class Apt:
    """apt with a root of its own."""

    def __init__(self, root: Path, keyring: Path) -> None:
        self.root = root
        if '"' in str(root) or any(c.isspace() for c in str(root)):
            raise PackagesUnavailable(f"{root}: apt takes no folder name with spaces or quotes")
        for folder in ("etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "state/lists/partial",
                       "cache/archives/partial"):  # fmt: skip
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "state" / "status").touch()
        settings = CONFIGURATION.format(root=root) + host_proxies()
        (root / "apt.conf").write_text(settings, encoding="utf-8")
        source = f"deb [signed-by={keyring}] {archive()} {SUITE} main\n"
        (root / "etc" / "sources.list").write_text(source, encoding="utf-8")

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """What the command printed. Raises PackagesUnavailable with its first complaint."""
        environment = {**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PackagesUnavailable(f"{command[0]}: {error}") from error
        complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W: Failed to fetch"))]
        if done.returncode or complaints:
            what = next(iter(complaints), f"exit status {done.returncode}")
            raise PackagesUnavailable(f"{' '.join(command[:3])}: {what}")
        return done.stdout

    def dependency(self, meta: str) -> str:
        """The versioned package that a metapackage stands for."""
        for line in self.run("apt-cache", "show", meta).splitlines():
            if line.startswith("Depends: "):
                return line.removeprefix("Depends: ").split()[0].rstrip(",")
        raise PackagesUnavailable(f"{meta}: expected a package that depends on the kernel proper")


def host_proxies() -> str:
    """The proxies that the host's own apt uses."""
    lines = []
    for setting in PROXY_SETTINGS:
        command = ["apt-config", "shell", "V", setting]
        shell = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if shell.startswith("V="):
            lines.append(f'{setting} "{shell[2:].strip().strip(chr(39))}";\n')
    return "".join(lines)


def unpack(deb: Path, into: Path) -> None:
    """The whole of a small package."""
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "--extract", deb, into], check=True, capture_output=True, timeout=TIMEOUT_S)


@contextmanager
def opened(deb: Path, scratch: Path) -> Iterator[tarfile.TarFile]:
    """The files of a large package, by their names in its archive ("./boot/..."), without unpacking them all."""
    scratch.mkdir(parents=True, exist_ok=True)
    archive = scratch / f"{deb.name}.tar"
    try:
        with archive.open("wb") as out:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], stdout=out, check=True, timeout=TIMEOUT_S)
        with tarfile.open(archive, "r:") as tar:
            yield tar
    finally:
        archive.unlink(missing_ok=True)
