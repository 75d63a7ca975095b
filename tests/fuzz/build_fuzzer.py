"""Builds the fuzzing harness with the core's own sources: as a libFuzzer program, or one that replays files.

Objects are kept in the user's cache under a digest of all they follow from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "vmm" / "core"
HARNESS = HERE / "fuzz_core.c"
CORPUS = HERE / "corpus"
# Tail calls are not sure under a sanitizer, so ops are run by a loop. Guest operands need no alignment.
FLAGS = (
    "-std=gnu11", "-g", "-DRF_LOOP_DISPATCH", "-fno-strict-aliasing", "-fno-omit-frame-pointer",
    "-fno-sanitize=alignment", "-I", str(CORE),
)  # fmt: skip
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
FUZZER = ("clang", "-O2", "-fsanitize=fuzzer", *SANITIZE, "-Wno-atomic-alignment")
REPLAY = ("gcc", "-O1", *SANITIZE, "-DRF_FUZZ_MAIN")
LINK = ("-latomic",)
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


def sources() -> list[Path]:
    """The harness and the core, without the world executable's parts."""
    return [HARNESS, *(path for path in sorted(CORE.glob("*.c")) if not path.name.startswith("world"))]


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "ringfence" / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def build(command: tuple[str, ...]) -> Path:
    """The program for FUZZER or REPLAY. Raises CalledProcessError when a compiler refuses."""
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(command[0])
    headers = [path.read_bytes() for path in sorted(CORE.glob("*.h"))]
    flags = [*command, *FLAGS]
    folder = cache_folder()

    def compile_one(source: Path) -> Path:
        key = digest([repr(flags).encode(), source.name.encode(), source.read_bytes(), *headers])
        target = folder / f"{source.stem}-{key}.o"
        if not target.exists():
            partial = target.with_suffix(f".{os.getpid()}.o")
            subprocess.run([*flags, "-c", "-o", partial, source], check=True)
            partial.rename(target)
        return target

    with ThreadPoolExecutor(max_workers=2) as pool:
        objects = list(pool.map(compile_one, sources()))
    program = folder / f"{command[0]}-{digest([str(path).encode() for path in objects])}"
    if not program.exists():
        partial = program.with_suffix(f".{os.getpid()}")
        subprocess.run([*flags, "-o", partial, *objects, *LINK], check=True)
        partial.rename(program)
    return program
