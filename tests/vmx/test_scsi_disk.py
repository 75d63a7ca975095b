"""A chain behind a SCSI adapter: the host's failures in the target's words, and what each kind of disk is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hw.scsi.backing import CorruptDisk, OutOfSpace, ReadOnlyExtent
from hw.scsi.disk import Disk, DiskState
from hw.scsi.wiring import Command, DataIn
from ringfence.errors import BadInput, HostRefused, MediaError, RingfenceError
from tests.vmx.scsi_machine import make_disk
from vmkernel.storage import errors
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind
from vmx.disk_image import Flusher, is_vmdk, open_chain
from vmx.scsi_disk import WRITE_BACK, WRITE_THROUGH, ChainBacking

CACHING, MODE_SENSE_6 = 0x08, 0x1A
WCE = 0x04
WAIT_LOOKS = 12_000


class Failing:
    """A chain of which every request fails."""

    size_bytes, writable = 1 << 20, True

    def __init__(self, error: RingfenceError) -> None:
        self.error = error

    def read(self, offset: int, views: object) -> None:
        raise self.error

    write = read

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.OutOfSpace("/d/x.vmdk", 512, "No space left on device"), OutOfSpace),
        (errors.NotWritable("/d/x.vmdk", 1, "its extent is RDONLY"), ReadOnlyExtent),
        (errors.DamagedGrain("/d/x.vmdk", 512, "grain", "inside", "outside", 3), CorruptDisk),
        (errors.HostTrouble("/d/x.vmdk", 512, "Input/output error"), MediaError),
        (errors.CorruptImage("/d/x.vmdk", 512, "table", "a place", "none"), CorruptDisk),
    ],
)
def test_a_failure_of_the_chain_is_one_of_the_backing(error: RingfenceError, kind: type[Exception]) -> None:
    backing = ChainBacking(Failing(error), "scsi0:0")  # type: ignore[arg-type]
    calls: list[Callable[[], None]] = [lambda: backing.read(0, []), lambda: backing.write(0, []), backing.flush]
    for call in calls:
        with pytest.raises(kind) as raised:
            call()
        assert type(raised.value) is kind or kind is MediaError
    assert backing.trouble == f"scsi0:0: {error}"
    assert backing.full == (3 if kind is OutOfSpace else 0)


def caching_page(disk: Disk) -> bytes:
    """The page that the disk shows, empty if it has none."""
    command = Command(bytes([MODE_SENSE_6, 0, CACHING, 0, 255, 0]), lambda completion: None)
    outcome = disk.execute(command)
    return outcome.data[-20:] if isinstance(outcome, DataIn) else b""


def test_a_guest_sees_the_write_cache_unless_it_is_written_through(tmp_path: Path) -> None:
    with open_disk(make_disk(tmp_path / "disk.vmdk"), writable=True) as chain:
        backing = ChainBacking(chain, "scsi0:0")
        shown, hidden = (Disk(DiskState(), backing, profile) for profile in (WRITE_BACK, WRITE_THROUGH))
        shown.reset()
        hidden.reset()
        for disk in (shown, hidden):
            disk.state.attentions[0] = 0
        page = caching_page(shown)
        assert page[0] & 0x3F == CACHING and page[2] & WCE
        assert not caching_page(hidden)


def test_a_written_through_disk_is_whole_after_every_write(tmp_path: Path) -> None:
    """As for a process that is killed: the file is looked at while it is open."""
    path = make_disk(tmp_path / "disk.vmdk")
    with open_disk(path, writable=True) as chain:
        backing = ChainBacking(chain, "scsi0:0")
        backing.write(512, [memoryview(b"a" * 512)])
        if WRITE_THROUGH.flush_writes:
            backing.flush()
        with open_disk(path, lock=False) as other:
            sector = memoryview(bytearray(512))
            other.read(512, [sector])
    assert bytes(sector) == b"a" * 512


def test_what_nobody_flushed_is_flushed_before_long(tmp_path: Path) -> None:
    path = make_disk(tmp_path / "disk.vmdk")
    sector = memoryview(bytearray(512))
    with open_disk(path, writable=True) as chain:
        flusher = Flusher({"scsi0:0": chain}, period_s=0.01)
        chain.write(512, [memoryview(b"a" * 512)])
        flusher.start()
        for _ in range(WAIT_LOOKS):
            with open_disk(path, lock=False) as other:
                other.read(512, [sector])
            if sector[0] == ord("a"):
                break
        flusher.close()
    assert bytes(sector) == b"a" * 512


def test_name_and_contents_of_an_image_have_to_agree(tmp_path: Path) -> None:
    vmdk = make_disk(tmp_path / "disk.vmdk")
    named_raw = tmp_path / "disk.img"
    named_raw.write_bytes(vmdk.read_bytes())
    with pytest.raises(BadInput, match=r"expected bare sectors, for its name does not end in \.vmdk, found a VMDK"):
        open_chain(named_raw, writable=False)
    raw = tmp_path / "raw.vmdk"
    raw.write_bytes(bytes(1 << 20))
    with pytest.raises(BadInput, match="expected a VMDK, as its name says"):
        open_chain(raw, writable=False)
    assert is_vmdk(vmdk)
    with pytest.raises((BadInput, HostRefused), match="missing"):
        open_chain(tmp_path / "missing.vmdk", writable=False)


def test_a_descriptor_that_a_guest_wrote_into_its_bare_sectors_is_not_believed(tmp_path: Path) -> None:
    """Else it would be given any file of the host that it names."""
    secret, raw = make_disk(tmp_path / "secret.vmdk", Kind.THIN), tmp_path / "guest.img"
    raw.write_bytes(secret.read_bytes().ljust(1 << 16, b"\0"))
    with pytest.raises(BadInput, match="bare sectors"):
        open_chain(raw, writable=True)
