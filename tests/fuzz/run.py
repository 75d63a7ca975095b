"""Fuzzes the C core for a while: `python tests/fuzz/run.py --seconds 600`.

Needs clang with libFuzzer (Debian: clang, libclang-rt-dev). New inputs go to a working folder in the user's cache; a
crash, a hang or a broken invariant is written there too, named in the last lines, and makes the exit status 1.
Replay one with `python tests/fuzz/run.py --replay FILE`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz import build_fuzzer
from tests.fuzz.build_fuzzer import ENVIRONMENT

INPUT_BYTES_MAX = 1024
HANG_SECONDS = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600, help="how long to fuzz")
    parser.add_argument("--replay", type=Path, nargs="+", help="run these inputs once, with the sanitizers")
    options = parser.parse_args()
    environment = os.environ | ENVIRONMENT
    if options.replay:
        return subprocess.run([build_fuzzer.build(build_fuzzer.REPLAY), *options.replay], env=environment).returncode
    work = build_fuzzer.cache_folder() / "work"
    work.mkdir(exist_ok=True)
    command = [
        str(build_fuzzer.build(build_fuzzer.FUZZER)), f"-max_total_time={options.seconds}", f"-timeout={HANG_SECONDS}",
        f"-max_len={INPUT_BYTES_MAX}", "-print_final_stats=1", f"-artifact_prefix={work}/", str(work),
        str(build_fuzzer.CORPUS),
    ]  # fmt: skip
    return 1 if subprocess.run(command, env=environment).returncode else 0


if __name__ == "__main__":
    sys.exit(main())
