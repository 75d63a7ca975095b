"""Fuzzes the NBD server for a while: `python tests/fuzz/run_nbd.py --seconds 600`.

Every run is a seed: a recorded client's session, damaged, and sent to a server in this process. Memory is limited, so
that an allocation which a client could make as large as it likes fails. What hangs, and any error but those of the
protocol, is printed and ends the run with status 1. The same again: `--seed N`.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.test_nbd import serve_hostile

BATCH = 500
MEMORY_BYTES = 2 << 30
FIRST_SEED = 2_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long to fuzz")
    parser.add_argument("--seed", type=int, help="this one only")
    options = parser.parse_args()
    os.fsync = os.fdatasync = os.fstat  # type: ignore[assignment]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    seeds = range(FIRST_SEED, 1 << 60, BATCH) if options.seed is None else range(options.seed, options.seed + 1)
    end, done = time.monotonic() + options.seconds, 0
    for first in seeds:
        batch = range(first, first + (BATCH if options.seed is None else 1))
        with tempfile.TemporaryDirectory() as folder:
            serve_hostile(Path(folder), batch)
        done += len(batch)
        if time.monotonic() > end:
            break
    sys.stdout.write(f"{done} damaged sessions\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
