"""`ringfence vmfs info`, `stat`, `blocks`, `heartbeats`, `locks`, `journal` and `dump`: structures field by field."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption
from tools.disk_words import add_json, size_text
from tools.vmfs_words import add_place, add_volume, answer, place, reading, whole

if TYPE_CHECKING:
    from vmkernel.storage.vmfs3.anatomy import BlockRow, HeldLock, SlotJournal
    from vmkernel.storage.vmfs3.fields import Structure
    from vmkernel.storage.vmfs3.volume import Volume

SHOWN_BYTES = 16  # raw bytes of a field that are printed
DUMP_BYTES = 512
TYPES = {2: "dir", 3: "reg", 4: "lnk", 5: "sys", 6: "rdm"}


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    info = subparsers.add_parser("info", help="what a volume is; with --fields, every field of its structures")
    add_volume(info)
    info.add_argument("--fields", action="store_true", help="each field: offset, bytes, name, value")
    info.set_defaults(run=info_run)

    stat = subparsers.add_parser("stat", help="every field of a file's descriptor, with its offset")
    add_place(stat)
    stat.add_argument("--lock", action="store_true", help="in the form of vmkfstools -D instead")
    add_json(stat)
    stat.set_defaults(run=stat_run)

    blocks = subparsers.add_parser("blocks", help="the addresses of a file, and the bytes that they name")
    add_place(blocks)
    add_json(blocks)
    blocks.set_defaults(run=blocks_run)

    for name, what, run in (
        ("heartbeats", "the heartbeat slots that are in use or once were", heartbeats_run),
        ("locks", "the locks that are held, and by whom", locks_run),
    ):
        verb = subparsers.add_parser(name, help=what)
        add_volume(verb)
        verb.add_argument("--all", dest="everything", action="store_true", help="free ones too")
        verb.set_defaults(run=run)

    journal = subparsers.add_parser("journal", help="the journals of hosts, and what waits to be replayed")
    add_volume(journal)
    journal.set_defaults(run=journal_run)

    dump = subparsers.add_parser("dump", help="bytes of a volume, a device or a file, in hexadecimal")
    add_place(dump, help_more="; or a VOLUME alone, whose bytes they are then")
    dump.add_argument("offset", metavar="OFFSET", type=number, nargs="?", default=0, help="the first byte (default 0)")
    dump.add_argument("length", metavar="LENGTH", type=number, nargs="?", default=DUMP_BYTES, help="how many (512)")
    dump.add_argument("--device", metavar="N", type=number, help="bytes of the volume's device N")
    add_json(dump)
    dump.set_defaults(run=dump_run)


def number(text: str) -> int:
    """`4096`, `0x1000`, `1M`."""
    from tools.disk_words import size

    return size(text)


# structures


def field_lines(structures: Iterable[Structure]) -> Iterator[str]:
    for number_of, one in enumerate(structures):
        if number_of:
            yield ""
        yield f"{one.title} at {one.offset:#x}{f' of {one.device}' if one.device else ''}"
        for field in one.fields:
            more = " .." if len(field.raw) > SHOWN_BYTES else ""
            raw = field.raw[:SHOWN_BYTES].hex(" ") + more
            yield f"  {field.offset:#012x}  {raw:<{SHOWN_BYTES * 3 + 2}} {field.name:<28} {field.value}".rstrip()


def info_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.anatomy import device_structures, volume_structures

    with reading(whole(options.volume)) as volume:
        structures = [*device_structures(volume.lv), *volume_structures(volume)]
        facts = volume_facts(volume)
    if options.json:
        answer(facts | {"structures": [one.facts() for one in structures]})
    elif options.fields:
        print("\n".join(field_lines(structures)))
    else:
        print("\n".join(info_lines(facts)))
    return 0


def volume_facts(volume: Volume) -> dict[str, Any]:
    from vmkernel.storage.vmfs3.anatomy import heartbeats
    from vmkernel.storage.vmfs3.fields import time_text
    from vmkernel.storage.vmfs3.identity import uuid_text

    superblock = volume.superblock
    in_use = sum(structure.fields[0].value.endswith("in-use") for _, structure in heartbeats(volume.lv))
    return {
        "version": f"{superblock.version}.{superblock.minor}", "label": volume.label, "uuid": uuid_text(volume.uuid),
        "lvm_uuid": uuid_text(superblock.lvm_uuid), "created": time_text(superblock.creation_time),
        "bytes": volume.lv.size, "block_size": volume.block_size, "sub_block_size": superblock.sub_block_size,
        "resources": {
            name: {"total": total, "free": free} for name, (total, free) in volume.statistics().items()
        },
        "hosts": in_use,
        "devices": [
            {"path": str(one.lun), "base": one.lun.base, "bytes": one.lun.size, "extents": int(one.descriptor.num_pes),
             "first_extent": int(one.descriptor.first_pe), "uuid": uuid_text(bytes(one.header.device_uuid))}
            for one in volume.lv.devices
        ],
    }  # fmt: skip


RESOURCE_WORDS = {
    "file_block": "file blocks", "file_descriptor": "file descriptors", "pointer_block": "pointer blocks",
    "sub_block": "sub-blocks", "pointer_block_2": "second-level pointer blocks",
}  # fmt: skip


def info_lines(facts: dict[str, Any]) -> Iterator[str]:
    yield row("file system", f"VMFS-{facts['version']}")
    yield row("label", facts["label"] or "none")
    yield row("UUID", facts["uuid"])
    yield row("LVM UUID", facts["lvm_uuid"])
    yield row("created", f"{facts['created']} UTC")
    yield row("size", f"{size_text(facts['bytes'])}, in file blocks of {size_text(facts['block_size'])}")
    for name, counts in facts["resources"].items():
        yield row(f"  {RESOURCE_WORDS.get(name, name)}", f"{counts['free']} of {counts['total']} free")
    yield row("hosts", f"{facts['hosts']} have it mounted" if facts["hosts"] else "none has it mounted")
    for number_of, device in enumerate(facts["devices"]):
        where = f", from byte {device['base']}" if device["base"] else ""
        yield row(f"device {number_of}", f"{device['path']}{where}, {device['extents']} extents")


def row(title: str, value: str) -> str:
    return f"{title:<26}{value}".rstrip()


def stat_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.anatomy import descriptor_structure

    where = place(options.place)
    with reading(where) as volume:
        fd = volume.lookup(where.path, follow=False)
        one = descriptor_structure(fd)
    if options.json:
        answer({"path": where.path} | one.facts())
    elif options.lock:
        print("\n".join(lock_lines(fd)))
    else:
        print("\n".join(field_lines([one])))
    return 0


def lock_lines(fd: Any) -> Iterator[str]:
    """As `vmkfstools -D` prints them."""
    from vmkernel.storage.vmfs3 import addresses
    from vmkernel.storage.vmfs3.identity import uuid_text

    lock = fd.lock
    cluster, resource = addresses.place(fd.address)
    yield (
        f"Lock [type {int(lock['type']):x} offset {int(lock['position'])} v {int(lock['token'])}, "
        f"hb offset {int(lock['hb_position'])}"
    )
    yield (
        f"gen {int(lock['hb_generation'])}, mode {int(lock['mode'])}, owner {uuid_text(lock['owner'].tobytes())} "
        f"mtime {int(lock['mtime']) // 1_000_000}]"
    )
    for holder in range(min(int(lock["num_holders"]), len(lock["holders"]))):
        one = lock["holders"][holder]
        yield f"RO Owner[{holder}] HB Offset {int(one['hb_position'])} {uuid_text(one['owner'].tobytes())}"
    yield (
        f"Addr <4, {cluster}, {resource}>, gen {fd.generation}, links {fd.nlink}, "
        f"type {TYPES.get(int(fd.raw['type']), '?')}, flags {fd.flags:#x}, "
        f"uid {fd.uid}, gid {fd.gid}, mode {fd.stored_mode & 0o7777:o}"
    )
    yield f"len {fd.length}, nb {fd.num_blocks} tbz {fd.tbz}, cow {fd.cow}, zla {int(fd.zla)}, bs {fd.block_size}"


def blocks_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.anatomy import block_rows

    where = place(options.place)
    with reading(where) as volume:
        fd = volume.lookup(where.path, follow=False)
        rows = list(block_rows(volume, fd))
        several = len(volume.lv.luns) > 1
    if options.json:
        answer([one.facts() for one in rows])
        return 0
    print(f"{'word at':<14} {'raw':<12} {'address':<16} {'bytes of the file':<28} {'LV offset':<16} device")
    for one in rows:
        print(block_line(one, several))
    return 0


def block_line(one: BlockRow, several: bool) -> str:
    from vmkernel.storage.vmfs3 import addresses

    span = f"{one.file_offset} to {one.file_offset + one.length}"
    place_of = f"{one.lv_offset:#x}" if one.lv_offset >= 0 else "nowhere"
    device = f"{one.device_offset:#x}{f' of {one.device}' if several else ''}" if one.device_offset >= 0 else ""
    raw = one.word.to_bytes(4, "little").hex(" ")
    return f"{one.at:#014x} {raw:<12} {addresses.describe(one.word):<16} {span:<28} {place_of:<16} {device}".rstrip()


# hosts


def heartbeats_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.anatomy import heartbeats

    with reading(whole(options.volume)) as volume:
        found = list(heartbeats(volume.lv, everything=options.everything))
    if options.json:
        answer([{"slot": slot} | one.facts() for slot, one in found])
    elif found:
        print("\n".join(field_lines(one for _, one in found)))
    else:
        print("no host has ever had the volume mounted")
    return 0


def locks_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.anatomy import held_locks

    with reading(whole(options.volume)) as volume:
        found = list(held_locks(volume, everything=options.everything))
        names = paths_of(volume, {one.address for one in found if one.address})
    if options.json:
        answer([lock_facts(one, names) for one in found])
    else:
        for one in found:
            facts = lock_facts(one, names)
            owner = facts["owner_name"] or facts["owner"] or "nobody"
            state = "" if facts["mode"] == "free" or facts["held"] else ", whose heartbeat is gone"
            print(f"{one.at:#012x}  {facts['path'] or one.title}: {facts['mode']}, {owner}{state}")
        if not found:
            print("no lock is held")
    return 0


def lock_facts(one: HeldLock, names: dict[int, str]) -> dict[str, Any]:
    from vmkernel.storage.vmfs3.fields import enum_text
    from vmkernel.storage.vmfs3.identity import uuid_text
    from vmkernel.storage.vmfs3.volume_spec import LockMode

    record = one.record
    owner = record["owner"].tobytes()
    return {
        "object": one.title, "path": names.get(one.address), "offset": one.at,
        "mode": enum_text(LockMode, int(record["mode"])).partition(" ")[2],
        "owner": uuid_text(owner) if any(owner) else None, "owner_name": one.owner or None, "slot": one.slot,
        "held": one.is_slot_owners, "generation": int(record["hb_generation"]), "token": int(record["token"]),
        "holders": [
            uuid_text(holder["owner"].tobytes())
            for holder in record["holders"][: min(int(record["num_holders"]), len(record["holders"]))]
        ],
    }  # fmt: skip


def paths_of(volume: Volume, wanted: set[int]) -> dict[int, str]:
    """Paths of descriptors, by their addresses; damage is passed over."""
    from vmkernel.storage.vmfs3.walk import walk

    if not wanted:
        return {}
    found = {one.fd.address: one.path for one in walk(volume, "/", volume.root, lambda text: None)}
    return {address: found[address] for address in wanted if address in found}


def journal_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.anatomy import journals

    with reading(whole(options.volume)) as volume:
        found = list(journals(volume))
    if options.json:
        answer([journal_facts(one) for one in found])
        return 0
    for one in found:
        print("\n".join(field_lines([one.header])))
        if one.head is None:
            print("  no journal of this program's form: its contents are not known")
        for piece in one.pieces:
            print(f"  to be replayed: {len(piece.data)} bytes at {piece.position:#x}")
    if not found:
        print("no host has a journal")
    return 0


def journal_facts(one: SlotJournal) -> dict[str, Any]:
    return {
        "slot": one.slot, "address": one.address, "known": one.head is not None,
        "owner": one.head.owner_text if one.head else None,
        "replay": [{"offset": piece.position, "bytes": len(piece.data)} for piece in one.pieces],
    } | one.header.facts()  # fmt: skip


# bytes


def dump_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.place_names import ROOT

    where = place(options.place)
    with reading(where) as volume:
        if where.path != ROOT:
            if options.device is not None:
                raise BadOption("--device: expected with a volume, not with a file of one")
            reader = volume.open_file(volume.lookup(where.path))
            data = reader.bytes_at(options.offset, options.length)
        elif options.device is not None:
            if not 0 <= options.device < len(volume.lv.luns):
                raise BadOption(f"--device {options.device}: expected 0 to {len(volume.lv.luns) - 1}")
            lun = volume.lv.luns[options.device]
            data = lun.bytes_at(options.offset, max(min(options.length, lun.size - options.offset), 0))
        else:
            data = volume.lv.bytes_at(options.offset, max(min(options.length, volume.lv.size - options.offset), 0))
    if not data:
        raise BadOption(f"{options.offset}: expected a byte before the end")
    if options.json:
        answer({"offset": options.offset, "length": len(data), "hex": data.hex()})
    else:
        print("\n".join(dump_lines(data, options.offset)))
    return 0


def dump_lines(data: bytes, base: int) -> Iterator[str]:
    """Rows of 16 bytes; rows that repeat the one before are a star, as hexdump has it."""
    last, starred = b"", False
    for start in range(0, len(data), 16):
        piece = data[start : start + 16]
        if piece == last and start + 16 < len(data):
            if not starred:
                yield "*"
            starred = True
            continue
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        yield f"{base + start:012x}  {piece[:8].hex(' '):<23}  {piece[8:].hex(' '):<23}  |{text}|"
        last, starred = piece, False
