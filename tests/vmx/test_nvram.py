"""What a guest leaves in the clock chip's memory is there at the next power-on; what configures the machine is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.rtc import RtcState
from hw.rtc_spec import CMOS_BYTES, Index
from vmkernel.storage.errors import Locked
from vmx.nvram import Nvram


def left(path: Path, **written: int) -> None:
    """A machine runs, writes these bytes, and is switched off."""
    state = RtcState()
    nvram = Nvram.open(path, state)
    nvram.load()
    for name, value in written.items():
        state.cmos[int(name.removeprefix("at"), 16)] = value
    nvram.save()
    nvram.close()


def found(path: Path) -> list[int]:
    state = RtcState()
    state.cmos[Index.EXTENDED_KIB] = 7
    state.cmos[Index.SECONDS] = 30
    nvram = Nvram.open(path, state)
    nvram.load()
    nvram.close()
    return list(state.cmos)


def test_the_memory_stays_and_the_configuration_and_the_time_do_not(tmp_path: Path) -> None:
    path = tmp_path / "vm.nvram"
    left(path, at40=0x12, at7f=0x34, at17=0xFF, at0=0x59)
    left(path, at41=0x56)
    cmos = found(path)
    assert (cmos[0x40], cmos[0x41], cmos[0x7F]) == (0x12, 0x56, 0x34)
    assert (cmos[Index.EXTENDED_KIB], cmos[Index.SECONDS]) == (7, 30)
    assert path.stat().st_size == CMOS_BYTES
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "esx.nvram"
    path.write_bytes(b"MRVN" + bytes(8680))
    left(path, at40=0x12)
    assert path.read_bytes() == b"MRVN" + bytes(8680)
    assert found(path)[0x40] == 0


def test_it_is_locked_while_a_machine_has_it(tmp_path: Path) -> None:
    nvram = Nvram.open(tmp_path / "vm.nvram", RtcState())
    with pytest.raises(Locked):
        Nvram.open(tmp_path / "vm.nvram", RtcState())
    nvram.close()
