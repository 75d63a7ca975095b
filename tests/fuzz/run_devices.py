"""Fuzzes the devices for a while: `python tests/fuzz/run_devices.py --seconds 600 [--device NAME ...]`.

Every run is a seed: random state, random guest memory, then a script of accesses. One that raises, hangs, leaves memory
pinned or stores beyond it is cut down to the accesses that matter and printed; the exit status is then 1.
The same again: `--device NAME --seed N`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conformance.board import Access
from tests.conformance.device_driver import Bench, accesses, no_hang, scribbled
from tests.conformance.device_list import DEVICES
from tests.conformance.specimen import Specimen

COUNT = 400
HANG_SECONDS = 60
FIRST_SEED = 1_000_000


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")


def start(specimen: Specimen, seed: int) -> Bench:
    """From random state or, for every third seed, from reset."""
    return scribbled(specimen, seed) if seed % 3 else Bench(specimen)


class Caught:
    """Notes whatever a device raises, which is what is looked for, and ends it."""

    what = ""

    def __enter__(self) -> Caught:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: object) -> bool:
        if isinstance(error, Exception):
            self.what = f"{type(error).__name__}: {error}"
        return isinstance(error, Exception)


def failure(specimen: Specimen, seed: int, script: list[Access]) -> str:
    """What goes wrong, or nothing."""
    with Caught() as caught, no_hang(HANG_SECONDS):
        start(specimen, seed).run(script)
    return caught.what


def shrunk(script: list[Access], fails: Callable[[list[Access]], str]) -> list[Access]:
    """The script without what can be left out, in pieces of falling size."""
    piece = len(script) // 2
    while piece:
        at = 0
        while at < len(script):
            shorter = script[:at] + script[at + piece :]
            if fails(shorter):
                script = shorter
            else:
                at += piece
        piece //= 2
    return script


def run(specimen: Specimen, seed: int) -> bool:
    script = accesses(specimen, seed, COUNT)
    what = failure(specimen, seed, script)
    if what:
        tell(f"{specimen.name}: --device {specimen.name} --seed {seed}: {what}")
        for access in shrunk(script, lambda shorter: failure(specimen, seed, shorter)):
            tell(f"    {access.what} {access.address:#x} width {access.width} value {access.value:#x}")
    return not what


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long to fuzz")
    parser.add_argument("--device", action="append", choices=[specimen.name for specimen in DEVICES])
    parser.add_argument("--seed", type=int, help="this one only")
    options = parser.parse_args()
    chosen = [specimen for specimen in DEVICES if not options.device or specimen.name in options.device]
    if options.seed is not None:
        return 1 if [specimen for specimen in chosen if not run(specimen, options.seed)] else 0
    end, seed = time.monotonic() + options.seconds, FIRST_SEED
    good, failed = 0, set[str]()
    while time.monotonic() < end and len(failed) < len(chosen):
        for specimen in chosen:
            if specimen.name not in failed:
                if run(specimen, seed):
                    good += 1
                else:
                    failed.add(specimen.name)
        seed += 1
    tell(f"{good} runs of {len(chosen)} devices; {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
