"""SMBIOS: the inventory by which systems know what machine they run on.

The system's maker, product and serial number are those by which Linux and VMware's tools recognise a VMware virtual
machine; the serial number holds the UUID. All else is our own. One module of memory stands for all of RAM.
Source: DMTF DSP0134, System Management BIOS Reference Specification 2.4.
"""

from __future__ import annotations

from ctypes import c_uint8, c_uint16, c_uint32, sizeof
from typing import Any

from hw.firmware import smbios_spec as spec
from hw.firmware.board import MEMORY_MIB_MAX, UUID_BYTES, BoardFacts
from hw.firmware.smbios_spec import EntryPoint, Header, Kind

ANCHOR_FILE, TABLES_FILE = "etc/smbios/smbios-anchor", "etc/smbios/smbios-tables"
MAKER = "Ringfence"
BIOS_VERSION, BIOS_DATE = "1.0", "01/01/2025"
BIOS_RELEASE = (1, 0)
ROM_BYTES = 256 << 10
ROM_SEGMENT = 0xE800  # where the run-time part of the firmware begins
SYSTEM_MAKER, SYSTEM_PRODUCT, SYSTEM_VERSION = "VMware, Inc.", "VMware Virtual Platform", "None"
CPU_MAKER = "GenuineIntel"
HANDLE_STEP = 0x100  # handles are the type times this, plus a number


def serial_number(uuid: bytes) -> str:
    """The form in which a virtual machine's UUID is written: `VMware-56 4d ... bc-de ...`."""
    pairs = [f"{byte:02x}" for byte in uuid]
    return f"VMware-{' '.join(pairs[:8])}-{' '.join(pairs[8:])}"


def tables(facts: BoardFacts) -> list[bytes]:
    """All structures in order, each with its strings."""
    return [
        bios(),
        system(facts.uuid),
        structure(spec.BaseBoard, Kind.BASE_BOARD, manufacturer=MAKER, product="440BX", version=SYSTEM_VERSION),
        structure(
            spec.Chassis, Kind.CHASSIS, manufacturer=MAKER, type=spec.CHASSIS_OTHER, boot_state=spec.STATE_SAFE,
            power_state=spec.STATE_SAFE, thermal_state=spec.STATE_SAFE, security=spec.SECURITY_NONE,
        ),
        *(processor(facts, index) for index in range(facts.vcpus)),
        *memory(facts.memory_mib),
        structure(spec.Boot, Kind.BOOT),
        structure(Header, Kind.END),
    ]  # fmt: skip


def entry_point(structures: list[bytes], address: int) -> bytes:
    """The anchor of structures that lie at `address`. Both checksums hold."""
    found = EntryPoint(
        anchor=spec.ANCHOR, length=sizeof(EntryPoint), major=spec.MAJOR, minor=spec.MINOR,
        largest=max(map(len, structures)), dmi=spec.DMI_ANCHOR, table_bytes=sum(map(len, structures)), table=address,
        structures=len(structures), bcd_revision=spec.BCD_REVISION,
    )  # fmt: skip
    found.dmi_checksum = -sum(bytes(found)[spec.DMI_OFFSET :]) & 0xFF
    found.checksum = -sum(bytes(found)) & 0xFF
    return bytes(found)


def smbios_files(facts: BoardFacts) -> dict[str, bytes]:
    """For firmware, which finds a place and fills in the address."""
    structures = tables(facts)
    return {ANCHOR_FILE: entry_point(structures, 0), TABLES_FILE: b"".join(structures)}


def structure(layout: type[Header], kind: Kind, number: int = 0, **fields: Any) -> bytes:
    """One structure. A field given as text becomes the number of a string."""
    strings: list[str] = []
    values = {}
    for name, value in fields.items():
        if isinstance(value, str):
            strings.append(value)
            values[name] = len(strings)
        else:
            values[name] = value
    found = layout(kind=kind, length=sizeof(layout), handle=kind * HANDLE_STEP + number, **values)
    ending = b"".join(text.encode("ascii") + b"\0" for text in strings) or b"\0"
    return bytes(found) + ending + b"\0"


def bios() -> bytes:
    return structure(
        spec.Bios, Kind.BIOS, vendor=MAKER, version=BIOS_VERSION, date=BIOS_DATE, segment=ROM_SEGMENT,
        rom_size=ROM_BYTES // spec.ROM_UNIT - 1,
        characteristics=spec.ISA | spec.PCI | spec.SHADOWING | spec.CD_BOOT | spec.SELECTABLE_BOOT | spec.EDD,
        extension1=spec.EXTENSION1_ACPI, extension2=spec.EXTENSION2_VIRTUAL_MACHINE,
        release_major=BIOS_RELEASE[0], release_minor=BIOS_RELEASE[1],
        controller_major=spec.NO_CONTROLLER, controller_minor=spec.NO_CONTROLLER,
    )  # fmt: skip


def system(uuid: bytes) -> bytes:
    return structure(
        spec.System, Kind.SYSTEM, manufacturer=SYSTEM_MAKER, product=SYSTEM_PRODUCT, version=SYSTEM_VERSION,
        serial=serial_number(uuid), uuid=(c_uint8 * UUID_BYTES)(*uuid), wake_up=spec.WAKE_UP_POWER_SWITCH,
    )  # fmt: skip


def processor(facts: BoardFacts, index: int) -> bytes:
    """A socket with one processor; its speed is not told."""
    return structure(
        spec.Processor, Kind.PROCESSOR, index, socket=f"CPU {index}", type=spec.CENTRAL_PROCESSOR,
        family=spec.FAMILY_UNKNOWN, manufacturer=CPU_MAKER,
        identity=(c_uint32 * 2)(facts.cpu_signature, facts.cpu_features), status=spec.POPULATED_ENABLED,
        upgrade=spec.UPGRADE_NONE, caches=(c_uint16 * 3)(*[spec.NO_CACHE] * 3),
    )  # fmt: skip


def memory(size_mib: int) -> list[bytes]:
    """The array, its one device, and the addresses that it answers."""
    array = Kind.MEMORY_ARRAY * HANDLE_STEP
    return [
        structure(
            spec.MemoryArray, Kind.MEMORY_ARRAY, location=spec.ON_THE_BOARD, use=spec.SYSTEM_MEMORY,
            correction=spec.NO_CORRECTION, capacity_kib=MEMORY_MIB_MAX << 10, error=spec.NO_ERROR_HANDLE, devices=1,
        ),
        structure(
            spec.MemoryDevice, Kind.MEMORY_DEVICE, array=array, error=spec.NO_ERROR_HANDLE,
            total_width=spec.DIMM_BITS, data_width=spec.DIMM_BITS, size_mib=size_mib, form=spec.FORM_DIMM,
            locator="DIMM 0", type=spec.TYPE_SDRAM, detail=spec.DETAIL_SYNCHRONOUS,
        ),
        structure(
            spec.MemoryArrayAddress, Kind.MEMORY_ARRAY_ADDRESS, first_kib=0, last_kib=(size_mib << 10) - 1,
            array=array, width=1,
        ),
    ]  # fmt: skip
