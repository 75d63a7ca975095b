"""The guest that drives network adapters, on another machine's: QEMU's Am79C970A, with QEMU's own host behind it."""

from __future__ import annotations

from guests import build
from tests.guests import qemu


def test_the_registers_and_rings_are_those_of_another_pcnet() -> None:
    qemu.need_qemu()
    run = qemu.run(
        build("net"), append="adapters=1 host",
        options=("-netdev", "user,id=n0,restrict=on", "-device", "pcnet,netdev=n0,romfile="),
    )  # fmt: skip
    assert run.starting("FAIL") == run.starting("SKIP") == []
    assert run.lines[-1] == "DONE 11 passed, 0 failed" and run.status == qemu.PASSED
