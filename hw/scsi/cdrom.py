"""A CD-ROM drive's command set (MMC) over a block device of 2048-byte blocks: one data track, one session.

It is carried by an IDE channel, or by a SCSI adapter through `hw.scsi.cdrom_unit`; the two differ in what it names
itself, and in the interface feature.

A disc is connected and disconnected by the host, or ejected and loaded by the guest. Who has not been told of it is
told: a disc that replaces another is first reported as absent, then as changed. The disc itself is wiring: after a
resume the same one is plugged in without `connect`.
Not modelled: MODE SELECT through IDE, audio, sub-channels, raw sectors, DVD structures, READ HEADER and READ TRACK
INFORMATION (20/00 each, raw READ CD 24/00). Only LUN 0.
Source: MMC-3 (T10 1363D) and SPC-3, cited as [mmc] and [spc].
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof
from typing import Protocol

from hw.blocks import read_until_bad
from hw.scsi.mmc_spec import (
    BLOCK_BYTES,
    CAPABILITIES_LOCKED,
    CAPABILITIES_LOCKED_AT,
    CAPABILITIES_PAGE,
    CD_BLOCKS_MAX,
    CD_READ,
    CORE,
    CORE_SCSI,
    DISC_INFORMATION,
    DVD_READ,
    EVENTS_SUPPORTED,
    FEATURE_CURRENT,
    FRAMES,
    INQUIRY,
    INQUIRY_SCSI,
    LEAD_OUT,
    LEAD_OUT_CONTROL,
    MECHANISM,
    MEDIA_CLASS,
    MEDIA_PRESENT,
    MEDIA_TRAY_OPEN,
    MEDIUM_TYPE_DATA,
    MEDIUM_TYPE_NONE,
    MODE_PAGES,
    MORPHING,
    MSF_OFFSET,
    NO_EVENT_AVAILABLE,
    NOT_HELD_BACK,
    RANDOM_READABLE,
    READ_CD_ANY,
    READ_CD_MODE_1,
    READ_CD_NOTHING,
    READ_CD_USER_DATA,
    REMOVABLE,
    SECONDS,
    SESSION_INFORMATION,
    TRACK_CONTROL,
    FeatureRequest,
    MediaEvent,
    MmcOp,
    Profile,
    TocFormat,
)
from hw.scsi.mode_select import HEADER_6_BYTES, HEADER_10_BYTES, selected_pages
from hw.scsi.scsi_spec import (
    ADDITIONAL_LENGTH,
    ALL_PAGES,
    COUNT_6_FOR_0,
    FIELD_IN_CDB,
    INVALID_FIELD,
    INVALID_OPCODE,
    LBA_6_MASK,
    LBA_OUT_OF_RANGE,
    LOCKED,
    LOCKED_EMPTY,
    LUN_LIST,
    MEDIUM_CHANGED,
    NO_MEDIUM,
    NO_MEDIUM_TRAY_OPEN,
    NO_SENSE,
    POWER_ON,
    READ_ERROR,
    RESPONSE_CURRENT,
    SAVE_PAGES,
    SAVING_NOT_SUPPORTED,
    VALID,
    WRONG_TRACK_MODE,
    Key,
    Op,
    PageControl,
    Sense,
    SenseData,
)
from hw.scsi.sense import Refused
from hw.scsi.wiring import BlocksIn, CheckCondition, DataIn, Good, ListOut, Outcome
from hw.wiring import BlockDevice
from ringfence.errors import MediaError


class Tray(Protocol):
    """Whoever put the disc in."""

    def ejected(self) -> None:
        """The guest has opened the tray. The disc lies in it, and closing it loads the disc again."""


class CdromState(LittleEndianStructure):
    """All guest-visible state but the disc. `attention` is a pending unit attention's ASC and ASCQ, 0 for none."""

    _fields_ = [
        ("information", c_uint32),
        ("attention", c_uint16),
        ("field_pointer", c_uint8),
        ("field_valid", c_uint8),
        ("information_valid", c_uint8),
        ("key", c_uint8),
        ("asc", c_uint8),
        ("ascq", c_uint8),
        ("absence_owed", c_uint8),
        ("tray_open", c_uint8),
        ("locked", c_uint8),
        ("event", c_uint8),
    ]


assert sizeof(CdromState) == 16


class Cdrom:
    """The target. `connect` and `disconnect` are the host's."""

    State = CdromState

    def __init__(
        self, state: CdromState, tray: Tray, medium: BlockDevice | None = None, *, scsi: bool = False
    ) -> None:
        """`scsi`: a SCSI adapter carries the commands."""
        self.state, self.tray, self.medium = state, tray, medium
        self._identity, self._core = (INQUIRY_SCSI, CORE_SCSI) if scsi else (INQUIRY, CORE)
        self._commands: dict[int, Callable[[bytes], Outcome]] = {
            Op.TEST_UNIT_READY: lambda cdb: self._ready() or Good(),
            Op.REQUEST_SENSE: self.request_sense,
            Op.INQUIRY: self.inquiry,
            Op.MODE_SENSE_6: self.mode_sense_6,
            Op.MODE_SENSE_10: self.mode_sense_10,
            Op.START_STOP_UNIT: self.start_stop,
            Op.PREVENT_ALLOW: self.prevent_allow,
            Op.READ_CAPACITY_10: self.read_capacity,
            Op.REZERO_UNIT: lambda cdb: self._ready() or Good(),
            Op.READ_6: lambda cdb: self.read(number(cdb, 1, 3) & LBA_6_MASK, cdb[4] or COUNT_6_FOR_0),
            Op.SEEK_6: lambda cdb: self.seek(number(cdb, 1, 3) & LBA_6_MASK),
            Op.READ_10: lambda cdb: self.read(number(cdb, 2, 4), number(cdb, 7, 2)),
            Op.READ_12: lambda cdb: self.read(number(cdb, 2, 4), number(cdb, 6, 4)),
            Op.SEEK_10: lambda cdb: self.seek(number(cdb, 2, 4)),
            Op.REPORT_LUNS: self.report_luns,
            MmcOp.READ_TOC: self.read_toc,
            MmcOp.GET_CONFIGURATION: self.get_configuration,
            MmcOp.GET_EVENT_STATUS: self.get_event_status,
            MmcOp.READ_DISC_INFORMATION: self.read_disc_information,
            MmcOp.SET_CD_SPEED: lambda cdb: Good(),
            MmcOp.MECHANISM_STATUS: lambda cdb: DataIn(MECHANISM[: number(cdb, 8, 2)]),
            MmcOp.READ_CD: self.read_cd,
        }
        if scsi:
            self._commands |= dict.fromkeys((Op.MODE_SELECT_6, Op.MODE_SELECT_10), self.mode_select)

    @property
    def block_size(self) -> int:
        return BLOCK_BYTES

    def reset(self) -> None:
        """Power-on. The tray is closed; a disc that is in it is in."""
        s = self.state
        s.absence_owed = s.tray_open = s.locked = 0
        s.event = MediaEvent.NONE
        s.attention = POWER_ON.asc << 8 | POWER_ON.ascq
        self._set_sense(NO_SENSE)

    def sync(self) -> None:
        """Drives nothing."""

    # from the host

    def connect(self, medium: BlockDevice) -> None:
        """Put a disc in. If another was in, or its absence was never seen, the guest first sees none."""
        s = self.state
        s.absence_owed |= self.medium is not None
        self.medium, s.tray_open = medium, 0
        self._changed()

    def disconnect(self) -> bool:
        """Take the disc out. False while the guest has locked the tray: it is told that someone wants to eject."""
        s = self.state
        if s.locked and self._loaded():
            s.event = MediaEvent.EJECT_REQUEST
            return False
        if self.medium is not None:
            s.absence_owed |= not s.tray_open
            s.event = MediaEvent.REMOVAL
            self.medium = None
        return True

    # from the adapter

    def execute(self, cdb: bytes) -> Outcome:
        """An absence owed comes first, then a unit attention, then the command. [spc: unit attention]"""
        s, op = self.state, cdb[0]
        if op not in NOT_HELD_BACK:
            if s.absence_owed:
                s.absence_owed = 0
                return self._check(NO_MEDIUM)
            if s.attention:
                sense = Sense(Key.UNIT_ATTENTION, s.attention >> 8, s.attention & 0xFF)
                s.attention = 0
                return self._check(sense)
        if op != Op.REQUEST_SENSE:
            self._set_sense(NO_SENSE)
        handler = self._commands.get(op)
        return self._check(INVALID_OPCODE) if handler is None else handler(cdb)

    def read_blocks(self, first: int, count: int, views: list[memoryview]) -> int | CheckCondition:
        if (bad := self._ready()) is not None or self.medium is None:
            return bad or self._check(NO_MEDIUM)
        try:
            return read_until_bad(self.medium, first, count, views)
        except MediaError as error:
            check = CheckCondition(READ_ERROR, error.block)
            self.failed(check)
            return check

    def failed(self, check: CheckCondition) -> None:
        """A read, by whomever it was done, ended so: keep its sense data."""
        self._set_sense(check.sense)
        if check.information is not None:
            self.state.information, self.state.information_valid = check.information & 0xFFFFFFFF, 1

    def refused(self, refusal: Refused) -> CheckCondition:
        """The parameters were wrong. Where in the list is not kept."""
        return self._check(refusal.sense)

    def was_reset(self, attention: Sense) -> None:
        """A reset on a SCSI bus: the tray is unlocked, and the guest is told. [spc: hard reset]"""
        s = self.state
        s.locked = 0
        s.attention = attention.asc << 8 | attention.ascq
        self._set_sense(NO_SENSE)

    def take_sense(self) -> bytes:
        s = self.state
        data = SenseData(
            response=RESPONSE_CURRENT | (VALID if s.information_valid else 0), key=s.key & 0xF, asc=s.asc, ascq=s.ascq,
            information=s.information, additional_length=ADDITIONAL_LENGTH,
            key_specific=FIELD_IN_CDB if s.field_valid else 0, field_pointer=s.field_pointer,
        )  # fmt: skip
        self._set_sense(NO_SENSE)
        return bytes(data)

    # commands: the drive

    def request_sense(self, cdb: bytes) -> Outcome:
        """A pending unit attention is reported here too. Descriptor format does not exist. [spc: REQUEST SENSE]"""
        s = self.state
        if cdb[1] & 1:
            return self._invalid(1)
        if not s.key and s.attention:
            self._set_sense(Sense(Key.UNIT_ATTENTION, s.attention >> 8, s.attention & 0xFF))
            s.attention = 0
        return DataIn(self.take_sense()[: cdb[4]])

    def inquiry(self, cdb: bytes) -> Outcome:
        if cdb[1] & 3:
            return self._invalid(1)
        if cdb[2]:
            return self._invalid(2)
        return DataIn(self._identity[: number(cdb, 3, 2)])

    def report_luns(self, cdb: bytes) -> Outcome:
        length = number(cdb, 6, 4)
        return self._invalid(6) if length < len(LUN_LIST) else DataIn(LUN_LIST[:length])

    def mode_sense_6(self, cdb: bytes) -> Outcome:
        pages = self._mode_pages(cdb)
        if not isinstance(pages, bytes):
            return pages
        return DataIn((bytes([len(pages) + 3, self._medium_type(), 0, 0]) + pages)[: cdb[4]])

    def mode_sense_10(self, cdb: bytes) -> Outcome:
        pages = self._mode_pages(cdb)
        if not isinstance(pages, bytes):
            return pages
        header = (len(pages) + 6).to_bytes(2, "big") + bytes([self._medium_type(), 0, 0, 0, 0, 0])
        return DataIn((header + pages)[: number(cdb, 7, 2)])

    def mode_select(self, cdb: bytes) -> Outcome:
        """The parameters come with `select`: an IDE channel brings none to this drive."""
        if cdb[1] & SAVE_PAGES:
            return self._invalid(1)
        length = number(cdb, 7, 2) if cdb[0] == Op.MODE_SELECT_10 else cdb[4]
        return ListOut(length) if length else Good()

    def select(self, cdb: bytes, data: bytes) -> None:
        """Accept what MODE SENSE gives; nothing can be changed. Raises Refused."""
        header = HEADER_10_BYTES if cdb[0] == Op.MODE_SELECT_10 else HEADER_6_BYTES
        now = {code: self._page(code) for code in MODE_PAGES}
        selected_pages(data, header, BLOCK_BYTES, now, {code: bytes(len(page)) for code, page in now.items()})

    def _mode_pages(self, cdb: bytes) -> bytes | CheckCondition:
        """The pages asked for, by page control; none can be changed."""
        control, page = cdb[2] >> 6, cdb[2] & 0x3F
        if control == PageControl.SAVED:
            return self._check(SAVING_NOT_SUPPORTED)
        if page != ALL_PAGES and page not in MODE_PAGES:
            return self._invalid(2)
        pages = [self._page(code) for code in sorted(MODE_PAGES) if page in (code, ALL_PAGES)]
        if control == PageControl.CHANGEABLE:
            pages = [data[:2] + bytes(len(data) - 2) for data in pages]
        return b"".join(pages)

    def _page(self, code: int) -> bytes:
        data = MODE_PAGES[code]
        if code != CAPABILITIES_PAGE or not self.state.locked:
            return data
        at = CAPABILITIES_LOCKED_AT
        return data[:at] + bytes([data[at] | CAPABILITIES_LOCKED]) + data[at + 1 :]

    def _medium_type(self) -> int:
        return MEDIUM_TYPE_DATA if self._loaded() else MEDIUM_TYPE_NONE

    def prevent_allow(self, cdb: bytes) -> Outcome:
        self.state.locked = cdb[4] & 1
        return Good()

    def start_stop(self, cdb: bytes) -> Outcome:
        """LOEJ moves the tray; spinning up and down changes nothing. [mmc: START STOP UNIT]"""
        s = self.state
        start, loej = cdb[4] & 1, cdb[4] & 2
        if cdb[4] >> 4 or not loej:
            return Good()
        if start:
            if s.tray_open:
                s.tray_open = 0
                if self.medium is not None:
                    self._changed()
        elif s.locked:
            return self._check(LOCKED if self._loaded() else LOCKED_EMPTY)
        elif not s.tray_open:
            s.tray_open = 1
            s.event = MediaEvent.REMOVAL
            self.tray.ejected()
        return Good()

    def get_event_status(self, cdb: bytes) -> Outcome:
        """Polled operation only. [mmc: GET EVENT STATUS NOTIFICATION]"""
        s = self.state
        if not cdb[1] & 1:
            return self._invalid(1)
        if not cdb[4] & EVENTS_SUPPORTED:
            reply = bytes([0, 2, NO_EVENT_AVAILABLE, EVENTS_SUPPORTED])
        else:
            status = (MEDIA_TRAY_OPEN if s.tray_open else 0) | (MEDIA_PRESENT if self._loaded() else 0)
            reply = bytes([0, 6, MEDIA_CLASS, EVENTS_SUPPORTED, s.event & 0xF, status, 0, 0])
            s.event = MediaEvent.NONE
        return DataIn(reply[: number(cdb, 7, 2)])

    def get_configuration(self, cdb: bytes) -> Outcome:
        request, start = cdb[1] & 3, number(cdb, 2, 2)
        profile = self._profile()
        body = b""
        for feature in self._features(profile):
            code = number(feature, 0, 2)
            wanted = code == start if request == FeatureRequest.ONE else code >= start
            if wanted and (request != FeatureRequest.CURRENT or feature[2] & FEATURE_CURRENT):
                body += feature
        header = (len(body) + 4).to_bytes(4, "big") + bytes(2) + int(profile).to_bytes(2, "big")
        return DataIn((header + body)[: number(cdb, 7, 2)])

    def _profile(self) -> Profile:
        if self.medium is None or not self._loaded():
            return Profile.NONE
        return Profile.CD_ROM if self.medium.blocks <= CD_BLOCKS_MAX else Profile.DVD_ROM

    def _features(self, profile: Profile) -> list[bytes]:
        cd, dvd = profile == Profile.CD_ROM, profile == Profile.DVD_ROM
        profiles = bytes.fromhex("0000 03 08 0010") + bytes([dvd, 0]) + bytes.fromhex("0008") + bytes([cd, 0])
        return [
            profiles, self._core, MORPHING, REMOVABLE,
            current(RANDOM_READABLE, cd or dvd), current(CD_READ, cd), current(DVD_READ, dvd),
        ]  # fmt: skip

    # commands: the disc

    def read_capacity(self, cdb: bytes) -> Outcome:
        if (bad := self._ready()) is not None:
            return bad
        last = max(self._blocks() - 1, 0)
        return DataIn(min(last, 0xFFFFFFFF).to_bytes(4, "big") + BLOCK_BYTES.to_bytes(4, "big"))

    def read(self, first: int, count: int) -> Outcome:
        if (bad := self._ready()) is not None:
            return bad
        if first + count > self._blocks():
            return self._check(LBA_OUT_OF_RANGE)
        return BlocksIn(first, count) if count else Good()

    def seek(self, block: int) -> Outcome:
        if (bad := self._ready()) is not None:
            return bad
        return Good() if block < self._blocks() else self._check(LBA_OUT_OF_RANGE)

    def read_cd(self, cdb: bytes) -> Outcome:
        """User data of mode 1 sectors only."""
        kind, flags = cdb[1] >> 2 & 7, cdb[9] & 0xF8
        if (bad := self._ready()) is not None:
            return bad
        if kind not in (READ_CD_ANY, READ_CD_MODE_1):
            return self._check(WRONG_TRACK_MODE)
        if cdb[10] & 7:
            return self._invalid(10)
        if flags == READ_CD_NOTHING:
            return Good()
        if flags != READ_CD_USER_DATA:
            return self._invalid(9)
        return self.read(number(cdb, 2, 4), number(cdb, 6, 3))

    def read_toc(self, cdb: bytes) -> Outcome:
        """Old drivers give the format in byte 9. [SFF-8020i: READ TOC]"""
        if (bad := self._ready()) is not None:
            return bad
        msf, track = bool(cdb[1] & 2), cdb[6]
        form = cdb[2] & 0xF or cdb[9] >> 6
        if form == TocFormat.SESSION:
            reply = SESSION_INFORMATION + address(0, msf)
        elif form == TocFormat.RAW:
            reply = self._raw_toc()
        elif form != TocFormat.TOC:
            return self._invalid(2)
        elif 1 < track != LEAD_OUT:
            return self._invalid(6)
        else:
            reply = self._toc(track, msf)
        return DataIn(reply[: number(cdb, 7, 2)])

    def _toc(self, track: int, msf: bool) -> bytes:
        entries = b""
        if track <= 1:
            entries = bytes([0, TRACK_CONTROL, 1, 0]) + address(0, msf)
        entries += bytes([0, LEAD_OUT_CONTROL, LEAD_OUT, 0]) + address(self._blocks(), msf)
        return (len(entries) + 2).to_bytes(2, "big") + bytes([1, 1]) + entries

    def _raw_toc(self) -> bytes:
        """Points A0 (first track), A1 (last), A2 (lead-out) and track 1; addresses are always MSF."""
        points = [(0xA0, bytes([0, 1, 0, 0])), (0xA1, bytes([0, 1, 0, 0])), (0xA2, address(self._blocks(), True)),
                  (0x01, address(0, True))]  # fmt: skip
        entries = b"".join(bytes([1, TRACK_CONTROL, 0, point, 0, 0, 0]) + where for point, where in points)
        return (len(entries) + 2).to_bytes(2, "big") + bytes([1, 1]) + entries

    def read_disc_information(self, cdb: bytes) -> Outcome:
        if (bad := self._ready()) is not None:
            return bad
        return self._invalid(1) if cdb[1] & 7 else DataIn(DISC_INFORMATION[: number(cdb, 7, 2)])

    # inside

    def _loaded(self) -> bool:
        return self.medium is not None and not self.state.tray_open

    def _blocks(self) -> int:
        return 0 if self.medium is None else self.medium.blocks

    def _ready(self) -> CheckCondition | None:
        """NOT READY without a disc. Seen so, its absence is owed no longer."""
        if self._loaded():
            return None
        self.state.absence_owed = 0
        return self._check(NO_MEDIUM_TRAY_OPEN if self.state.tray_open else NO_MEDIUM)

    def _changed(self) -> None:
        """A disc has come in. A power-on attention that is still pending says more."""
        s = self.state
        s.event = MediaEvent.NEW_MEDIA
        if not s.attention:
            s.attention = MEDIUM_CHANGED.asc << 8 | MEDIUM_CHANGED.ascq

    def _check(self, sense: Sense) -> CheckCondition:
        self._set_sense(sense)
        return CheckCondition(sense)

    def _invalid(self, byte: int) -> CheckCondition:
        """A field of the CDB, by its byte number."""
        check = self._check(INVALID_FIELD)
        self.state.field_pointer, self.state.field_valid = byte, 1
        return check

    def _set_sense(self, sense: Sense) -> None:
        s = self.state
        s.key, s.asc, s.ascq = sense
        s.information = s.information_valid = s.field_pointer = s.field_valid = 0


def number(data: bytes, at: int, length: int) -> int:
    """A big-endian field."""
    return int.from_bytes(data[at : at + length], "big")


def address(block: int, msf: bool) -> bytes:
    """Four bytes of a TOC entry: a block number, or minute, second and frame."""
    if not msf:
        return min(block, 0xFFFFFFFF).to_bytes(4, "big")
    frames = block + MSF_OFFSET
    return bytes([0, min(frames // (FRAMES * SECONDS), 0xFF), frames // FRAMES % SECONDS, frames % FRAMES])


def current(feature: bytes, now: bool) -> bytes:
    """A feature descriptor with its Current bit."""
    return feature[:2] + bytes([feature[2] | now]) + feature[3:]
