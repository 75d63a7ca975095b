"""From a .vmx file to a machine's configuration: the keys, their ranges, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import BadInput
from vmx.machine_config import BOOT_ORDER, BootDevice, DriveKind, DriveMode, DriveSpec, PortKind
from vmx.snapshot_disks import machine_disks
from vmx.snapshot_modes import AtPowerOff, wanted
from vmx.vmx_file import VmxFile
from vmx.vmx_keys import KEYS, Number, Use, parse_value, row_of, shape
from vmx.vmx_settings import (
    VmxSettings,
    check_media,
    identify,
    load_settings,
    set_resume_from,
    settings_of,
    uuid_text,
)  # fmt: skip

FOLDER = Path("/vm")
CORPUS = Path(__file__).parents[1] / "fuzz" / "vmx"


def settings(text: str) -> VmxSettings:
    return settings_of(VmxFile.parse(f'config.version = "8"\n{text}'.encode(), FOLDER / "m.vmx"))


def said(text: str) -> list[str]:
    return [str(note) for note in settings(text).notes]


# the table


def test_every_default_is_a_value_of_its_row() -> None:
    for row in KEYS:
        parse_value(row, row.default)


def test_every_row_says_what_it_means() -> None:
    assert all(row.meaning and row.name == row.name.strip() for row in KEYS)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("MEMSIZE", "memsize"),
        ("ide1:0.fileName", "ide{1}:{1}.fileName"),
        ("scsi0:15.present", "scsi{3}:{15}.present"),
        ("scsi0:15.ctkEnabled", "scsi{3}:{15}.*"),
        ("sched.scsi0:0.shares", "sched.scsi{3}:{15}.*"),
        ("serial3.pipe.endPoint", "serial{3}.pipe.endPoint"),
        ("bios440.filename", "bios440.filename"),
        ("isolation.tools.copy.disable", "isolation.tools.*"),
        ("cpuid.80000001.edx", "cpuid.*"),
    ],
)
def test_a_key_is_found_in_its_row(key: str, name: str) -> None:
    row = row_of(key)
    assert row is not None
    assert row.name == name


@pytest.mark.parametrize(
    "key",
    ["ide2:0.present", "ide0:2.present", "ide00:0.present", "serial4.present", "bios441.filename", "memsize2",
     "scsi4.present", "ide0.present", "foo", "ide0:0", "ide99999999999999999999:0.present"],
)  # fmt: skip
def test_a_key_that_is_in_no_row_is_unknown(key: str) -> None:
    assert row_of(key) is None


def test_shapes_take_the_numbers_out() -> None:
    assert shape("IDE1:0.FileName") == shape("ide{1}:{1}.fileName") == "ide#:#.filename"


# numbers, words, flags


def test_an_empty_file_is_a_machine_with_esx_defaults() -> None:
    config = settings("").config
    assert (config.memory_mib, config.vcpus, config.name) == (32, 1, "m")
    assert config.serials == (None, None)
    assert config.parallel is None
    assert config.ide == {}
    assert config.floppy == DriveSpec(DriveKind.FLOPPY, connected=False)
    assert config.boot_order == BOOT_ORDER
    assert config.vnc is None
    assert config.folder == FOLDER
    assert config.uuid[:2] == b"\x56\x4d"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('memsize = "0"', "a multiple of 4 from 4 to 3072 MiB"),
        ('memsize = "3076"', "a multiple of 4 from 4 to 3072 MiB"),
        ('memsize = "62"', "a multiple of 4"),
        ('memsize = "-4"', "a multiple of 4"),
        ('memsize = "64M"', "a multiple of 4"),
        ('memsize = "٦٤"', "a multiple of 4"),
        ('numvcpus = "5"', "from 1 to 4"),
        ('numvcpus = "0"', "from 1 to 4"),
        ('RemoteDisplay.vnc.enabled = "maybe"', "TRUE or FALSE"),
        ('uuid.bios = "56 4d"', "16 bytes"),
        ('uuid.bios = "56 4d 00 00 00 00 00 00-00 00 00 00 00 00 00 0"', "16 bytes"),
        ('uuid.location = "gg"', "16 bytes"),
        ('bios.bootOrder = "cdrom,tape"', "some of floppy, hdd, cdrom"),
        ('log.keepOld = "many"', "from 0 to 1000"),
        ('ringfence.engine = "warp"', "auto or interp or world"),
        ('config.version = "99"', "from 6 to 8"),
    ],
)
def test_a_bad_value_is_refused_by_file_line_and_key(line: str, expected: str) -> None:
    text = f"# first\n{line}\n"
    with pytest.raises(BadInput) as refused:
        settings_of(VmxFile.parse(text.encode(), Path("m.vmx")))
    key = line.split(maxsplit=1)[0]
    assert str(refused.value).startswith(f"m.vmx:2: {key}: expected {expected}")


def test_flags_are_true_and_false_in_any_case() -> None:
    for word in ("TRUE", "true", "True"):
        assert settings(f'RemoteDisplay.vnc.enabled = "{word}"').config.vnc is not None
    assert settings('RemoteDisplay.vnc.enabled = "FALSE"').config.vnc is None
    assert settings('RemoteDisplay.vnc.enabled = ""').config.vnc is None


def test_memory_goes_to_the_machines_limit() -> None:
    row = row_of("memsize")
    assert row is not None
    assert isinstance(row.kind, Number)
    for mib in (row.kind.low, row.kind.high):
        settings(f'memsize = "{mib}"').config.check()


def test_a_uuid_is_read_in_esx_form() -> None:
    text = "56 4d 3a 11 92 5e 77 01-aa be 0f 4c 21 9d 3e 60"
    value = settings(f'uuid.bios = "{text}"').config.uuid
    assert value.hex() == "564d3a11925e7701aabe0f4c219d3e60"
    assert uuid_text(value) == text


@pytest.mark.parametrize(
    ("guest", "local"), [("winxppro", True), ("winNT", True), ("other26xlinux", False), ("", False)]
)
def test_windows_guests_have_local_time(guest: str, local: bool) -> None:
    assert settings(f'guestOS = "{guest}"').config.local_time is local


def test_the_boot_order_names_come_first() -> None:
    order = settings('bios.bootOrder = "CDROM, hdd"').config.boot_order
    assert order == (BootDevice.CDROM, BootDevice.DISK, BootDevice.FLOPPY, BootDevice.NETWORK)
    assert settings('bios.bootOrder = "ethernet0"').config.boot_order[0] is BootDevice.NETWORK


# drives


def drive(text: str) -> DriveSpec:
    return settings(f'ide1:0.present = "TRUE"\n{text}').config.ide[1, 0]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"fileName": "d.vmdk"}, DriveSpec(DriveKind.DISK, FOLDER / "d.vmdk")),
        ({"fileName": "/a/d.img", "deviceType": "ata-hardDisk"}, DriveSpec(DriveKind.DISK, Path("/a/d.img"))),
        ({"fileName": "d.vmdk", "mode": "independent-persistent"},
         DriveSpec(DriveKind.DISK, FOLDER / "d.vmdk", mode=DriveMode.INDEPENDENT_PERSISTENT)),
        ({"fileName": "a.iso", "deviceType": "cdrom-image"}, DriveSpec(DriveKind.CDROM, FOLDER / "a.iso")),
        ({"fileName": "a.iso", "deviceType": "CDROM-IMAGE", "startConnected": "FALSE"},
         DriveSpec(DriveKind.CDROM, FOLDER / "a.iso", connected=False)),
        ({"deviceType": "cdrom-image"}, DriveSpec(DriveKind.CDROM, connected=False)),
        ({"fileName": "/dev/sr0", "deviceType": "atapi-cdrom"}, DriveSpec(DriveKind.CDROM, Path("/dev/sr0"), True)),
        ({"fileName": "auto detect", "deviceType": "cdrom-raw"}, DriveSpec(DriveKind.CDROM, None, True)),
        ({"deviceType": "cdrom-raw", "autodetect": "TRUE"}, DriveSpec(DriveKind.CDROM, None, True)),
        ({"fileName": "/dev/sr0", "deviceType": "cdrom-raw", "clientDevice": "TRUE"},
         DriveSpec(DriveKind.CDROM, connected=False)),
    ],
)  # fmt: skip
def test_a_drive_is_what_its_keys_say(lines: dict[str, str], expected: DriveSpec) -> None:
    assert drive("\n".join(f'ide1:0.{key} = "{value}"' for key, value in lines.items())) == expected


def test_a_drive_that_is_not_present_is_not_there() -> None:
    assert settings('ide0:0.fileName = "d.vmdk"').config.ide == {}


@pytest.mark.parametrize("text", ["", 'ide1:0.fileName = "d"\nide1:0.mode = "perhaps"', 'ide1:0.deviceType = "tape"'])
def test_a_drive_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="ide1:0"):
        drive(text)


def test_a_missing_image_is_refused_by_the_line_that_wants_it(tmp_path: Path) -> None:
    path = tmp_path / "m.vmx"
    lines = ['ide1:0.present = "TRUE"', 'ide1:0.deviceType = "cdrom-image"', 'ide1:0.fileName = "no.iso"']
    path.write_text("\n".join(lines))
    with pytest.raises(BadInput, match=r"m\.vmx:3: ide1:0\.fileName: .*an ISO image.*no\.iso"):
        check_media(load_settings(path).config)
    path.write_text("\n".join([*lines, 'ide1:0.startConnected = "FALSE"']))
    check_media(load_settings(path).config)
    (tmp_path / "no.iso").write_bytes(b"")
    path.write_text("\n".join(lines))
    check_media(load_settings(path).config)


# ports


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ({"fileType": "file", "fileName": "com1.out"}, "file:/vm/com1.out"),
        ({"fileType": "pipe", "fileName": "s"}, "unix:/vm/s"),
        ({"fileType": "pipe", "fileName": "/s", "pipe.endPoint": "client"}, "unix-client:/s"),
        ({"fileType": "network", "fileName": "tcp://:4555"}, "tcp:0.0.0.0:4555"),
        ({"fileType": "network", "fileName": "tcp://[::1]:4555"}, "tcp:[::1]:4555"),
        ({"fileType": "network", "fileName": "tcp://h:1", "network.endPoint": "client"}, "tcp-client:h:1"),
        ({"fileType": "pty"}, "pty"),
        ({"fileType": "stdio"}, "stdio"),
        ({"fileType": "device", "fileName": "/dev/ttyS0"}, "file:/dev/ttyS0"),
        ({"fileType": "device"}, "none"),
        ({"fileType": "device", "fileName": "auto detect"}, "none"),
    ],
)
def test_a_serial_port_is_what_its_keys_say(lines: dict[str, str], expected: str) -> None:
    text = "\n".join(f'serial0.{key} = "{value}"' for key, value in {"present": "TRUE", **lines}.items())
    port = settings(text).config.serials[0]
    assert port is not None
    assert port.text() == expected
    assert port.start_connected


@pytest.mark.parametrize(
    "lines",
    [
        'serial0.fileType = "file"', 'serial0.fileType = "modem"',
        'serial0.fileType = "network"\nserial0.fileName = "telnet://h:1"',
        'serial0.fileType = "network"\nserial0.fileName = "tcp://h:70000"',
        'serial0.fileType = "network"\nserial0.fileName = "tcp://:1"\nserial0.network.endPoint = "client"',
    ],
)  # fmt: skip
def test_a_serial_port_that_cannot_be_is_refused(lines: str) -> None:
    with pytest.raises(BadInput, match="serial0"):
        settings(f'serial0.present = "TRUE"\n{lines}')


def test_the_parallel_port_prints_into_a_file_or_a_pipe() -> None:
    for kind, expected in (("file", PortKind.FILE), ("pipe", PortKind.PIPE)):
        text = f'parallel0.present = "TRUE"\nparallel0.fileType = "{kind}"\nparallel0.fileName = "lpt"'
        port = settings(text).config.parallel
        assert port is not None
        assert (port.kind, port.where) == (expected, "/vm/lpt")


# what is said


def test_an_unknown_key_is_kept_and_said_once() -> None:
    found = settings('my.key = "1"\nide7:0.present = "TRUE"\n')
    assert found.unknown == ("my.key", "ide7:0.present")
    assert [str(note) for note in found.notes] == [
        "/vm/m.vmx:2: my.key: unknown, kept as it is",
        "/vm/m.vmx:3: ide7:0.present: unknown, kept as it is",
    ]


def test_a_device_of_a_later_version_is_said_in_one_line() -> None:
    text = 'floppy1.present = "TRUE"\nfloppy1.fileName = "b"\n'
    assert said(text) == ["/vm/m.vmx:2: floppy1: not in this version: the machine runs without it"]
    assert said(text.replace("TRUE", "FALSE")) == []


def test_a_setting_of_a_later_version_is_said_when_it_asks_for_something() -> None:
    assert said('sched.cpu.shares = "normal"\nuuid.action = ""\n') == []
    assert said('sched.cpu.shares = "high"\n') == ["/vm/m.vmx:2: sched.cpu.shares: not in this version, kept as it is"]


def test_ports_that_the_machine_lacks_are_said() -> None:
    assert "serial2" in said('serial2.present = "TRUE"\n')[0]
    assert "parallel1" in said('parallel1.present = "TRUE"\n')[0]


def test_an_esx_machine_is_read_without_a_refusal() -> None:
    found = load_settings(CORPUS / "esx3.vmx")
    assert (found.config.name, found.config.memory_mib) == ("web01", 256)
    assert not found.unknown
    devices = [str(note).split(": ", 2)[1] for note in found.notes]
    assert devices == []
    assert found.config.scsi[0].drives[0].path is not None


def test_every_honoured_key_of_the_table_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import vmx.vmx_keys

    asked: set[str] = set()
    value_of = vmx.vmx_keys.value_of

    def asking(file: VmxFile, key: str) -> bool | int | str | bytes:
        row = row_of(key)
        assert row is not None
        assert row.use is Use.HONOURED, f"{key} is read, and its row says {row.use}"
        asked.add(row.name)
        return value_of(file, key)

    monkeypatch.setattr(vmx.vmx_keys, "value_of", asking)
    base = (
        'RemoteDisplay.vnc.enabled = "TRUE"\nide0:0.present = "TRUE"\nide0:0.fileName = "d"\n'
        'parallel0.present = "TRUE"\nfloppy0.fileName = "f"\n'
        'scsi0.present = "TRUE"\nscsi0:0.present = "TRUE"\nscsi0:0.fileName = "s"\n'
        'ethernet0.present = "TRUE"\nethernet0.generatedAddressOffset = "1"\nethernet1.present = "TRUE"\n'
        'ethernet1.addressType = "static"\nethernet1.address = "02:00:00:00:00:01"\n'
        'ethernet1.checkMACAddress = "FALSE"\n'
    )
    for kind in ("file", "pipe", "network"):
        settings(f'{base}serial0.present = "TRUE"\nserial0.fileType = "{kind}"\nserial0.fileName = "tcp://h:1"\n')
    undoable = settings(f'{base}ide0:0.mode = "undoable"\nscsi0:0.mode = "append"\n').file
    for disk in machine_disks(undoable):
        wanted(undoable, disk, AtPowerOff.KEEP)
    honoured = {row.name for row in KEYS if row.use is Use.HONOURED}
    assert honoured - asked == {".encoding"}


# what is written back


def test_a_machine_without_an_identity_gets_one_that_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.vmx"
    path.write_text('config.version = "8"\n')
    first = identify(load_settings(path))
    assert load_settings(path).config.uuid == first.config.uuid
    before = path.read_bytes()
    identify(load_settings(path))
    assert path.read_bytes() == before


def test_a_suspended_machine_says_where_it_resumes_from(tmp_path: Path) -> None:
    path = tmp_path / "m.vmx"
    path.write_text('config.version = "8"\n')
    set_resume_from(load_settings(path), tmp_path / "m-1.vmss")
    assert 'checkpoint.vmState = "m-1.vmss"' in path.read_text()
    found = load_settings(path)
    assert found.resume_from == tmp_path / "m-1.vmss"
    set_resume_from(found, None)
    assert load_settings(path).resume_from is None
