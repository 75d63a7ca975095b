"""The file of a host's network, $XDG_CONFIG_HOME/ringfence/esx.conf (else ~/.config): read, and changed as a whole.

Where nothing was said yet, there is vSwitch0 with the port group "VM Network", and a NAT as its uplink if the host has
libslirp. The first change writes that too. Changes are made one at a time, under a lock; a file that is damaged is an
error, and stays as it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ringfence.errors import HostRefused
from vmkernel.net.esx_conf import FILE_BYTES_MAX, EsxConf
from vmkernel.net.ethernet_spec import ADDRESS_BYTES
from vmkernel.net.host_network import HostNetwork, default_network
from vmkernel.net.network_conf import is_configured, read_network, write_network
from vmkernel.net.uplinks.slirp import is_available
from vmkernel.storage.block_file import replace_file

OURS = 0x02  # of the first byte: an address that no maker gave
MACHINE_ID = Path("/etc/machine-id")


class NetworkFile:
    """Reading it opens nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> NetworkFile:
        """Raises HostRefused where the user has no home."""
        configured = environment.get("XDG_CONFIG_HOME", "")
        try:
            folder = Path(configured) if os.path.isabs(configured) else Path.home() / ".config"
        except RuntimeError as error:
            raise HostRefused(f"home directory: {error}") from error
        return cls(folder / "ringfence" / "esx.conf")

    def network(self) -> HostNetwork:
        """Raises BadInput for a file that cannot be right, and HostRefused."""
        return self._read()[1]

    def change(self, action: Callable[[HostNetwork], HostNetwork]) -> HostNetwork:
        """What `action` makes of it, checked and written. Raises what that raises, and as `network` does."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HostRefused(f"{self.path}: cannot write: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            conf, before = self._read()
            after = action(before)
            after.check()
            replace_file(self.path, write_network(after, conf).to_bytes())
        finally:
            os.close(fd)
        return after

    def _read(self) -> tuple[EsxConf, HostNetwork]:
        try:
            with open(self.path, "rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise HostRefused(f"{self.path}: cannot read: {error.strerror}") from error
        conf = EsxConf.parse(data, str(self.path))
        if not is_configured(conf):
            return conf, default_network(nat=is_available(), address=made_address(str(self.path)))
        return conf, read_network(conf)


def made_address(salt: str) -> bytes:
    """An address for something of this host's, the same each time, and another for another salt or user."""
    try:
        host = MACHINE_ID.read_bytes()
    except OSError:
        host = b""
    digest = hashlib.sha256(b"\0".join([host, str(os.getuid()).encode(), salt.encode()])).digest()
    return bytes([digest[0] & ~0x03 | OURS]) + digest[1:ADDRESS_BYTES]
