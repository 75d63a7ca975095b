"""Network adapters in .vmx files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import BadInput
from vmx.network_config import NicKind, NicSpec, address_text
from vmx.vmx_file import VmxFile
from vmx.vmx_settings import VmxSettings, identify, settings_of

UUID = "56 4d 2e 14 c7 1d 8f 04-3f c3 d8 04 c6 d1 b9 69"
BASE = f'config.version = "8"\nfloppy0.present = "FALSE"\nuuid.bios = "{UUID}"\nuuid.location = "{UUID}"\n'


def settings(text: str, path: Path = Path("/vm/m.vmx")) -> VmxSettings:
    return settings_of(VmxFile.parse((BASE + text).encode(), path))


def nics(text: str) -> dict[int, NicSpec]:
    return dict(settings(text).config.nics)


def notes(text: str) -> list[str]:
    return [str(note).split(": ", 1)[1] for note in settings(text).notes]


def test_an_adapter_as_esx_writes_it() -> None:
    text = (
        'ethernet0.present = "true"\nethernet0.allowGuestConnectionControl = "false"\n'
        'ethernet0.networkName = "VM Network"\nethernet0.addressType = "vpx"\nethernet0.features = "1"\n'
        'ethernet0.generatedAddress = "00:50:56:9a:2b:3c"\nethernet0.virtualDev = "vmxnet"\n'
    )
    address = bytes.fromhex("0050569a2b3c")
    assert nics(text) == {0: NicSpec(address, NicKind.VMXNET, "VM Network")}
    assert nics(text)[0].origin == "/vm/m.vmx:7: ethernet0.networkName"


def test_an_adapter_without_a_model_is_a_vlance_with_a_generated_address() -> None:
    found = nics('ethernet0.present = "TRUE"\nethernet1.present = "TRUE"\nethernet2.present = "FALSE"\n')
    assert {number: address_text(nic.address) for number, nic in found.items()} == {
        0: "00:0C:29:D1:B9:69", 1: "00:0C:29:D1:B9:73",
    }  # fmt: skip
    assert all(nic.kind is NicKind.VLANCE and nic.connected and nic.network == "" for nic in found.values())


def test_an_offset_and_an_earlier_address_count() -> None:
    offset = 'ethernet0.present = "TRUE"\nethernet0.generatedAddressOffset = "30"\n'
    assert address_text(nics(offset)[0].address) == "00:0C:29:D1:B9:87"
    earlier = 'ethernet0.present = "TRUE"\nethernet0.generatedAddress = "00:0C:29:01:02:03"\n'
    assert address_text(nics(earlier)[0].address) == "00:0C:29:01:02:03"
    alien = 'ethernet0.present = "TRUE"\nethernet0.generatedAddress = "52:54:00:01:02:03"\n'
    assert address_text(nics(alien)[0].address) == "00:0C:29:D1:B9:69"


def test_a_static_address_is_in_vmwares_range_unless_it_is_not_checked() -> None:
    static = 'ethernet0.present = "TRUE"\nethernet0.addressType = "static"\nethernet0.address = "{}"\n'
    assert address_text(nics(static.format("00:50:56:3F:00:01"))[0].address) == "00:50:56:3F:00:01"
    with pytest.raises(BadInput, match=r"m\.vmx:7: ethernet0\.address: expected an address from 00:50:56:00:00:00"):
        nics(static.format("00:0c:29:00:00:01"))
    unchecked = static + 'ethernet0.checkMACAddress = "FALSE"\n'
    assert address_text(nics(unchecked.format("02:00:00:00:00:01"))[0].address) == "02:00:00:00:00:01"
    for wrong in ("", "rubbish", "01:00:5e:00:00:01"):
        with pytest.raises(BadInput, match=r"ethernet0\.address"):
            nics(unchecked.format(wrong))


def test_what_virtualcenter_gave_is_in_its_range() -> None:
    text = 'ethernet0.present = "TRUE"\nethernet0.addressType = "vpx"\nethernet0.generatedAddress = "{}"\n'
    for wrong in ("", "00:0c:29:00:00:01", "00:50:56:00:00:01"):
        with pytest.raises(BadInput, match=r"ethernet0\.generatedAddress: expected an address from 00:50:56:80"):
            nics(text.format(wrong))


def test_two_adapters_with_one_address_are_refused() -> None:
    text = "".join(
        f'ethernet{n}.present = "TRUE"\nethernet{n}.generatedAddress = "00:0c:29:00:00:01"\n' for n in (0, 2)
    )
    with pytest.raises(BadInput, match=r"m\.vmx:7: ethernet2: expected an address of its own"):
        nics(text)


def test_what_this_version_has_not_is_said_and_left_out() -> None:
    assert nics('ethernet0.present = "TRUE"\nethernet0.virtualDev = "e1000"\n') == {}
    assert notes('ethernet0.present = "TRUE"\nethernet0.virtualDev = "e1000"\n') == [
        "ethernet0: e1000 is not in this version: the machine runs without it"
    ]
    assert notes('ethernet7.present = "TRUE"\n') == ["ethernet7: a machine has ethernet0 to ethernet4: left out"]
    with pytest.raises(BadInput, match=r"ethernet0\.virtualDev: expected vlance or vmxnet or e1000"):
        nics('ethernet0.present = "TRUE"\nethernet0.virtualDev = "ne2000"\n')


def test_an_unplugged_adapter() -> None:
    assert not nics('ethernet0.present = "TRUE"\nethernet0.startConnected = "FALSE"\n')[0].connected


def test_generated_addresses_are_written_at_power_on(tmp_path: Path) -> None:
    path = tmp_path / "m.vmx"
    path.write_text(BASE + 'ethernet1.present = "TRUE"\nmy.key = "kept"\n')
    identify(settings_of(VmxFile.read(path)))
    written = path.read_text()
    assert 'ethernet1.generatedAddress = "00:0C:29:D1:B9:73"' in written
    assert 'ethernet1.generatedAddressOffset = "10"' in written and 'my.key = "kept"' in written
    identify(settings_of(VmxFile.read(path)))
    assert path.read_text() == written
