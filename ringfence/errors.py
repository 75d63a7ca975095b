"""The package's own exceptions: each is one line that says what, where, and what was expected.

`ringfence` prints the line on stderr and exits with status 2. What a guest does wrong is never one of these: it gets
what hardware would give it.
"""


class RingfenceError(Exception):
    """The root. Its text is one line, written for the person at the keyboard."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class BadInput(RingfenceError):
    """A file or message that cannot be true: `where: what: expected E, found F`."""

    def __init__(self, where: str, what: str, expected: str, found: str) -> None:
        super().__init__(f"{where}: {what}: expected {expected}, found {found}")
        self.where, self.what, self.expected, self.found = where, what, expected, found


class BadOption(RingfenceError):
    """A value given to the command, or in a configuration, that nothing here understands."""


class HostRefused(RingfenceError):
    """The host did not give what a machine needs: memory, a file, a terminal."""


class LayoutMismatch(RingfenceError):
    """Saved state was written by a build whose structures differ from ours."""


class EngineFailed(RingfenceError):
    """The engine cannot go on, by no fault of the guest that hardware would report."""


class MediaError(RingfenceError):
    """A disk's backend could not read or write: the first block that failed, of how many asked for."""

    def __init__(self, block: int, count: int) -> None:
        super().__init__(f"disk: block {block} of {count} cannot be read or written")
        self.block, self.count = block, count
