"""The guest `smp` with several processors, here and on QEMU's PC."""

from __future__ import annotations

import pytest

from guests import build
from tests.guests import qemu
from tests.guests.test_guests_on_interp import DONE, LIMIT_S, ringfence
from tests.guests.test_guests_on_qemu import check_verdict


@pytest.mark.parametrize("processors", [2, 4])
def test_smp_passes_here(processors: int) -> None:
    append = f"quick cpus={processors}"
    done = ringfence("run", "smp", "--vcpus", str(processors), "--append", append, "--timeout", str(LIMIT_S - 10))
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith(("FAIL", "SKIP"))] == []
    assert f"{processors} processors" in lines
    assert DONE.fullmatch(lines[-1]), f"the last line is {lines[-1]!r}; stderr: {done.stderr}"
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("processors", [2, pytest.param(4, marks=pytest.mark.long)])
def test_smp_passes_on_qemu(processors: int) -> None:
    qemu.need_qemu()
    run = qemu.run(build("smp"), append=f"quick cpus={processors}", options=("-smp", str(processors)))
    assert check_verdict(run) > 0
    assert f"{processors} processors" in run.lines
