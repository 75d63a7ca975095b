"""A virtual disk as a SCSI logical unit: VMware's, which is SCSI-2 with the 16-byte commands of SBC-2.

Executes every command but for the medium's part, which it hands out as work. A guest sees no caching page by default,
so it takes every write that has ended for durable: it is as durable as `Backing.write` makes it, or flushed where
`flush_writes` says so. Where the caching page is shown, the guest decides.
Not modelled: persistent reservations, log pages, UNMAP (20/00 each), defects, diagnostics, a buffer. WRITE SAME exists
only where `write_same` says so, vital product data only with a UUID.
Source: SBC-2 (T10 1417D), SPC-3 (T10 1416D), SCSI-2 (X3.131-1994), cited as [sbc], [spc] and [scsi2].
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint16, sizeof
from dataclasses import dataclass
from typing import NamedTuple

from hw.scsi import disk_replies as replies
from hw.scsi import disk_transfers as transfers
from hw.scsi.backing import Backing, Reservation, Unshared
from hw.scsi.buffers import sent
from hw.scsi.disk_cdb import NOT_HELD_BACK, NOT_RESERVED, RW_10, block_range, byte_check, number
from hw.scsi.disk_modes import ModePages, geometry_of, with_header
from hw.scsi.disk_spec import (
    BLOCK_BYTES,
    DESCRIPTOR_FORMAT,
    EXTENT,
    FORMAT_DATA,
    FUA,
    INQUIRY,
    POWER_CONDITION_SHIFT,
    REASSIGN_ENTRY_BYTES,
    REASSIGN_HEADER_BYTES,
    REASSIGN_LONG,
    START,
    SUBPAGES_ALL,
    THIRD_PARTY,
    UUID_BYTES,
    WRITE_SAME_REFUSED,
    DiskOp,
    Geometry,
)
from hw.scsi.mode_select import HEADER_6_BYTES, HEADER_10_BYTES
from hw.scsi.scsi_spec import (
    ALL_PAGES,
    CAPACITY_CHANGED,
    CDB_BYTES,
    CDB_BYTES_MAX,
    CONTROL_LINK,
    CONTROL_NACA,
    INVALID_OPCODE,
    LBA_6_MASK,
    LBA_OUT_OF_RANGE,
    LIST_LENGTH,
    NO_SENSE,
    PAGE_MASK,
    POWER_ON,
    RESET_ASC,
    SAVE_PAGES,
    SAVING_NOT_SUPPORTED,
    STOPPED,
    WRITE_PROTECTED,
    Key,
    Op,
    PageControl,
    Sense,
    SenseData,
)
from hw.scsi.sense import Refused, invalid_field, invalid_parameter, sense_data
from hw.scsi.wiring import CheckCondition, Command, Conflict, DataIn, Good, UnitOutcome

ATTENTIONS_MAX = 4
NOTHING_KEPT = sense_data(NO_SENSE)
READ_10, WRITE_10 = int(Op.READ_10), int(DiskOp.WRITE_10)  # plain numbers: an enumeration's members compare slowly


class DiskState(LittleEndianStructure):
    """All guest-visible state. `attentions` are pending unit attentions' ASC and ASCQ, oldest first, up to a 0."""

    _fields_ = [
        ("attentions", c_uint16 * ATTENTIONS_MAX),
        ("sense", c_uint8 * sizeof(SenseData)),
        ("sense_kept", c_uint8),
        ("stopped", c_uint8),
        ("reserved", c_uint8),
        ("write_cache", c_uint8),
    ]


assert sizeof(DiskState) == 30


@dataclass(frozen=True, slots=True)
class DiskProfile:
    """In what one virtual disk differs from the next."""

    uuid: bytes | None = None  # shown as vital product data
    geometry: Geometry | None = None  # if not the adapters' translation
    caching_page: bool = False
    write_cache: bool = False  # as the caching page begins
    flush_writes: bool = False  # without a caching page: flush before a write ends
    write_same: bool = False
    inquiry: bytes = INQUIRY

    def __post_init__(self) -> None:
        assert self.uuid is None or len(self.uuid) == UUID_BYTES


class Row(NamedTuple):
    """A command: what executes it, and whether it finds a stopped disk not ready."""

    run: Callable[[bytes, Command], UnitOutcome]
    started: bool = False


class Disk:
    """The logical unit. `capacity_changed` is the host's."""

    State = DiskState

    def __init__(
        self, state: DiskState, backing: Backing, profile: DiskProfile | None = None,
        reservation: Reservation | None = None,
    ) -> None:  # fmt: skip
        self.state, self.backing = state, backing
        self.profile = profile or DiskProfile()
        self.reservation = reservation or Unshared()
        self.modes = ModePages(self.profile.geometry or geometry_of(self.blocks), self.profile.caching_page)
        self._commands = {**self._unit_rows(), **self._medium_rows()}

    def _unit_rows(self) -> dict[int, Row]:
        return {
            Op.TEST_UNIT_READY: Row(self.good, started=True),
            Op.REZERO_UNIT: Row(self.good, started=True),
            Op.REQUEST_SENSE: Row(self.request_sense),
            Op.INQUIRY: self._reply(lambda cdb: replies.inquiry(cdb, self.profile.inquiry, self.profile.uuid)),
            Op.MODE_SELECT_6: Row(self.mode_select),
            Op.MODE_SELECT_10: Row(self.mode_select),
            Op.RESERVE_6: Row(self.reserve),
            Op.RESERVE_10: Row(self.reserve),
            Op.RELEASE_6: Row(self.release),
            Op.RELEASE_10: Row(self.release),
            Op.MODE_SENSE_6: self._reply(self.mode_sense),
            Op.MODE_SENSE_10: self._reply(self.mode_sense),
            Op.START_STOP_UNIT: Row(self.start_stop),
            Op.RECEIVE_DIAGNOSTIC: self._reply(replies.receive_diagnostic),
            Op.SEND_DIAGNOSTIC: Row(self.send_diagnostic),
            Op.PREVENT_ALLOW: Row(self.good),
            Op.WRITE_BUFFER: Row(self.write_buffer),
            Op.READ_BUFFER: self._reply(replies.read_buffer),
            Op.REPORT_LUNS: self._reply(replies.report_luns),
        }

    def _medium_rows(self) -> dict[int, Row]:
        capacity_10 = self._reply(lambda cdb: replies.read_capacity_10(cdb, self.blocks))
        capacity_16 = self._reply(lambda cdb: replies.read_capacity_16(cdb, self.blocks))
        rows: dict[int, Row] = {
            Op.READ_CAPACITY_10: capacity_10._replace(started=True),
            DiskOp.SERVICE_ACTION_IN_16: capacity_16._replace(started=True),
            DiskOp.READ_DEFECT_DATA_10: self._reply(replies.read_defect_data)._replace(started=True),
            DiskOp.FORMAT_UNIT: Row(self.format_unit, started=True),
            DiskOp.REASSIGN_BLOCKS: Row(self.reassign_blocks, started=True),
            DiskOp.PREFETCH_10: Row(self.prefetch, started=True),
            Op.SEEK_6: Row(self.seek, started=True),
            Op.SEEK_10: Row(self.seek, started=True),
        }
        forms: dict[Callable[[bytes, Command], UnitOutcome], tuple[int, ...]] = {
            self.read: (Op.READ_6, Op.READ_10, Op.READ_12, DiskOp.READ_16),
            self.write: (
                DiskOp.WRITE_6, DiskOp.WRITE_10, DiskOp.WRITE_12, DiskOp.WRITE_16,
                DiskOp.WRITE_VERIFY_10, DiskOp.WRITE_VERIFY_12, DiskOp.WRITE_VERIFY_16,
            ),
            self.verify: (DiskOp.VERIFY_10, DiskOp.VERIFY_12, DiskOp.VERIFY_16),
            self.synchronize_cache: (DiskOp.SYNCHRONIZE_10, DiskOp.SYNCHRONIZE_16),
            self.write_same: (DiskOp.WRITE_SAME_10, DiskOp.WRITE_SAME_16) if self.profile.write_same else (),
        }  # fmt: skip
        for run, codes in forms.items():
            rows |= dict.fromkeys(codes, Row(run, started=True))
        return rows

    @staticmethod
    def _reply(make: Callable[[bytes], bytes]) -> Row:
        return Row(lambda cdb, command: DataIn(make(cdb)))

    @property
    def blocks(self) -> int:
        return self.backing.size // BLOCK_BYTES

    def reset(self) -> None:
        """Power-on."""
        self.state.stopped = 0
        self.was_reset(POWER_ON)

    def sync(self) -> None:
        """The reservation is the one output: whoever is resumed takes it again, if he can."""
        if self.state.reserved and not self.reservation.take():
            self.state.reserved = 0

    # from the host

    def capacity_changed(self) -> None:
        """The backing has another size."""
        self._attend(CAPACITY_CHANGED)

    # from the target

    def was_reset(self, attention: Sense) -> None:
        """[spc: hard reset, logical unit reset]"""
        s = self.state
        self._release()
        s.write_cache = self.profile.write_cache
        s.sense_kept = 0
        self._attend(attention)

    def execute(self, command: Command) -> UnitOutcome:
        cdb = command.cdb[:CDB_BYTES_MAX].ljust(CDB_BYTES_MAX, b"\0")
        try:
            return self._execute(cdb, command)
        except Refused as refusal:
            self._keep(refusal.data)
            return CheckCondition(refusal.sense)

    def _execute(self, cdb: bytes, command: Command) -> UnitOutcome:
        """Attention, reservation, operation code, control byte, readiness, and then the command's own checks."""
        s, op = self.state, cdb[0]
        if s.attentions[0] and op not in NOT_HELD_BACK:
            raise Refused(self._take_attention())
        if op not in NOT_RESERVED and not s.reserved and self.reservation.is_held_elsewhere():
            return Conflict()
        row = self._commands.get(op)
        if row is None:
            raise Refused(INVALID_OPCODE)
        control = CDB_BYTES[op >> 5] - 1
        if cdb[control] & (CONTROL_NACA | CONTROL_LINK):
            raise invalid_field(control)
        if row.started and s.stopped:
            raise Refused(STOPPED)
        return row.run(cdb, command)

    def move_at_once(self, cdb: bytes, views: list[memoryview], length: int, *, writes: bool) -> bool | None:
        """The forms that drivers use, without flags, where every check of `_execute` passes."""
        s = self.state
        op, flags, first, count, control = RW_10.unpack_from(cdb)
        if flags or control or count * BLOCK_BYTES != length or first + count > self.blocks:
            return None
        if s.attentions[0] or s.sense_kept or s.stopped or (not s.reserved and self.reservation.is_held_elsewhere()):
            return None
        if op == READ_10 and not writes:
            return transfers.read_at_once(self.backing, first, views, length)
        if op == WRITE_10 and writes and self.backing.writable and not self._through():
            return transfers.write_at_once(self.backing, first, views, length)
        return None

    def failed(self, check: CheckCondition) -> None:
        self._keep(sense_data(check.sense, check.information))

    def take_sense(self) -> bytes:
        s = self.state
        data = bytes(s.sense) if s.sense_kept else NOTHING_KEPT
        s.sense_kept = 0
        return data

    # commands: the unit

    def good(self, cdb: bytes, command: Command) -> UnitOutcome:
        return Good()

    def request_sense(self, cdb: bytes, command: Command) -> UnitOutcome:
        """What a command without autosense left, else a pending unit attention. [spc: REQUEST SENSE]"""
        if cdb[1] & DESCRIPTOR_FORMAT:
            raise invalid_field(1, 0)
        if not self.state.sense_kept and self.state.attentions[0]:
            return DataIn(sense_data(self._take_attention())[: cdb[4]])
        return DataIn(self.take_sense()[: cdb[4]])

    def mode_sense(self, cdb: bytes) -> bytes:
        """[spc: MODE SENSE(6), MODE SENSE(10)]"""
        long = cdb[0] == Op.MODE_SENSE_10
        control, page, subpage = cdb[2] >> 6, cdb[2] & PAGE_MASK, cdb[3]
        if control == PageControl.SAVED:
            raise Refused(SAVING_NOT_SUPPORTED)
        codes = [code for code in self.modes.codes() if page in (code, ALL_PAGES)]
        if not codes:
            raise invalid_field(2, 5)
        if subpage and not (page == ALL_PAGES and subpage == SUBPAGES_ALL):
            raise invalid_field(3)
        if control == PageControl.CHANGEABLE:
            pages = b"".join(map(self.modes.changeable, codes))
        else:
            on = self.profile.write_cache if control == PageControl.DEFAULT else bool(self.state.write_cache)
            pages = b"".join(self.modes.page(code, on) for code in codes)
        data = with_header(pages, long=long, write_protected=not self.backing.writable)
        return data[: number(cdb, 7, 2) if long else cdb[4]]

    def mode_select(self, cdb: bytes, command: Command) -> UnitOutcome:
        """A cache that is turned off is flushed. [spc: MODE SELECT(6), MODE SELECT(10)]"""
        long = cdb[0] == Op.MODE_SELECT_10
        if cdb[1] & SAVE_PAGES:
            raise invalid_field(1, 0)
        length = number(cdb, 7, 2) if long else cdb[4]
        if not length:
            return Good()
        before = bool(self.state.write_cache)
        after = self.modes.select(sent(command, length), HEADER_10_BYTES if long else HEADER_6_BYTES, before)
        self.state.write_cache = after
        return transfers.synchronize(self.backing, taken=length) if before and not after else Good(length)

    def reserve(self, cdb: bytes, command: Command) -> UnitOutcome:
        """The whole unit, for this initiator. [scsi2: RESERVE]"""
        if cdb[1] & (EXTENT | THIRD_PARTY):
            raise invalid_field(1)
        if not self.reservation.take():
            return Conflict()
        self.state.reserved = 1
        return Good()

    def release(self, cdb: bytes, command: Command) -> UnitOutcome:
        """GOOD also for who holds nothing. [scsi2: RELEASE]"""
        if cdb[1] & (EXTENT | THIRD_PARTY):
            raise invalid_field(1)
        self._release()
        return Good()

    def start_stop(self, cdb: bytes, command: Command) -> UnitOutcome:
        """A stop comes with a flush. LOEJ is not a fixed disk's business. [sbc: START STOP UNIT]"""
        if cdb[4] >> POWER_CONDITION_SHIFT:
            return Good()
        self.state.stopped = not cdb[4] & START
        return transfers.synchronize(self.backing) if self.state.stopped else Good()

    def send_diagnostic(self, cdb: bytes, command: Command) -> UnitOutcome:
        """Every self-test succeeds; no page can be sent. [spc: SEND DIAGNOSTIC]"""
        if number(cdb, 3, 2):
            raise invalid_parameter(0)
        return Good()

    def write_buffer(self, cdb: bytes, command: Command) -> UnitOutcome:
        raise invalid_field(1, 4)

    # commands: the medium

    def prefetch(self, cdb: bytes, command: Command) -> UnitOutcome:
        self._range(cdb)
        return Good()

    def seek(self, cdb: bytes, command: Command) -> UnitOutcome:
        lba = number(cdb, 1, 3) & LBA_6_MASK if cdb[0] == Op.SEEK_6 else number(cdb, 2, 4)
        if lba >= self.blocks:
            raise Refused(LBA_OUT_OF_RANGE)
        return Good()

    def read(self, cdb: bytes, command: Command) -> UnitOutcome:
        """[sbc: READ]"""
        first, count = self._range(cdb)
        return transfers.read(self.backing, command, first, count) if count else Good()

    def write(self, cdb: bytes, command: Command) -> UnitOutcome:
        """[sbc: WRITE, WRITE AND VERIFY]"""
        verify = cdb[0] in (DiskOp.WRITE_VERIFY_10, DiskOp.WRITE_VERIFY_12, DiskOp.WRITE_VERIFY_16)
        compare = verify and byte_check(cdb)
        first, count = self._range(cdb)
        self._must_be_writable()
        if not count:
            return Good()
        unit_access = cdb[0] != DiskOp.WRITE_6 and not verify and bool(cdb[1] & FUA)
        return transfers.write(
            self.backing, command, first, count, flush=self._through() or unit_access, verify=verify, compare=compare,
        )  # fmt: skip

    def verify(self, cdb: bytes, command: Command) -> UnitOutcome:
        """[sbc: VERIFY]"""
        compare = byte_check(cdb)
        first, count = self._range(cdb)
        return transfers.verify(self.backing, command, first, count, compare=compare) if count else Good()

    def write_same(self, cdb: bytes, command: Command) -> UnitOutcome:
        """Nothing but the plain form: the disk cannot unmap, nor number the blocks. [sbc: WRITE SAME]"""
        if cdb[1] & WRITE_SAME_REFUSED:
            raise invalid_field(1)
        first, count = self._range(cdb)
        self._must_be_writable()
        count = count or self.blocks - first
        if not count:
            return Good()
        return transfers.write_same(self.backing, command, first, count, flush=self._through())

    def synchronize_cache(self, cdb: bytes, command: Command) -> UnitOutcome:
        """Everything is flushed; IMMED is in no hurry. [sbc: SYNCHRONIZE CACHE]"""
        first, _ = self._range(cdb)
        return transfers.synchronize(self.backing, first)

    def format_unit(self, cdb: bytes, command: Command) -> UnitOutcome:
        """The medium is formatted, and keeps its data. [sbc: FORMAT UNIT]"""
        if cdb[1] & FORMAT_DATA:
            raise invalid_field(1, 4)
        self._must_be_writable()
        return Good()

    def reassign_blocks(self, cdb: bytes, command: Command) -> UnitOutcome:
        """No block here ever needs another place. [sbc: REASSIGN BLOCKS]"""
        if cdb[1] & REASSIGN_LONG:
            raise invalid_field(1)
        length = number(sent(command, REASSIGN_HEADER_BYTES), 2, 2)
        if length % REASSIGN_ENTRY_BYTES:
            raise Refused(LIST_LENGTH)
        data = sent(command, REASSIGN_HEADER_BYTES + length)
        for at in range(REASSIGN_HEADER_BYTES, len(data), REASSIGN_ENTRY_BYTES):
            if number(data, at, REASSIGN_ENTRY_BYTES) >= self.blocks:
                raise Refused(LBA_OUT_OF_RANGE)
        self._must_be_writable()
        return Good(len(data))

    # inside

    def _range(self, cdb: bytes) -> tuple[int, int]:
        """First block and number of blocks, all of them here. No blocks at the very end are here, too."""
        first, count = block_range(cdb)
        if first + count > self.blocks:
            raise Refused(LBA_OUT_OF_RANGE)
        return first, count

    def _must_be_writable(self) -> None:
        if not self.backing.writable:
            raise Refused(WRITE_PROTECTED)

    def _through(self) -> bool:
        """Must a write be flushed before it ends?"""
        return not self.state.write_cache if self.profile.caching_page else self.profile.flush_writes

    def _release(self) -> None:
        if self.state.reserved:
            self.reservation.give_up()
        self.state.reserved = 0

    def _attend(self, sense: Sense) -> None:
        """A unit attention for the next command. A reset says more than all before it; nothing is said twice."""
        code = sense.asc << 8 | sense.ascq
        pending = [] if sense.asc == RESET_ASC else [value for value in self.state.attentions if value]
        if code not in pending:
            pending = [*pending, code][:ATTENTIONS_MAX]
        self._set_attentions(pending)

    def _take_attention(self) -> Sense:
        pending = [value for value in self.state.attentions if value]
        self._set_attentions(pending[1:])
        return Sense(Key.UNIT_ATTENTION, pending[0] >> 8, pending[0] & 0xFF)

    def _set_attentions(self, pending: list[int]) -> None:
        self.state.attentions[:] = [*pending, *[0] * ATTENTIONS_MAX][:ATTENTIONS_MAX]

    def _keep(self, data: bytes) -> None:
        self.state.sense[:] = data
        self.state.sense_kept = 1
