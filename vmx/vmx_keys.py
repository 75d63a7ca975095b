"""The keys of a .vmx file: which there are, what values they take, and what this version does with them.

A row's name stands for a family: `{3}` is a number from 0 to 3, and `.*` at the end anything. Keys are compared without
regard to case. A key that is in no row is unknown: it is kept, and reported.
Source: VMware ESX Server 3 virtual machine configuration files, as documented by VMware's knowledge base and libvirt's
"VMware .vmx format"; `bios440.filename` from VMware Workstation. Keys that begin with `ringfence.` are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ringfence.errors import BadInput
from vmx.machine_config import (
    IDE_PLACES,
    MEMORY_MIB_MAX,
    TCP_PORT_MAX,
    VCPUS_MAX,
    DriveMode,
)
from vmx.vmx_file import VmxFile, shown


class Use(Enum):
    """What becomes of a key."""

    HONOURED = "honoured"
    KEPT = "kept for other programs; it changes nothing here"
    LATER = "not in this version"


@dataclass(frozen=True, slots=True)
class Text:
    """Any text."""


@dataclass(frozen=True, slots=True)
class Flag:
    """TRUE or FALSE, in any case."""


@dataclass(frozen=True, slots=True)
class Number:
    """A decimal number from `low` to `high`, a multiple of `step`."""

    low: int
    high: int
    step: int = 1
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these words, in any case; an empty value is the default."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HexBytes:
    """Bytes as pairs of hex digits, apart by blanks or dashes."""

    count: int


Kind = Text | Flag | Number | Choice | HexBytes


@dataclass(frozen=True, slots=True)
class Key:
    """A row: `default` is the text of the value that a missing key has."""

    name: str
    kind: Kind
    default: str
    use: Use
    meaning: str


TEXT, FLAG = Text(), Flag()
SCSI_TYPES = ("scsi-hardDisk", "disk", "cdrom-image", "cdrom-raw", "atapi-cdrom", "scsi-passthru")
MODES = Choice(tuple(mode.value for mode in DriveMode))
DEVICE_TYPES = ("disk", "ata-hardDisk", "cdrom-image", "cdrom-raw", "atapi-cdrom")
SHARES = "low, normal, high or a number"
HOUR_MS = 3_600_000

IDE = tuple(f"ide{channel}:{unit}" for channel, unit in sorted(IDE_PLACES))

KEYS: tuple[Key, ...] = (
    Key(".encoding", TEXT, "UTF-8", Use.HONOURED, "encoding of this file"),
    Key("config.version", Number(6, 8), "8", Use.HONOURED, "version of the file's grammar"),
    Key("virtualHW.version", Number(1, 99), "4", Use.HONOURED, "virtual hardware; the machine is always that of 4"),
    Key("virtualHW.productCompatibility", TEXT, "", Use.KEPT, "product that made it"),
    Key("displayName", TEXT, "", Use.HONOURED, "name; the file's when empty"),
    Key("annotation", TEXT, "", Use.KEPT, "notes"),
    Key("guestOS", TEXT, "other", Use.HONOURED, "guest system: whether its clock runs on local time"),
    Key("guestOSAltName", TEXT, "", Use.KEPT, "guest system's long name"),
    Key("memsize", Number(4, MEMORY_MIB_MAX, 4, "MiB"), "32", Use.HONOURED, "memory"),
    Key("numvcpus", Number(1, VCPUS_MAX), "1", Use.HONOURED, "processors"),
    Key("nvram", TEXT, "", Use.HONOURED, "file that keeps the clock chip's memory; none when empty"),
    Key("extendedConfigFile", TEXT, "", Use.KEPT, "team information"),
    Key("workingDir", TEXT, "", Use.LATER, "where snapshots go"),
    Key("uuid.bios", HexBytes(16), "", Use.HONOURED, "identity that the guest sees; made at power-on when missing"),
    Key("uuid.location", HexBytes(16), "", Use.HONOURED, "identity of this place; made at power-on when missing"),
    Key("uuid.action", Choice(("create", "keep", "change")), "", Use.LATER, "what to do when the place changed"),
    Key("vc.uuid", TEXT, "", Use.KEPT, "identity in an inventory"),
    Key("ide{1}:{1}.present", FLAG, "FALSE", Use.HONOURED, "drive is there"),
    Key("ide{1}:{1}.deviceType", Choice(DEVICE_TYPES), "ata-hardDisk", Use.HONOURED, "kind of drive and medium"),
    Key("ide{1}:{1}.fileName", TEXT, "", Use.HONOURED, "image or host device; `auto detect` finds one"),
    Key("ide{1}:{1}.startConnected", FLAG, "TRUE", Use.HONOURED, "medium is in the drive at power-on"),
    Key("ide{1}:{1}.clientDevice", FLAG, "FALSE", Use.HONOURED, "drive of a remote console: no medium"),
    Key("ide{1}:{1}.autodetect", FLAG, "FALSE", Use.HONOURED, "find the host's device"),
    Key("ide{1}:{1}.mode", MODES, "persistent", Use.HONOURED, "what becomes of writes"),
    Key("ide{1}:{1}.redo", TEXT, "", Use.HONOURED, "redo log in use, of an undoable or append disk"),
    Key("ide{1}:{1}.writeThrough", FLAG, "FALSE", Use.LATER, "no cache"),
    Key("scsi{3}.present", FLAG, "FALSE", Use.HONOURED, "SCSI adapter"),
    Key("scsi{3}.virtualDev", Choice(("buslogic", "lsilogic")), "buslogic", Use.HONOURED, "adapter's model"),
    Key("scsi{3}.sharedBus", Choice(("none", "virtual", "physical")), "none", Use.LATER, "shared with machines"),
    Key("scsi{3}:{15}.present", FLAG, "FALSE", Use.HONOURED, "drive is there"),
    Key("scsi{3}:{15}.deviceType", Choice(SCSI_TYPES), "scsi-hardDisk", Use.HONOURED, "kind of drive and medium"),
    Key("scsi{3}:{15}.fileName", TEXT, "", Use.HONOURED, "image or host device; `auto detect` finds one"),
    Key("scsi{3}:{15}.startConnected", FLAG, "TRUE", Use.HONOURED, "medium is in the drive at power-on"),
    Key("scsi{3}:{15}.clientDevice", FLAG, "FALSE", Use.HONOURED, "drive of a remote console: no medium"),
    Key("scsi{3}:{15}.autodetect", FLAG, "FALSE", Use.HONOURED, "find the host's device"),
    Key("scsi{3}:{15}.mode", MODES, "persistent", Use.HONOURED, "what becomes of writes"),
    Key("scsi{3}:{15}.redo", TEXT, "", Use.HONOURED, "redo log in use, of an undoable or append disk"),
    Key("scsi{3}:{15}.writeThrough", FLAG, "FALSE", Use.HONOURED, "no write cache for the guest to flush"),
    Key("scsi{3}:{15}.*", TEXT, "", Use.LATER, "more of a SCSI disk or CD-ROM"),
    Key("ethernet{9}.present", FLAG, "FALSE", Use.HONOURED, "network adapter"),
    Key("ethernet{9}.virtualDev", Choice(("vlance", "vmxnet", "e1000")), "vlance", Use.HONOURED, "adapter's model"),
    Key("ethernet{9}.networkName", TEXT, "", Use.HONOURED, "port group that it is plugged into"),
    Key("ethernet{9}.startConnected", FLAG, "TRUE", Use.HONOURED, "plugged in at power-on"),
    Key("ethernet{9}.addressType", Choice(("generated", "static", "vpx")), "generated", Use.HONOURED,
        "who gave it its address: the host, an administrator, VirtualCenter"),
    Key("ethernet{9}.address", TEXT, "", Use.HONOURED, "an administrator's address, from 00:50:56:00:00:00 on"),
    Key("ethernet{9}.checkMACAddress", FLAG, "TRUE", Use.HONOURED, "refuse an address that is not VMware's to give"),
    Key("ethernet{9}.generatedAddress", TEXT, "", Use.HONOURED, "address made at power-on"),
    Key("ethernet{9}.generatedAddressOffset", Number(0, (1 << 24) - 1), "0", Use.HONOURED,
        "what is added to the machine's identity for it"),
    Key("ethernet{9}.connectionType", TEXT, "", Use.KEPT, "kind of network, of hosted products"),
    Key("ethernet{9}.allowGuestConnectionControl", FLAG, "TRUE", Use.KEPT, "may the guest pull the cable out"),
    Key("ethernet{9}.features", TEXT, "", Use.KEPT, "offloads, of which there are none here"),
    Key("ethernet{9}.wakeOnPcktRcv", FLAG, "TRUE", Use.KEPT, "wake a sleeping guest"),
    Key("ethernet{9}.*", TEXT, "", Use.LATER, "more of a network adapter"),
    Key("floppy0.present", FLAG, "TRUE", Use.HONOURED, "drive is there"),
    Key("floppy0.fileType", Choice(("file", "device")), "device", Use.HONOURED, "kind of medium"),
    Key("floppy0.fileName", TEXT, "", Use.HONOURED, "image or host device"),
    Key("floppy0.startConnected", FLAG, "TRUE", Use.HONOURED, "disk is in the drive at power-on"),
    Key("floppy0.clientDevice", FLAG, "FALSE", Use.HONOURED, "drive of a remote console: no disk"),
    Key("floppy0.autodetect", FLAG, "FALSE", Use.KEPT, "find the host's device"),
    Key("floppy1.*", TEXT, "", Use.LATER, "second floppy drive"),
    Key("serial{3}.present", FLAG, "FALSE", Use.HONOURED, "port is there"),
    Key("serial{3}.fileType", Choice(("device", "file", "pipe", "network", "pty", "stdio")), "device", Use.HONOURED,
        "kind of the host's end; pty and stdio are ours"),
    Key("serial{3}.fileName", TEXT, "", Use.HONOURED, "file, socket or tcp://HOST:PORT"),
    Key("serial{3}.pipe.endPoint", Choice(("client", "server")), "server", Use.HONOURED, "who listens"),
    Key("serial{3}.network.endPoint", Choice(("client", "server")), "server", Use.HONOURED, "who listens"),
    Key("serial{3}.startConnected", FLAG, "TRUE", Use.HONOURED, "plugged in at power-on"),
    Key("serial{3}.tryNoRxLoss", FLAG, "FALSE", Use.KEPT, "no input is ever dropped here"),
    Key("serial{3}.yieldOnMsrRead", FLAG, "FALSE", Use.KEPT, "give up the processor to a polling guest"),
    Key("serial{3}.autodetect", FLAG, "FALSE", Use.KEPT, "find the host's device"),
    Key("serial{3}.hardwareFlowControl", FLAG, "FALSE", Use.KEPT, "flow control of a host port"),
    Key("parallel{2}.present", FLAG, "FALSE", Use.HONOURED, "port is there"),
    Key("parallel{2}.fileType", Choice(("device", "file", "pipe")), "device", Use.HONOURED,
        "kind of the host's end; pipe is ours"),
    Key("parallel{2}.fileName", TEXT, "", Use.HONOURED, "file or pipe"),
    Key("parallel{2}.startConnected", FLAG, "TRUE", Use.HONOURED, "plugged in at power-on"),
    Key("parallel{2}.bidirectional", FLAG, "FALSE", Use.KEPT, "input from a host port"),
    Key("parallel{2}.autodetect", FLAG, "FALSE", Use.KEPT, "find the host's device"),
    Key("RemoteDisplay.vnc.enabled", FLAG, "FALSE", Use.HONOURED, "remote display"),
    Key("RemoteDisplay.vnc.port", Number(0, TCP_PORT_MAX), "5900", Use.HONOURED, "its TCP port; 0: any free one"),
    Key("RemoteDisplay.vnc.ip", TEXT, "127.0.0.1", Use.HONOURED, "address it listens on"),
    Key("RemoteDisplay.vnc.password", TEXT, "", Use.HONOURED, "8 characters; the log does not show them"),
    Key("RemoteDisplay.vnc.key", TEXT, "", Use.LATER, "password as a DES key schedule"),
    Key("RemoteDisplay.vnc.keymap", TEXT, "", Use.LATER, "client's keyboard"),
    Key("RemoteDisplay.maxConnections", TEXT, "", Use.LATER, "clients at a time"),
    Key("bios440.filename", TEXT, "", Use.HONOURED, "firmware image"),
    Key("bios.bootDelay", Number(0, HOUR_MS, 1, "ms"), "0", Use.HONOURED, "wait for keys before booting"),
    Key("bios.bootOrder", TEXT, "floppy,hdd,cdrom,ethernet", Use.HONOURED, "what is tried, in this order"),
    Key("bios.forceSetupOnce", FLAG, "FALSE", Use.LATER, "enter the firmware's set-up"),
    Key("rtc.diffFromUTC", TEXT, "", Use.LATER, "clock chip's offset, in seconds"),
    Key("svga.*", TEXT, "", Use.LATER, "SVGA adapter"),
    Key("sched.cpu.shares", TEXT, "normal", Use.LATER, f"weight: {SHARES}"),
    Key("sched.cpu.min", TEXT, "0", Use.LATER, "reservation, MHz"),
    Key("sched.cpu.max", TEXT, "unlimited", Use.LATER, "limit, MHz"),
    Key("sched.cpu.units", TEXT, "mhz", Use.LATER, "unit of min and max"),
    Key("sched.cpu.affinity", TEXT, "all", Use.LATER, "host processors"),
    Key("sched.cpu.htsharing", Choice(("any", "none", "internal")), "any", Use.LATER, "sharing of a core"),
    Key("sched.mem.shares", TEXT, "normal", Use.LATER, f"weight: {SHARES}"),
    Key("sched.mem.min", TEXT, "0", Use.LATER, "reservation, MB"),
    Key("sched.mem.minsize", TEXT, "0", Use.LATER, "reservation, MB"),
    Key("sched.mem.max", TEXT, "", Use.LATER, "limit, MB; memsize when missing"),
    Key("sched.mem.affinity", TEXT, "all", Use.LATER, "NUMA nodes"),
    Key("sched.mem.maxmemctl", TEXT, "", Use.LATER, "most that the balloon takes, MB"),
    Key("sched.mem.pshare.enable", FLAG, "TRUE", Use.LATER, "page sharing"),
    Key("sched.swap.derivedName", TEXT, "", Use.KEPT, "swap file, written at power-on"),
    Key("sched.swap.*", TEXT, "", Use.LATER, "swap file"),
    Key("sched.scsi{3}:{15}.*", TEXT, "", Use.LATER, "weight of disk traffic"),
    Key("checkpoint.vmState", TEXT, "", Use.HONOURED, "suspend state to resume from"),
    Key("checkpoint.vmState.readOnly", FLAG, "FALSE", Use.KEPT, "keep the suspend state after resuming"),
    Key("snapshot.action", Choice(("keep", "autoCommit", "autoRevert", "prompt")), "prompt", Use.HONOURED,
        "what becomes at power-off of what undoable disks have in their redo logs"),
    Key("snapshot.*", TEXT, "", Use.LATER, "snapshots"),
    Key("suspend.directory", TEXT, "", Use.HONOURED, "where the suspend state goes; the machine's folder when empty"),
    Key("powerType.*", TEXT, "", Use.KEPT, "soft or hard, of a console's buttons"),
    Key("logging", FLAG, "TRUE", Use.HONOURED, "write vmware.log"),
    Key("log.fileName", TEXT, "vmware.log", Use.HONOURED, "log file"),
    Key("log.keepOld", Number(0, 1000), "6", Use.HONOURED, "logs of former runs that are kept"),
    Key("log.rotateSize", Number(0, 1 << 40, 1, "bytes"), "0", Use.HONOURED, "begin a new log at this size; 0: never"),
    Key("machine.id", TEXT, "", Use.LATER, "text that the guest may ask for"),
    Key("guestinfo.*", TEXT, "", Use.LATER, "texts that the guest may ask for and change"),
    Key("cpuid.*", TEXT, "", Use.LATER, "masks of CPUID bits"),
    Key("ringfence.engine", Choice(("auto", "interp", "world", "direct")), "auto", Use.HONOURED, "as --engine"),
    Key("ringfence.program", TEXT, "", Use.HONOURED, "program that is started instead of firmware"),
    Key("ringfence.append", TEXT, "", Use.HONOURED, "its command line"),
    Key("ringfence.cpuFeatures", TEXT, "", Use.HONOURED, "as --cpu-features"),
    *(
        Key(name, TEXT, "", Use.KEPT, meaning)
        for name, meaning in (
            ("tools.*", "VMware Tools"), ("toolScripts.*", "VMware Tools"), ("isolation.tools.*", "VMware Tools"),
            ("monitor.*", "the monitor"), ("monitor_control.*", "the monitor"), ("priority.*", "host priority"),
            ("disk.*", "disk options"), ("migrate.*", "VMotion"), ("vmotion.*", "VMotion"), ("autostart*", "autostart"),
            ("deploymentPlatform", "product"), ("chipset.*", "chipset"), ("cleanShutdown", "last end"),
            ("softPowerOff", "last end"), ("replay.*", "record and replay"), ("mks.*", "console"), ("gui.*", "console"),
            ("usb*", "USB"), ("sound*", "sound card"), ("vmci{9}.*", "VMCI"), ("pciBridge{9}.*", "PCI bridge"),
            ("hostCPUID.*", "CPUID at the last run"), ("guestCPUID.*", "CPUID at the last run"),
            ("userCPUID.*", "CPUID at the last run"), ("evcCompatibilityMode", "CPUID at the last run"),
            ("numa.*", "NUMA"), ("hpet{9}.*", "HPET"), ("vcpu.*", "hot-add"), ("mem.*", "hot-add"),
            ("msg.*", "questions"), ("answer.*", "questions"), ("hints.*", "questions"), ("policy.*", "policy"),
        )
    ),
)  # fmt: skip

NUMBERS = re.compile(r"\{(\d+)\}|\d+")
DECIMAL = re.compile(r"[0-9]{1,15}")
HEX_PAIRS = re.compile(r"[0-9A-Fa-f]{2}(?:[ \t-]*[0-9A-Fa-f]{2})*")
FLAGS = {"true": True, "false": False}
AUTO_DETECT = "auto detect"


def shape(key: str) -> str:
    """The key with its numbers taken out, in lower case: what its row is found by."""
    return NUMBERS.sub("#", key.lower())


def _ranges(name: str) -> tuple[range, ...]:
    """The numbers allowed at each `#` of a row's shape."""
    return tuple(
        range(0 if match[1] else int(match[0]), int(match[1] or match[0]) + 1) for match in NUMBERS.finditer(name)
    )


_EXACT: Mapping[str, Key] = {shape(row.name): row for row in KEYS if not row.name.endswith("*")}
_PREFIXES: Mapping[str, Key] = {shape(row.name.removesuffix("*")): row for row in KEYS if row.name.endswith("*")}
_PREFIX_LENGTHS = sorted({len(prefix) for prefix in _PREFIXES}, reverse=True)
assert len(_EXACT) + len(_PREFIXES) == len(KEYS), "a row is there twice"


def row_of(key: str) -> Key | None:
    """The row of a key, or None for an unknown one: also `ide2:0.present`, for there is no such channel."""
    form = shape(key)
    prefixes = (form[:length] for length in _PREFIX_LENGTHS)
    rows = (_EXACT.get(form), *(_PREFIXES.get(prefix) for prefix in prefixes))
    return next((row for row in rows if row is not None and _is_inside(key, row)), None)


def _is_inside(key: str, row: Key) -> bool:
    """Are the key's numbers those that the row allows?"""
    digits = (match[0] for match in NUMBERS.finditer(key))
    return all(
        len(word) < 10 and int(word) in allowed and word == str(int(word))
        for word, allowed in zip(digits, _ranges(row.name), strict=False)
    )


# values


def value_of(file: VmxFile, key: str) -> bool | int | str | bytes:
    """The key's value, or its row's default. Raises BadInput naming the line."""
    row = row_of(key)
    assert row is not None, f"{key} is in no row"
    text = file.get(key, row.default)
    try:
        return parse_value(row, text)
    except ValueError as error:
        raise BadInput(file.where(key), key, str(error), shown(text)) from None


def parse_value(row: Key, text: str) -> bool | int | str | bytes:
    """Raises ValueError that says what was expected."""
    kind, text = row.kind, text if isinstance(row.kind, Text) else text.strip()
    if isinstance(kind, Text):
        return text
    if not text and not isinstance(kind, HexBytes):
        text = row.default  # a key that is there and empty is as one that is not there
    if isinstance(kind, Flag):
        if text.lower() not in FLAGS:
            raise ValueError("TRUE or FALSE")
        return FLAGS[text.lower()]
    if isinstance(kind, Number):
        return _number(kind, text)
    if isinstance(kind, Choice):
        words = {word.lower(): word for word in kind.words}
        if text.lower() not in words and text:
            raise ValueError(" or ".join(kind.words))
        return words.get(text.lower(), "")
    if text and not HEX_PAIRS.fullmatch(text):
        raise ValueError(f"{kind.count} bytes of two hex digits")
    value = bytes.fromhex(re.sub(r"[ \t-]", "", text))
    if len(value) not in {0, kind.count}:
        raise ValueError(f"{kind.count} bytes of two hex digits")
    return value


def _number(kind: Number, text: str) -> int:
    multiple = f"a multiple of {kind.step} " if kind.step > 1 else ""
    if not DECIMAL.fullmatch(text) or not kind.low <= int(text) <= kind.high or int(text) % kind.step:
        raise ValueError(f"{multiple}from {kind.low} to {kind.high}{' ' + kind.unit if kind.unit else ''}")
    return int(text)


def flag(file: VmxFile, key: str) -> bool:
    value = value_of(file, key)
    assert isinstance(value, bool)
    return value


def number(file: VmxFile, key: str) -> int:
    value = value_of(file, key)
    assert isinstance(value, int)
    return value


def text(file: VmxFile, key: str) -> str:
    value = value_of(file, key)
    assert isinstance(value, str)
    return value


def octets(file: VmxFile, key: str) -> bytes:
    value = value_of(file, key)
    assert isinstance(value, bytes)
    return value
