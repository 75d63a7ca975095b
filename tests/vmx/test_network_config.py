"""Network adapters as values: station addresses, and what no machine can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import BadInput, BadOption
from vmx.network_config import (
    NicSpec,
    address_text,
    check_nics,
    generated_address,
    generated_offset,
    is_generated,
    is_managed,
    is_static,
    parse_address,
)
from vmx.network_rom import ROM_BYTES_MAX, network_rom

IDENTITY = bytes.fromhex("564d2e14c71d8f043fc3d804c6d1b969")


def test_a_host_makes_an_address_of_the_machines_identity() -> None:
    """As VMware does: ends of uuid and address are the same."""
    assert address_text(generated_address(IDENTITY, 0)) == "00:0C:29:D1:B9:69"
    assert address_text(generated_address(IDENTITY, generated_offset(1))) == "00:0C:29:D1:B9:73"
    assert address_text(generated_address(b"\xff" * 16, 10)) == "00:0C:29:00:00:09"


@pytest.mark.parametrize(
    ("text", "static", "managed", "generated"),
    [
        ("00:50:56:00:00:00", True, False, False), ("00:50:56:3f:ff:ff", True, False, False),
        ("00:50:56:40:00:00", False, False, False), ("00:50:56:80:00:00", False, True, False),
        ("00:50:56:BF:FF:FF", False, True, False), ("00:50:56:C0:00:08", False, False, False),
        ("00:0c:29:01:02:03", False, False, True), ("00:1:2:3:4:5", False, False, False),
    ],
)  # fmt: skip
def test_whose_an_address_is(text: str, static: bool, managed: bool, generated: bool) -> None:
    address = parse_address(text)
    assert (is_static(address), is_managed(address), is_generated(address)) == (static, managed, generated)


@pytest.mark.parametrize(
    "text", ["", "00:50:56:00:00", "00-50-56-00-00-00", "00:50:56:00:00:000", "00:50:56:00:00:0g", "0:0:0:0:0:0",
             "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:50:56:00:00:00:00"],
)  # fmt: skip
def test_what_is_no_stations_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"six bytes|one station"):
        parse_address(text)


def test_what_no_machine_can_have() -> None:
    one, other = parse_address("00:50:56:00:00:01"), parse_address("00:50:56:00:00:02")
    check_nics({0: NicSpec(one), 4: NicSpec(other)})
    with pytest.raises(BadOption, match="ethernet5: expected ethernet0 to ethernet4"):
        check_nics({5: NicSpec(one)})
    with pytest.raises(BadOption, match="ethernet1: expected an address of its own, found 00:50:56:00:00:01"):
        check_nics({0: NicSpec(one), 1: NicSpec(one)})
    with pytest.raises(BadOption, match="ethernet0: expected the address of one station"):
        check_nics({0: NicSpec(b"\xff" * 6)})


def test_the_boot_rom_is_looked_for_where_firmware_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_FIRMWARE", str(tmp_path))
    rom = tmp_path / "pxe-pcnet.rom"
    rom.write_bytes(b"\x55\xaa" + bytes(510))
    assert network_rom() == b"\x55\xaa" + bytes(510)
    rom.write_bytes(b"MZ" + bytes(510))
    with pytest.raises(BadInput, match=r"pxe-pcnet\.rom: option ROM: expected bytes 55 AA"):
        network_rom()
    rom.write_bytes(b"\x55\xaa" + bytes(ROM_BYTES_MAX))
    with pytest.raises(BadInput, match="a network boot ROM of at most"):
        network_rom()


def test_without_a_boot_rom_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmx.network_rom.FOLDERS", ())
    monkeypatch.delenv("RINGFENCE_FIRMWARE", raising=False)
    assert network_rom() == b""
