"""The device fuzzer finds what is wrong, cuts it down, and says how to see it again."""

from __future__ import annotations

import pytest

from hw.parallel import Parallel
from tests.conformance.board import Access
from tests.conformance.device_list import DEVICES
from tests.fuzz import run_devices

PARALLEL = next(specimen for specimen in DEVICES if specimen.name == "parallel")


def test_a_good_device_passes() -> None:
    assert run_devices.run(PARALLEL, 3)


def test_a_broken_device_is_cut_down_to_one_access(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising(self: Parallel) -> None:
        raise ValueError("broken strobe")

    monkeypatch.setattr(Parallel, "_strobe", raising)
    seed = next(seed for seed in range(3, 300, 3) if run_devices.failure(PARALLEL, seed, script(seed)))
    assert not run_devices.run(PARALLEL, seed)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"parallel: --device parallel --seed {seed}: ValueError: broken strobe"
    assert len(lines) == 2


def script(seed: int) -> list[Access]:
    return run_devices.accesses(PARALLEL, seed, run_devices.COUNT)
