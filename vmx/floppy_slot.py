"""The host's side of a floppy drive: diskettes, which are image files, come and go while the machine runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ringfence.errors import HostRefused, MediaError
from vmkernel.storage.place import Place
from vmx.media import HostBlocks, open_floppy


class FloppyController(Protocol):
    """What takes the diskettes: hw.fdc.Fdc."""

    def insert(self, unit: int, diskette: HostBlocks) -> None: ...

    def remove(self, unit: int) -> None: ...


class FloppySlot:
    """One drive. Give `diskette` to the controller when it is built, then the controller to `attach`.

    `connect` and `disconnect` are called under the machine's lock. A drive has no lock: a diskette can always be taken.
    """

    def __init__(
        self,
        name: str,
        path: Place | None,
        say: Callable[[str], None] = lambda text: None,
        *,
        connected: bool = True,
        read_only: bool = False,
    ) -> None:
        """Opens the image, if it is to be connected. Raises HostRefused or BadInput."""
        self.name, self.path, self.read_only, self._say = name, path, read_only, say
        self.diskette: HostBlocks | None = None
        self._controller: FloppyController | None = None
        self._unit = 0
        if path is not None and connected:
            self.diskette = open_floppy(path, read_only=read_only)

    def attach(self, controller: FloppyController, unit: int) -> None:
        self._controller, self._unit = controller, unit

    @property
    def connected(self) -> bool:
        return self.diskette is not None

    def connect(self, path: Place | None = None) -> None:
        """Put in another diskette, or the same again. Raises HostRefused or BadInput, the old one still in."""
        target = path or self.path
        if target is None:
            raise HostRefused(f"{self.name}: no image is configured to connect")
        if self.diskette is not None and target == self.path:
            self.disconnect()  # its lock would keep us out
        diskette = open_floppy(target, read_only=self.read_only)
        self.disconnect()
        self.diskette, self.path = diskette, target
        if self._controller is not None:
            self._controller.insert(self._unit, diskette)

    def disconnect(self) -> None:
        if self.diskette is not None:
            if self._controller is not None:
                self._controller.remove(self._unit)
            self.close()

    def close(self) -> None:
        """Write out what the host still holds, and give the file back."""
        diskette, self.diskette = self.diskette, None
        if diskette is None:
            return
        try:
            diskette.flush()
        except MediaError:
            self._say(f"{self.name}: written sectors were lost: {diskette.trouble}")
        diskette.close()
