"""Hosts with virtual switches, and Linux machines on them that a test talks to: each in a process of its own.

`Host` is a user's host: its configuration and its VMkernel's process, in a folder. `LanMachine` is a machine of that
host, at whose shell `ask` gives commands. Both end with the context that made the host.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ringfence.errors import HostRefused
from tests.realguests import iso
from tests.realguests.guest import PROMPT
from tests.realguests.transcript import COMPLAINTS
from vmkernel.host.client import KernelPlace
from vmkernel.net import changes
from vmkernel.net.host_network import HostNetwork
from vmkernel.net.network_file import NetworkFile
from vmkernel.net.uplinks.place import parse_place

ROOT = Path(__file__).parents[2]
READ_BYTES = 65536
PATIENCE_S, LONG_S = 120.0, 1200.0
TAIL = 3000
APPEND = "mods=pcnet32,8021q settle=0 checks=none end=shell"
# One command a line, without echo and without the shell's own editing, which breaks long lines.
SHELL = 'stty -echo; PS1=; while read -r l; do eval "$l"; echo "<$?>"; done\n'
ANSWERED = re.compile(rb"<(\d+)>\r?\n")
SWITCH = "vSwitch0"
INTERFACE = "eth0"


def network(groups: Mapping[str, int], uplinks: Iterable[str] = ()) -> HostNetwork:
    """One switch: port groups with their VLANs, and where its uplinks lead."""
    whole = changes.add_switch(HostNetwork(), SWITCH)
    for number, where in enumerate(uplinks):
        whole, nic = changes.add_nic(whole, parse_place(where), bytes.fromhex("0250560000") + bytes([number]))
        whole = changes.link(whole, nic, SWITCH)
    for name, vlan in groups.items():
        whole = changes.add_group(whole, SWITCH, name, vlan)
    return whole


class Host:
    """One host. `folder` has a short path, since a socket is in it."""

    def __init__(self, folder: Path, wanted: HostNetwork) -> None:
        self.folder = folder
        folders = {name: folder / name[4:-5].lower() for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME")}
        folders["XDG_RUNTIME_DIR"] = folder / "run"
        folders["XDG_RUNTIME_DIR"].mkdir(mode=0o700, parents=True)
        self.environment = {name: str(path) for name, path in folders.items()}
        self.file = NetworkFile.of_user(self.environment)
        self.file.change(lambda _: wanted)
        self.place = KernelPlace(folder / "run" / "ringfence", self.file.path)
        self.machines: list[LanMachine] = []

    def change(self, action: Callable[[HostNetwork], HostNetwork]) -> None:
        """In the configuration, and so in the VMkernel that runs."""
        self.file.change(action)
        self.place.ask("reload")

    def port(self, label: str) -> dict[str, Any]:
        """The row of a machine's port in the VMkernel's status, by its name and adapter: `vm1 ethernet0`."""
        rows = [port for group in self._groups() for port in group["ports"] if port["client"] == label]
        assert len(rows) == 1, rows
        return dict(rows[0])

    def counters(self, machine: LanMachine, adapter: int = 0) -> dict[str, Any]:
        return dict(self.port(f"{machine.name} ethernet{adapter}")["counters"])

    def in_use(self, group: str) -> list[str]:
        """The uplinks that a port group uses now."""
        return list(next(row for row in self._groups() if row["name"] == group)["in_use"])

    def uplinks(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.place.ask("status")["uplinks"]}

    def uplinks_are_up(self) -> bool:
        return all(row["link"] for row in self.uplinks().values())

    def kill_kernel(self) -> None:
        """Its machines start another."""
        os.kill(self.place.ask("status")["pid"], signal.SIGKILL)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for switch in self.place.ask("status")["switches"] for group in switch["groups"]]

    def close(self) -> None:
        for machine in self.machines:
            machine.close()
        with suppress(HostRefused):
            self.place.stop(force=True)
        said = self.place.log.read_text() if self.place.log.exists() else ""
        assert said == "", said


@contextmanager
def host_with(wanted: HostNetwork) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="rf") as name:
        host = Host(Path(name), wanted)
        try:
            yield host
        finally:
            host.close()


class LanMachine:
    """A Linux machine, booting. `number` makes its name, its addresses and what `ip` and `ip6` say."""

    def __init__(
        self, host: Host, number: int, boot: iso.Boot, engine: str = "auto", groups: tuple[str, ...] = ("lan",)
    ) -> None:
        self.host, self.number, self.name = host, number, f"vm{number}"
        nics = {f"00:0c:29:00:{adapter:02x}:{number:02x}": group for adapter, group in enumerate(groups)}
        spec = {
            "name": self.name, "engine": engine, "memory_mib": 128, "vcpus": 1, "kernel": str(boot.kernel),
            "initrd": str(boot.initrd), "append": boot.append, "nics": nics, "reboots": True,
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.realguests.lan_machine", json.dumps(spec)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=os.environ | host.environment,
        )  # fmt: skip
        self.said = bytearray()
        self._changed = threading.Condition()
        self._read, self._over, self._asked = 0, False, ""
        self._thread = threading.Thread(target=self._listen, name=self.name, daemon=True)
        self._thread.start()
        host.machines.append(self)

    @property
    def ip(self) -> str:
        return f"10.9.8.{self.number}"

    @property
    def ip6(self) -> str:
        return f"fd09::aa:{self.number}"

    @property
    def group6(self) -> str:
        """Who has this IPv6 address is in this group, and nobody else. [RFC 4291, section 2.7.1]"""
        return f"ff02::1:ffaa:{self.number}"

    # what it says

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), READ_BYTES):
            with self._changed:
                self.said += data
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _expect(self, pattern: re.Pattern[bytes], seconds: float) -> re.Match[bytes]:
        """The next match, which is read with what comes before it."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or pattern.search(self.said, self._read), seconds)
            found = pattern.search(self.said, self._read)
            assert found is not None, f"{pattern.pattern!r} never came; {self.last_words()}"
            self._read = found.end()
            return found

    def last_words(self) -> str:
        assert self._process.stderr is not None
        error = self._process.stderr.read().decode() if self._over else ""
        return f"{self.name} was asked {self._asked!r} and said\n{self.said[-TAIL:].decode('latin-1')}\n{error}"

    # what it is told

    def ready(self) -> LanMachine:
        """At its shell."""
        self._expect(re.compile(re.escape(PROMPT.encode())), PATIENCE_S)
        self._send(SHELL)
        assert self.ask("echo ready").splitlines()[-1] == "ready"
        return self

    def up(self, interface: str = INTERFACE) -> LanMachine:
        """`ready`, with its addresses."""
        self.ready()
        return self.addressed(interface)

    def addressed(self, interface: str = INTERFACE) -> LanMachine:
        self.ask(f"echo 0 >/proc/sys/net/ipv6/conf/{interface}/dad_transmits")  # or a new address waits for a second
        self.ask(f"ip link set {interface} up; ip addr add {self.ip}/24 dev {interface}")
        self.ask(f"ip addr add {self.ip6}/64 dev {interface}")
        self.ask(f"while ip addr show dev {interface} | grep -q tentative; do usleep 50000; done")
        return self

    def errors(self) -> int:
        """That its driver has counted."""
        return sum(map(int, self.ask("cat /sys/class/net/eth0/statistics/*_errors").split()))

    def write_script(self, path: str, text: str) -> None:
        self.ask(f"echo '#!/bin/sh' >{path}; echo '{text}' >>{path}; chmod +x {path}")

    def begin(self, command: str) -> None:
        self._asked = command
        self._send(f"{command}\n")

    def finish(self, seconds: float = PATIENCE_S, *, status: int | None = 0) -> str:
        """What the command has printed; it ended with this status, unless any will do."""
        start = self._read
        found = self._expect(ANSWERED, seconds)
        printed = self.said[start : found.start()].decode("latin-1").replace("\r\n", "\n").rstrip("\n")
        assert status is None or int(found[1]) == status, f"status {int(found[1])}; {self.last_words()}"
        return printed

    def ask(self, command: str, seconds: float = PATIENCE_S, *, status: int | None = 0) -> str:
        self.begin(command)
        return self.finish(seconds, status=status)

    def pings(self, words: str, count: int = 3) -> int:
        """How many answers come to so many questions; `words` ends with whom they are for."""
        said = self.ask(f"ping -q -c {count} -i 0.2 -W 2 {words}", status=None)
        found = re.search(r"(\d+) packets received", said)
        assert found is not None, said
        return int(found[1])

    def reaches(self, other: LanMachine) -> bool:
        """By IPv4; one answer does, since the first question may be lost with the driver's first second."""
        return self.pings(other.ip) > 0

    def complaints(self) -> list[str]:
        """Of its kernel, so far."""
        return self.ask(f"dmesg | grep -E '{'|'.join(COMPLAINTS)}'", status=None).splitlines()

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def close(self) -> None:
        """Switch it off, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def started(machines: Iterable[LanMachine]) -> None:
    """All of them at their shells, with their addresses."""
    for machine in machines:
        machine.up()


def told(text: str) -> None:
    """A figure, for whoever runs pytest with -rP."""
    sys.stdout.write(f"{text}\n")


# a transfer

BLOCK_MIB = 4
PORT = 5001
STREAM = "i=0; while [ $i -lt {count} ]; do echo $i; cat /tmp/block; i=$((i + 1)); done"


class Transfer:
    """A stream of numbered random blocks by TCP, from one machine's nc to another's, and both ends' SHA-256 of it."""

    # An end of input would close the connection, as seen by the other nc.
    RECEIVE = "<>/tmp/open | sha256sum >/tmp/got"
    SEND = "/tmp/stream | tee /tmp/pipe | nc {to} {port}"

    def __init__(self, sender: LanMachine, receiver: LanMachine, mib: int, to: str = "") -> None:
        """Begins. `to` is the receiver's address, if not `ip`."""
        self._sender, self._receiver, self._mib = sender, receiver, mib
        sender.ask(f"head -c {BLOCK_MIB << 20} /dev/urandom >/tmp/block")
        self._prepare(STREAM.format(count=mib // BLOCK_MIB))
        receiver.ask(f"nc -l -p {PORT} {self.RECEIVE} &")
        receiver.ask(f"while ! netstat -ltn | grep -q ':{PORT} '; do usleep 50000; done")
        self._began = time.monotonic()
        sender.begin(self.SEND.format(to=to or receiver.ip, port=PORT))

    def _prepare(self, stream: str) -> None:
        for machine in (self._sender, self._receiver):
            machine.ask("[ -p /tmp/pipe ] || mkfifo /tmp/pipe /tmp/open")
        self._sender.write_script("/tmp/stream", stream)
        self._sender.ask("sha256sum </tmp/pipe >/tmp/sent &")

    def finish(self) -> float:
        """Nothing was lost or changed; how many MB a second it was."""
        self._sender.finish(LONG_S)
        seconds = time.monotonic() - self._began
        sent, got = (machine.ask(f"wait; cat /tmp/{name}").splitlines()[-1].split()[0]  # its kernel may speak, too
                     for machine, name in ((self._sender, "sent"), (self._receiver, "got")))  # fmt: skip
        assert got == sent, self._sender.last_words() + self._receiver.last_words()
        return (self._mib << 20) / 1e6 / seconds


class BulkTransfer(Transfer):
    """The same stream and hashes, but the programs at both ends have the connection themselves.

    What goes through a pipe to busybox's nc and tee goes in pieces of 1 KiB, with some thirty system calls for 4 KiB.
    """

    RECEIVE = "-e /tmp/hash"
    SEND = "nc {to} {port} -e /tmp/stream"

    def _prepare(self, stream: str) -> None:
        self._sender.write_script("/tmp/stream", stream)
        self._receiver.write_script("/tmp/hash", "exec sha256sum >/tmp/got")
        self._sender.ask("/tmp/stream | sha256sum >/tmp/sent", LONG_S)
