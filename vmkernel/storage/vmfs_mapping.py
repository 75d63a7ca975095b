"""A raw device mapping on a volume, opened: the device itself, and the mapping's lock on the disk for as long.

Who writes the device has the mapping for itself, as ESX locks it: another host that uses the same mapping is told who.
Source: ESX Server 3 configuration guide, "Raw Device Mapping" (distributed file locking).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ringfence.errors import RingfenceError
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.luns import Luns
from vmkernel.storage.vmfs_opened import judge_lock

if TYPE_CHECKING:
    from vmkernel.storage.place import Held
    from vmkernel.storage.vmfs3.descriptor import Descriptor
    from vmkernel.storage.vmfs_place import VolumePlace


class MappedDevice(BlockFile):
    """It is called by the name of the mapping, which is what descriptors say."""

    def __init__(self, device: BlockFile, mapping: VolumePlace, held: Held | None) -> None:
        super().__init__(device.fd, mapping, writable=device.writable)
        self.mapping, self._held = mapping, held

    def close(self) -> None:
        super().close()
        self._let_go()

    def share(self) -> None:
        super().share()
        if self._held is not None:
            self._let_go()
            with suppress(RingfenceError):
                self._held = hold(self.mapping, shared=True)

    def lock(self, *, writable: bool) -> None:
        judge(self.mapping, self.mapping.descriptor(), writable=writable)
        super().lock(writable=writable)

    def _let_go(self) -> None:
        if self._held is not None:
            with suppress(RingfenceError):
                self._held.close()
            self._held = None


def open_mapped(mapping: VolumePlace, *, writable: bool, lock: bool) -> BlockFile:
    """Raises MissingLink where the user has not said which device it is, Locked, HostRefused."""
    fd = mapping.descriptor()
    path = Luns.of_user().device(fd.disk_id, mapping)
    held: Held | None = None
    if writable or (lock and mapping.store.is_writer):
        held = hold(mapping, shared=not writable)
    elif lock:
        judge(mapping, fd, writable=False)
    try:
        return MappedDevice(BlockFile.open(path, writable=writable, lock=lock), mapping, held)
    except BaseException:
        if held is not None:
            held.close()
        raise


def hold(mapping: VolumePlace, *, shared: bool) -> Held:
    """Raises FileLocked."""
    return mapping.store.to_write().hold(str(mapping.resolve().path), shared=shared)


def judge(mapping: VolumePlace, fd: Descriptor, *, writable: bool) -> None:
    """Raises FileLocked where somebody's use excludes this one."""
    judge_lock(mapping.store.volume, fd, mapping, writable=writable, own=mapping.store.own)
