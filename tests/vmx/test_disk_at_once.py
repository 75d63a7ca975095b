"""Small transfers on the vCPU's thread: after a slow write the workers have them for a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.scsi.backing import OutOfSpace
from tests.vmx.scsi_machine import make_disk
from vmkernel.storage.chain import open_disk
from vmx import scsi_disk
from vmx.scsi_disk import SLOW_NS, SPARED_WRITES, ChainBacking


class SlowChain:
    """A chain whose writes take what `takes_ns` says, on a clock of its own."""

    size_bytes, writable = 1 << 20, True

    def __init__(self) -> None:
        self.now_ns = self.takes_ns = self.writes = 0

    def write_at_once(self, offset: int, views: object) -> bool:
        self.now_ns += self.takes_ns
        self.writes += 1
        return True

    def monotonic_ns(self) -> int:
        return self.now_ns


def test_after_a_slow_write_others_are_not_tried_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = SlowChain()
    monkeypatch.setattr(scsi_disk, "time", chain)
    backing = ChainBacking(chain, "scsi0:0")  # type: ignore[arg-type]
    chain.takes_ns = SLOW_NS
    assert all(backing.write_at_once(0, []) for _ in range(10))
    chain.takes_ns += 1
    assert backing.write_at_once(0, []), "it is written all the same"
    chain.takes_ns = 0
    assert [backing.write_at_once(0, []) for _ in range(SPARED_WRITES + 1)] == [False] * SPARED_WRITES + [True]
    assert chain.writes == 12


def test_a_full_host_is_for_the_worker_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with open_disk(make_disk(tmp_path / "disk.vmdk"), writable=True) as chain:
        backing, sector = ChainBacking(chain, "scsi0:0"), [memoryview(bytes(512))]
        backing.write(0, sector)
        assert backing.write_at_once(0, sector)
        with monkeypatch.context() as patch:
            patch.setattr("os.pwritev", full)
            assert not backing.write_at_once(0, sector) and not backing.trouble
            with pytest.raises(OutOfSpace, match="No space left"):
                backing.write(0, sector)
