"""Fuzzes the reader of VMFS: `python tests/fuzz/run_vmfs.py --seconds 600`, or `--volumes 1000000`.

Every volume is a seed: a specimen, damaged, then opened, walked and read. Anything raised but a named error, and what
hangs, is printed and ends the run with status 1. The same again: `--seed N`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.many import parser, run
from tests.fuzz.test_vmfs import examine_damaged

FIRST_SEED = 3_000_000


def main() -> int:
    return run(parser(__doc__, "--volumes", FIRST_SEED).parse_args(), examine_damaged, "volumes")


if __name__ == "__main__":
    sys.exit(main())
