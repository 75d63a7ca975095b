"""The network adapters of a .vmx file: read and checked, and the addresses that the file lacks written into it.

Source: VMware ESX Server 3 virtual machine configuration files, as documented by VMware's knowledge base and libvirt's
"VMware .vmx format".
"""

from __future__ import annotations

from ringfence.errors import BadInput
from vmx.network_config import (
    NICS,
    STATIC_RANGE,
    NicKind,
    NicSpec,
    address_text,
    generated_address,
    generated_offset,
    is_generated,
    is_managed,
    is_static,
    parse_address,
)
from vmx.vmx_file import Note, VmxFile, shown
from vmx.vmx_keys import flag, number, text

NICS_OF_FILES = 10  # ethernet0 to ethernet9 are names that files may have
STATIC, GENERATED, MANAGED = "static", "generated", "vpx"
OWN_KINDS = frozenset(kind.value for kind in NicKind)


def nics_of(file: VmxFile, identity: bytes, notes: list[Note]) -> dict[int, NicSpec]:
    """Raises BadInput naming the line. `identity` is what addresses are made of that the file does not have."""
    found: dict[int, NicSpec] = {}
    for index in range(NICS_OF_FILES):
        card = f"ethernet{index}"
        if not flag(file, f"{card}.present"):
            continue
        where, kind = file.where(f"{card}.present"), text(file, f"{card}.virtualDev").lower()
        if index not in NICS:
            notes.append(Note(where, f"{card}: a machine has ethernet0 to ethernet{NICS[-1]}: left out"))
        elif kind not in OWN_KINDS:
            notes.append(Note(where, f"{card}: {kind} is not in this version: the machine runs without it"))
        else:
            network = text(file, f"{card}.networkName").strip()
            connected = flag(file, f"{card}.startConnected")
            origin = f"{file.where(f'{card}.networkName')}: {card}.networkName"
            found[index] = NicSpec(address_of(file, card, identity), NicKind(kind), network, connected, origin)
    _check_distinct(file, found)
    return found


def address_of(file: VmxFile, card: str, identity: bytes) -> bytes:
    """Where the kind of address says: an administrator's, or one that a host or VirtualCenter has made."""
    kind = text(file, f"{card}.addressType")
    if kind == STATIC:
        key = f"{card}.address"
        address = _address(file, key)
        if address is None or (not is_static(address) and flag(file, f"{card}.checkMACAddress")):
            raise BadInput(file.where(key), key, STATIC_RANGE, shown(text(file, key)) or "nothing")
        return address
    key = f"{card}.generatedAddress"
    address = _address(file, key)
    if kind == MANAGED and (address is None or not is_managed(address)):
        wanted = "an address from 00:50:56:80:00:00 to 00:50:56:BF:FF:FF"
        raise BadInput(file.where(key), key, wanted, shown(text(file, key)) or "nothing")
    if address is None or not (is_generated(address) or is_managed(address) or is_static(address)):
        return generated_address(identity, _offset(file, card))
    return address


def _address(file: VmxFile, key: str) -> bytes | None:
    """None where the file has none."""
    said = text(file, key)
    if not said.strip():
        return None
    try:
        return parse_address(said)
    except ValueError as error:
        raise BadInput(file.where(key), key, str(error), shown(said)) from None


def _offset(file: VmxFile, card: str) -> int:
    key = f"{card}.generatedAddressOffset"
    return number(file, key) if file.get(key, "").strip() else generated_offset(int(card.removeprefix("ethernet")))


def _check_distinct(file: VmxFile, nics: dict[int, NicSpec]) -> None:
    seen: dict[bytes, int] = {}
    for index, nic in nics.items():
        if nic.address in seen:
            where = file.where(f"ethernet{index}.present")
            found = f"{address_text(nic.address)}, as ethernet{seen[nic.address]} has"
            raise BadInput(where, f"ethernet{index}", "an address of its own", found)
        seen[nic.address] = index


def note_addresses(file: VmxFile, nics: dict[int, NicSpec]) -> bool:
    """Put into the file, which the caller writes, the addresses that were made; whether there was one."""
    changed = False
    for index, nic in nics.items():
        card = f"ethernet{index}"
        if text(file, f"{card}.addressType") != GENERATED:
            continue
        said = address_text(nic.address)
        if text(file, f"{card}.generatedAddress").strip().upper() == said:
            continue
        file.set(f"{card}.generatedAddress", said)
        if not file.get(f"{card}.generatedAddressOffset", "").strip():
            file.set(f"{card}.generatedAddressOffset", str(_offset(file, card)))
        changed = True
    return changed
