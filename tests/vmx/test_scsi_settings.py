"""SCSI adapters and drives in .vmx files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import BadInput, BadOption
from vmx.machine_config import AdapterKind, AdapterSpec, DriveKind, DriveMode, DriveSpec, MachineConfig
from vmx.vmx_file import VmxFile
from vmx.vmx_settings import VmxSettings, check_media, settings_of

BASE = 'config.version = "8"\nfloppy0.present = "FALSE"\n'


def settings(text: str) -> VmxSettings:
    return settings_of(VmxFile.parse((BASE + text).encode(), Path("/vm/m.vmx")))


def adapters(text: str) -> dict[int, AdapterSpec]:
    return dict(settings(text).config.scsi)


def notes(text: str) -> list[str]:
    return [str(note).split(": ", 1)[1] for note in settings(text).notes]


def test_an_adapter_without_a_model_is_the_one_that_esx_takes() -> None:
    assert adapters('scsi0.present = "TRUE"\n') == {0: AdapterSpec(AdapterKind.BUSLOGIC)}
    assert adapters('scsi2.present = "TRUE"\nscsi2.virtualDev = "LsiLogic"\n') == {2: AdapterSpec(AdapterKind.LSILOGIC)}
    assert adapters("") == {}


def test_drives_are_found_by_their_ids() -> None:
    text = (
        'scsi1.present = "TRUE"\nscsi1:0.present = "TRUE"\nscsi1:0.fileName = "a.vmdk"\n'
        'scsi1:15.present = "TRUE"\nscsi1:15.deviceType = "cdrom-image"\nscsi1:15.fileName = "/iso/d.iso"\n'
        'scsi1:1.present = "TRUE"\nscsi1:1.fileName = "b.vmdk"\nscsi1:1.mode = "nonpersistent"\n'
        'scsi1:1.writeThrough = "TRUE"\nscsi1:2.present = "FALSE"\nscsi1:2.fileName = "c.vmdk"\n'
    )
    drives = adapters(text)[1].drives
    assert drives == {
        0: DriveSpec(DriveKind.DISK, Path("/vm/a.vmdk")),
        1: DriveSpec(DriveKind.DISK, Path("/vm/b.vmdk"), mode=DriveMode.NONPERSISTENT, write_through=True),
        15: DriveSpec(DriveKind.CDROM, Path("/iso/d.iso")),
    }
    assert [node for node, _ in settings(text).config.drives()] == ["scsi1:0", "scsi1:1", "scsi1:15"]


def test_the_adapters_own_id_is_refused() -> None:
    with pytest.raises(BadInput, match=r"m\.vmx:4: scsi0:7\.present: expected an id that is not the adapter's own"):
        settings('scsi0.present = "TRUE"\nscsi0:7.present = "TRUE"\n')
    spec = AdapterSpec(drives={7: DriveSpec(DriveKind.CDROM)})
    with pytest.raises(BadOption, match="scsi0:7"):
        MachineConfig(scsi={0: spec}).check()
    with pytest.raises(BadOption, match="scsi4"):
        MachineConfig(scsi={4: AdapterSpec()}).check()


def test_a_drive_without_its_adapter_is_left_out_and_said() -> None:
    text = 'scsi0:0.present = "TRUE"\nscsi0:0.fileName = "a.vmdk"\n'
    assert adapters(text) == {}
    assert notes(text) == ["scsi0:0: left out, for scsi0.present is not TRUE"]


def test_a_passed_through_device_is_left_out_and_said() -> None:
    text = 'scsi0.present = "TRUE"\nscsi0:0.present = "TRUE"\nscsi0:0.deviceType = "scsi-passthru"\n'
    assert adapters(text)[0].drives == {}
    assert notes(text) == ["scsi0:0: scsi-passthru: not in this version: the machine runs without it"]


@pytest.mark.parametrize("mode", DriveMode)
def test_every_mode_is_known(mode: DriveMode) -> None:
    text = f'scsi0.present = "TRUE"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "a"\nscsi0:0.mode = "{mode.value}"\n'
    assert adapters(text)[0].drives[0].mode is mode


@pytest.mark.parametrize(
    ("guest", "said", "expected"),
    [
        ("winNetEnterprise", "", AdapterKind.LSILOGIC), ("rhel4", "", AdapterKind.LSILOGIC),
        ("win2000Serv", "", AdapterKind.BUSLOGIC), ("", "", AdapterKind.BUSLOGIC),
        ("winNetEnterprise", "buslogic", AdapterKind.BUSLOGIC), ("dos", "lsilogic", AdapterKind.LSILOGIC),
    ],
)  # fmt: skip
def test_without_a_word_the_adapter_is_that_of_the_guest_system(guest: str, said: str, expected: AdapterKind) -> None:
    text = 'scsi0.present = "TRUE"\n' + (f'guestOS = "{guest}"\n' if guest else "")
    assert adapters(text + (f'scsi0.virtualDev = "{said}"\n' if said else ""))[0].kind is expected


def test_a_disk_that_is_not_there_is_said_before_power_on() -> None:
    config = settings('scsi0.present = "TRUE"\nscsi0:3.present = "TRUE"\nscsi0:3.fileName = "none.vmdk"\n').config
    with pytest.raises(BadInput, match=r"m\.vmx:5: scsi0:3\.fileName.*a disk.*/vm/none\.vmdk"):
        check_media(config)
