"""The state file: what is written is found again, and anything else is refused."""

from ctypes import LittleEndianStructure, c_uint8, c_uint32, c_uint64
from pathlib import Path

import pytest

from ringfence.errors import BadInput, HostRefused, LayoutMismatch
from vmm.layout_spec import VcpuState
from vmm.state import SECTION_ALIGN, StateFile, place


class Counter(LittleEndianStructure):
    _fields_ = [("value", c_uint32), ("flags", c_uint8 * 4)]


class WideCounter(LittleEndianStructure):
    _fields_ = [("value", c_uint64)]


SECTIONS = {"vcpu0": VcpuState, "counter": Counter}


def make(path: Path) -> None:
    file = StateFile.create(SECTIONS, path)
    file["counter"].value = 0xDEADBEEF
    file["vcpu0"].eip = 0x1234
    file.close()


def test_a_reopened_file_holds_what_was_assigned(tmp_path: Path) -> None:
    make(tmp_path / "s")
    file = StateFile.open(tmp_path / "s", SECTIONS)
    assert (file["counter"].value, file["vcpu0"].eip) == (0xDEADBEEF, 0x1234)
    file.close()


def test_without_a_path_it_is_a_memfd() -> None:
    file = StateFile.create(SECTIONS)
    file["counter"].value = 7
    assert file["counter"].value == 7
    file.close()


def test_sections_are_aligned_and_do_not_overlap() -> None:
    offsets, size = place(SECTIONS)
    assert all(offset % SECTION_ALIGN == 0 for offset in offsets.values())
    assert len(set(offsets.values())) == 2
    assert size % SECTION_ALIGN == 0


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "s")
    with pytest.raises(HostRefused, match="exists already"):
        StateFile.create(SECTIONS, tmp_path / "s")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"vcpu0": VcpuState}, "2 sections|bytes of state"),
        ({"vcpu0": VcpuState, "other": Counter}, "'counter'.*'other'"),
        ({"vcpu0": VcpuState, "counter": WideCounter}, "another layout"),
        ({"counter": Counter, "vcpu0": VcpuState}, "'vcpu0'.*'counter'"),
    ],
)
def test_another_layout_is_a_clear_error(tmp_path: Path, sections: dict[str, type], message: str) -> None:
    make(tmp_path / "s")
    with pytest.raises(LayoutMismatch, match=message):
        StateFile.open(tmp_path / "s", sections)


@pytest.mark.parametrize("cut", [0, 10, 63, 64, 100, 4096])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    make(tmp_path / "s")
    content = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(content[:cut])
    with pytest.raises((BadInput, LayoutMismatch)):
        StateFile.open(tmp_path / "s", SECTIONS)


def test_no_single_changed_byte_of_the_directory_goes_unnoticed_or_raises_anything_else(tmp_path: Path) -> None:
    make(tmp_path / "s")
    content = bytearray((tmp_path / "s").read_bytes())
    reserved = range(24, 64)
    for offset in range(64 + 2 * 64):
        if offset in reserved:
            continue
        changed = bytearray(content)
        changed[offset] ^= 0xFF
        (tmp_path / "t").write_bytes(changed)
        with pytest.raises((BadInput, LayoutMismatch)):
            StateFile.open(tmp_path / "t", SECTIONS)


def test_not_a_state_file(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"hello" * 100)
    with pytest.raises(BadInput, match="magic"):
        StateFile.open(tmp_path / "s", SECTIONS)
    with pytest.raises(BadInput, match="cannot open"):
        StateFile.open(tmp_path / "absent", SECTIONS)
