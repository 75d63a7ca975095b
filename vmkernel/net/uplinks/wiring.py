"""What an uplink of a switch needs of its device."""

from __future__ import annotations

from typing import Protocol

BATCH = 64  # frames that one look at a device takes


class UplinkDevice(Protocol):
    """Frames to and from the world outside. Nothing here waits, and nothing but `open` raises."""

    link: bool  # whether frames can pass, as far as the device knows

    def fileno(self) -> int:
        """To be watched for input; -1 while there is nothing to watch. It may change in `tick` and `receive`."""

    def receive(self) -> list[bytes]:
        """What has come, at most BATCH frames."""

    def send(self, frame: bytes) -> bool:
        """False: there is no room, and the frame is lost."""

    @property
    def is_waiting(self) -> bool:
        """Do frames wait for room in the device?"""

    def room(self) -> None:
        """There may be some: called when the descriptor can be written to, while `is_waiting`."""

    def tick(self) -> None:
        """Once a second: look at the link, try again what did not work."""

    def close(self) -> None:
        """Idempotent."""

    @property
    def trouble(self) -> str:
        """Why the link is down, where that is known."""
