"""Fuzzes the disk formats: `python tests/fuzz/run_vmdk.py --seconds 600`, or `--images 1000000`.

Every image is a seed: a specimen, damaged, then read, checked, written or repaired, one of these; with --thorough all
of them in turn. Anything raised but a named error, and what hangs, is printed and ends the run with status 1.
The same again: `--seed N`, with --thorough where it was found so.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.many import parser, run
from tests.fuzz.test_vmdk import examine_damaged

FIRST_SEED = 2_000_000


def main() -> int:
    asked = parser(__doc__, "--images", FIRST_SEED)
    asked.add_argument("--thorough", action="store_true", help="put each image to every use")
    options = asked.parse_args()
    return run(options, partial(examine_damaged, thorough=options.thorough), "disks")


if __name__ == "__main__":
    sys.exit(main())
