"""What the comparison with silicon found once, each as one case with the outcome written down.

These run without the host processor or Unicorn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.conformance import rules as d
from tests.conformance.fpu_images import CONTROL_WORDS, MXCSRS
from tests.conformance.harness import CASE, CODE_BASE, DATA_BASE, READ_ONLY_PAGE, USER_CODE, USER_DATA, InterpPeer

READ_ONLY = DATA_BASE + READ_ONLY_PAGE * 4096
STACK = DATA_BASE + 0x2000
TF, AC, RF, CLEAR = 0x100, 0x40000, 0x10000, 0x202


@dataclass(frozen=True)
class Case:
    """`code` at `at` in the code pages; what is None is not looked at."""

    name: str
    code: str
    trap: int
    eip: int | None = None  # from the start of the code
    error: int | None = None
    eflags: int | None = None
    registers: tuple[tuple[int, int], ...] = ()
    expect: tuple[tuple[int, int], ...] = ()
    flags: int = CLEAR
    at: int = 0x1000


CASES = (
    Case("LOCK on a register operand is #UD, and the flags before it are kept",
         "49 F0 35 08 00 00 00", d.UD, eip=1, eflags=CLEAR | RF, registers=((1, 0xFFFF),)),
    Case("flags made before an instruction of more than 15 bytes are kept", "2B D2" + " 66" * 14 + " 25 FF 4F",
         d.GP, eip=2, error=0, eflags=CLEAR | RF | 0x44),
    Case("a byte compare with a 66 prefix in front of a Jcc: EIP is not cut", "66 3C 00 74 02 CC CC 90", d.BP, eip=9,
         registers=((0, 0),)),
    Case("a Jcc with a 66 prefix cuts EIP to 16 bits", "3C 00 66 74 02", d.PF, error=0x14, registers=((0, 0),)),
    Case("LOCK Jcc behind a compare is #UD", "3C 00 F0 74 02", d.UD, eip=2, registers=((0, 0),)),
    Case("a compare whose Jcc crosses into the next page", "4E 74 04 CC CC CC CC 90", d.BP, eip=9, at=0x1FFE,
         registers=((6, 1),)),
    Case("POPF that clears TF is still followed by the trap", "9D", d.DB, eip=1, flags=CLEAR | TF,
         registers=((4, STACK),)),
    Case("no single-step trap after a load of SS", "8E D0 CC", d.BP, eip=3, flags=CLEAR | TF,
         registers=((0, USER_DATA),)),
    Case("ARPL that changes nothing does not write", "63 03", d.BP, eip=3, registers=((0, 0), (3, READ_ONLY))),
    Case("a shift by 0 asks for a writable operand", "D3 23", d.PF, error=7, registers=((1, 32), (3, READ_ONLY))),
    Case("so does SHLD", "0F A5 03", d.PF, error=7, registers=((1, 0), (3, READ_ONLY))),
    Case("REP OUTS with a count of 0 looks at the I/O permission first", "F3 6E", d.GP, eip=0, error=0,
         registers=((1, 0),)),
    Case("an 80-bit store is aligned to 8", "DB 3B", d.AC, eip=0, error=0, flags=CLEAR | AC,
         registers=((3, DATA_BASE + 4),)),
    Case("FNSTENV is aligned to 4", "D9 33", d.AC, eip=0, error=0, flags=CLEAR | AC, registers=((3, DATA_BASE + 2),)),
)  # fmt: skip


def run(interp: InterpPeer, case: Case) -> np.void:
    cases = np.zeros(1, CASE)
    one = cases[0]
    code = bytes.fromhex(case.code)
    one["sel"] = [USER_DATA, USER_CODE, USER_DATA, USER_DATA, USER_DATA, USER_DATA]
    one["r"][4] = STACK
    for index, value in case.registers:
        one["r"][index] = value
    one["eip"], one["eflags"], one["code_at"] = CODE_BASE + case.at, case.flags, case.at
    one["code"], one["code_length"] = code, len(code)
    one["fx"][0:2] = list(CONTROL_WORDS[0].to_bytes(2, "little"))
    one["fx"][24:28] = list(MXCSRS[0].to_bytes(4, "little"))
    return interp.run(cases)[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(interp: InterpPeer, case: Case) -> None:
    result = run(interp, case)
    assert result["trap"] == case.trap
    if case.eip is not None:
        assert result["eip"] - CODE_BASE - case.at == case.eip
    if case.error is not None:
        assert result["error"] == case.error
    if case.eflags is not None:
        assert result["eflags"] == case.eflags
    for index, value in case.expect:
        assert result["r"][index] == value


def test_enter_reads_an_old_frame_that_it_is_overwriting(interp: InterpPeer) -> None:
    """EBP = ESP: each copied frame pointer is one that was just pushed."""
    result = run(interp, Case("", "C8 00 00 04", d.BP, registers=((5, STACK),)))
    stores = {int(one["offset"]): int(one["value"]) for one in result["change"][: result["changes"]]}
    frame = STACK - 4
    assert stores[0x1FF8] == STACK << 32 | STACK
    assert stores[0x1FF0] == STACK << 32 | STACK
    assert result["r"][5] == frame
