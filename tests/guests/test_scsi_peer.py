"""The guest that drives SCSI adapters, on another machine's: QEMU's SAS1068, which takes the 53C1030's messages."""

from __future__ import annotations

from pathlib import Path

from guests import build
from tests.guests import qemu

DISK_BYTES = 4 << 20


def test_the_messages_are_those_that_another_controller_takes(tmp_path: Path) -> None:
    qemu.need_qemu()
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(range(256)) * (DISK_BYTES // 256))
    run = qemu.run(
        build("scsi"), append="adapters=1",
        options=(
            "-device", "mptsas1068,id=scsi0", "-drive", f"if=none,id=disk0,format=raw,file={disk}",
            "-device", "scsi-hd,drive=disk0,bus=scsi0.0",
        ),
    )  # fmt: skip
    assert run.starting("FAIL") == run.starting("SKIP") == []
    assert run.lines[-1] == "DONE 19 passed, 0 failed" and run.status == qemu.PASSED
    assert disk.read_bytes() == bytes(range(256)) * (DISK_BYTES // 256), "every block is as it was"
