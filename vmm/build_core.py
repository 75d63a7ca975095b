"""Builds vmm._core: the C core as a cffi extension in API mode, with the world executable inside it.

The shared headers are the single source of every layout, so the cdef is not written down: it is what the C
preprocessor makes of CDEF_HEADERS with RF_CDEF defined, plus one constant for each `#define NAME number` in them.

The same sources are compiled twice. As the extension they are the interp engine, the shadow page table and the
tests' view of both. Linked with world*.c, without libc, they are the world executable, whose image is embedded as
`lib.world_image` (`lib.world_image_size` bytes; 0 where the host cannot run a world).

Environment:
    RINGFENCE_WERROR=1              a warning in the core is an error (lint and test; never in an installation)
    RINGFENCE_SANITIZE=a[,b]        -fsanitize=a,b for the extension; tests then preload libasan (CONTRIBUTING.md)

Only gcc (or clang) and the Python headers are needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from cffi import FFI
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "vmm" / "core"

# In the order in which the declarations depend on one another; one that does not exist is left out.
CDEF_HEADERS = ["core.h", "interrupts.h", "shadow_api.h", "host_offers.h", "nic_rings.h"]

WARNINGS = ["-Wall", "-Wextra", "-Wconversion"]
# No stack protector and no CET: both would put calls and landing pads between an op and its sibling call.
CODE_FLAGS = [
    "-O2",
    "-g",
    "-fno-strict-aliasing",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-foptimize-sibling-calls",
    "-U_FORTIFY_SOURCE",
]
EXTENSION_FLAGS = ["-std=gnu11", *CODE_FLAGS, "-fno-plt", "-fvisibility=hidden"]
WORLD_FLAGS = ["-std=gnu11", *CODE_FLAGS, "-ffreestanding", "-fno-builtin", "-fPIE", "-DRF_WORLD"]
WORLD_LINK = [
    "-static-pie",
    "-nostdlib",
    "-nostartfiles",
    "-Wl,--no-dynamic-linker",
    "-Wl,-z,noexecstack",
    # Text and constants in a segment of their own, and nothing else in its 2 MiB: world_text.c.
    "-Wl,-z,noseparate-code",
    "-Wl,-z,max-page-size=0x200000",
    "-Wl,--build-id=none",
]

# x86 only: other hosts run the interpreter without a host x87/SSE unit and never a world.
if platform.machine() not in {"x86_64", "i686"}:
    CODE_FLAGS.remove("-fcf-protection=none")
    EXTENSION_FLAGS.remove("-fcf-protection=none")

EMBED = r"""
#ifdef RF_WORLD_IMAGE
__asm__(
	".pushsection .rodata\n.balign 4096\n"
	"rf_world_start:\n.incbin \"" RF_WORLD_IMAGE "\"\nrf_world_end:\n.balign 8\n"
	".globl rf_world\n.hidden rf_world\n.set rf_world, rf_world_start\n"
	".globl world_image_size\n.hidden world_image_size\nworld_image_size:\n.quad rf_world_end - rf_world_start\n"
	".popsection\n");
extern const unsigned char rf_world[];
extern const unsigned long world_image_size;
static const unsigned char *const world_image = rf_world;
#else
static const unsigned char *const world_image = (const unsigned char *)"";
static const unsigned long world_image_size = 0;
#endif
"""
EMBED_CDEF = "extern const unsigned char *const world_image;\nextern const unsigned long world_image_size;\n"


def compiler() -> list[str]:
    """The C compiler and its leading arguments: $CC, or what Python was built with, or gcc."""
    return shlex.split(os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "gcc"))


def core_sources(*, world: bool = False) -> list[Path]:
    """The core's C files, sorted; world*.c only for the world executable."""
    return [path for path in sorted(CORE.glob("*.c")) if world or not path.name.startswith("world")]


def shared_headers() -> list[str]:
    return [name for name in CDEF_HEADERS if (CORE / name).exists()]


def cdef() -> str:
    """The declarations of the shared headers, as cffi reads them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("stdint.h", "stddef.h", "stdbool.h"):
            (Path(folder) / name).touch()
        unit = "".join(f'#include "{name}"\n' for name in shared_headers())
        flags = ["-E", "-P", "-DRF_CDEF", "-nostdinc", "-isystem", folder, "-I", str(CORE), "-x", "c", "-"]
        text = subprocess.run([*compiler(), *flags], input=unit, capture_output=True, text=True, check=True).stdout
    constants = "".join(f"#define {name} ...\n" for name in constant_macros())
    return constants + text + EMBED_CDEF


def constant_macros() -> list[str]:
    """Names of the shared headers' macros that stand for one integer."""
    pattern = re.compile(
        r"^#define[ \t]+([A-Za-z]\w*)[ \t]+\(?-?(?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*\)?[ \t]*(?:/\*.*)?$", re.M
    )
    return [name for header in shared_headers() for name in pattern.findall((CORE / header).read_text())]


def make_ffi() -> FFI:
    builder = FFI()
    builder.cdef(cdef())
    builder.set_source(
        "vmm._core",
        "".join(f'#include "{name}"\n' for name in shared_headers()) + EMBED,
        sources=[str(path.relative_to(ROOT)) for path in core_sources()],
        include_dirs=["vmm/core"],
        extra_compile_args=list(EXTENSION_FLAGS),
        depends=[str(path.relative_to(ROOT)) for path in sorted(CORE.glob("*.[chS]"))] + ["vmm/build_core.py"],
    )
    return builder


def can_run_worlds() -> bool:
    return platform.machine() == "x86_64" and any(CORE.glob("world*.c"))


def build_world(image: Path) -> None:
    """Link the world executable, stripped, at `image`; only what changed is compiled."""
    objects = image.parent / "world.o"
    objects.mkdir(parents=True, exist_ok=True)
    flags = [*WORLD_FLAGS, *WARNINGS, *strict_flags(), "-I", str(CORE)]
    paths = []
    for source in [*core_sources(world=True), *sorted(CORE.glob("world*.S"))]:
        path = objects / f"{source.name}.o"
        key = build_key(source, flags)
        if not is_fresh(path, key):
            subprocess.run([*compiler(), *flags, "-c", "-o", str(path), str(source)], check=True)
            note_key(path, key)
        paths.append(str(path))
    subprocess.run([*compiler(), *WORLD_FLAGS, *WORLD_LINK, "-s", "-o", str(image), *paths], check=True)


def strict_flags() -> list[str]:
    return ["-Werror"] if os.environ.get("RINGFENCE_WERROR") == "1" else []


def build_key(source: Path, flags: list[str]) -> str:
    """A digest of all that an object file follows from. Contents, not times: a file may change while it is compiled."""
    key = hashlib.sha256(repr(flags).encode())
    for path in (source, *sorted(CORE.glob("*.h"))):
        key.update(path.read_bytes())
    return key.hexdigest()


def is_fresh(obj: Path, key: str) -> bool:
    note = obj.with_suffix(".key")
    return obj.exists() and note.exists() and note.read_text() == key


def note_key(obj: Path, key: str) -> None:
    obj.with_suffix(".key").write_text(key)


class BuildCore(build_ext):
    """build_ext that embeds the world, warns about the core alone, and recompiles only what changed."""

    def finalize_options(self) -> None:
        """One build folder for all ways to build, so that an installation and `make build` share their objects."""
        super().finalize_options()
        variant = "-".join(filter(None, ["core", *strict_flags(), os.environ.get("RINGFENCE_SANITIZE", "")]))
        self.build_temp = str(ROOT / "build" / f"{variant}-{sysconfig.get_platform()}")

    def run(self) -> None:
        """One build at a time in a build folder: others wait for its lock."""
        self.force = True  # what is fresh is decided file by file, below
        Path(self.build_temp).mkdir(parents=True, exist_ok=True)
        with (Path(self.build_temp) / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            super().run()

    def build_extension(self, ext: Any) -> None:
        """Compile and link `ext`; the core's own files get its warnings."""
        sanitize = os.environ.get("RINGFENCE_SANITIZE")
        extra = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"] if sanitize else []
        ext.extra_compile_args += extra
        ext.extra_link_args += extra
        if can_run_worlds():
            image = (Path(self.build_temp) / "world").resolve()
            build_world(image)
            ext.define_macros.append(("RF_WORLD_IMAGE", f'"{image}"'))
        compile_one = self.compiler._compile

        def compile_if_stale(
            obj: str, src: str, suffix: str, cc_args: list[str], post: list[str], pp: list[str]
        ) -> None:
            source = Path(src).resolve()
            if source.parent != CORE:
                compile_one(obj, src, suffix, cc_args, post, pp)
                return
            flags = [*post, *WARNINGS, *strict_flags()]
            key = build_key(source, [*self.compiler.compiler_so, *cc_args, *flags, *pp])
            if not is_fresh(Path(obj), key):
                compile_one(obj, src, suffix, cc_args, flags, pp)
                note_key(Path(obj), key)

        self.compiler._compile = compile_if_stale
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one


ffibuilder = make_ffi()
