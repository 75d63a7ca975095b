"""Linux guests reach what is behind their switch's uplinks: a NAT, another host's switch, the host itself by a TAP.

Where two uplinks lead to the other host, one goes down under a transfer and comes back.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.realguests import iso
from tests.realguests.lan import APPEND, PORT, SWITCH, Host, LanMachine, Transfer, host_with, network, started, told
from tests.vmkernel.net.ends import wait_until
from tests.vmkernel.net.uplinks.test_uplinks import free_ports, needs_slirp
from vmkernel.net import changes
from vmkernel.net.host_network import HostNetwork
from vmkernel.net.policy import UplinkOrder
from vmkernel.net.uplinks.place import parse_place

MakeBoot = Callable[[str, str], iso.Boot]
ENGINES = ("direct", "interp")
FILE_BYTES, MIB = 3_000_001, 16
LOOPBACK, TAP, TAP_IP = "127.0.0.1", "rf0", "10.9.8.100"
CLONE_NEWNET = 0x40000000
LOOK_S, TIMEOUT_S = 0.005, 120
DHCP_SCRIPT = (
    r'printf "#!/bin/sh\n[ \$1 != bound ] || { ip addr add \$ip/24 dev \$interface; '
    r'ip route add default via \$router; echo dns \$dns; }\n" >/tmp/dhcp; chmod +x /tmp/dhcp'
)


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing about what it serves."""

    def log_message(self, *args: object) -> None:
        """To nobody."""


@contextmanager
def web_server(folder: Path) -> Iterator[int]:
    """Its port on 127.0.0.1."""
    server = ThreadingHTTPServer((LOOPBACK, 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sha256_of_all(connection: socket.socket) -> str:
    digest = hashlib.sha256()
    while data := connection.recv(1 << 16):
        digest.update(data)
    return digest.hexdigest()


def takes_a_file(machine: LanMachine, connect: Callable[[], socket.socket]) -> None:
    """From the host, at PORT, and says what it has got."""
    machine.ask("mkfifo /tmp/open")
    machine.ask(f"nc -l -p {PORT} <>/tmp/open | sha256sum >/tmp/got &")
    machine.ask(f"while ! netstat -ltn | grep -q ':{PORT} '; do usleep 50000; done")
    data = os.urandom(FILE_BYTES)
    with connect() as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert machine.ask("wait; cat /tmp/got").split()[0] == hashlib.sha256(data).hexdigest()


@needs_slirp
@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_behind_a_nat_a_guest_gets_an_address_and_files_both_ways(
    engine: str, raw_boot: MakeBoot, tmp_path: Path
) -> None:
    data = os.urandom(FILE_BYTES)
    (tmp_path / "file").write_bytes(data)
    with socket.create_server((LOOPBACK, 0)) as found:
        forwarded = found.getsockname()[1]
    wanted = network({"lan": 0}, [f"nat:tcp={forwarded}-10.0.2.15:{PORT}"])
    with web_server(tmp_path) as port, host_with(wanted) as host:
        machine = LanMachine(host, 1, raw_boot("686", APPEND), engine).ready()
        wait_until(host.uplinks_are_up)
        machine.ask("ip link set eth0 up")
        machine.ask(DHCP_SCRIPT)
        assert "dns 10.0.2.3" in machine.ask("udhcpc -i eth0 -n -q -t 20 -s /tmp/dhcp 2>&1")
        assert "inet 10.0.2.15/24" in machine.ask("ip addr show dev eth0")
        assert machine.pings("10.0.2.2") == 3
        got = machine.ask(f"wget -q -O - http://10.0.2.2:{port}/file | sha256sum")
        assert got.split()[0] == hashlib.sha256(data).hexdigest()
        takes_a_file(machine, lambda: socket.create_connection((LOOPBACK, forwarded), TIMEOUT_S))
        assert not machine.complaints()


@contextmanager
def two_hosts(links: int) -> Iterator[tuple[Host, Host]]:
    """Two hosts with so many links between their switches; the first is active, the others are on standby."""
    ports = free_ports(2 * links)
    here, there = ports[:links], ports[links:]
    ends = [[f"udp:{LOOPBACK}:{mine},{LOOPBACK}:{other}" for mine, other in zip(*pair, strict=True)]
            for pair in ((here, there), (there, here))]  # fmt: skip
    first, *others = (f"vmnic{number}" for number in range(links))

    def wanted(uplinks: list[str]) -> HostNetwork:
        whole = network({"lan": 7, "flat": 0}, uplinks)
        return changes.set_policy(whole, SWITCH, order=UplinkOrder((first,), tuple(others)))

    with host_with(wanted(ends[0])) as one, host_with(wanted(ends[1])) as two:
        yield one, two


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_guests_on_two_hosts_are_on_one_network(engine: str, raw_boot: MakeBoot) -> None:
    boot = raw_boot("686", APPEND)
    with two_hosts(1) as (here, there):
        one, two = machines = [LanMachine(here, 1, boot, engine), LanMachine(there, 2, boot, engine)]
        apart = LanMachine(there, 3, boot, engine, ("flat",))
        started((*machines, apart))
        wait_until(lambda: here.uplinks_are_up() and there.uplinks_are_up())
        assert one.pings(f"-s 1472 {two.ip}") == 3
        assert two.pings(one.ip6) == 3
        assert not one.reaches(apart)
        for sender, receiver in ((one, two), (two, one)):
            told(f"{sender.name} to {receiver.name}: {Transfer(sender, receiver, MIB).finish():.1f} MB/s")
        assert not one.complaints() and not two.complaints()


# the host itself


@pytest.fixture
def namespace() -> Iterator[ThreadPoolExecutor]:
    """A thread whose network namespace is its own: sockets and processes that it makes are in there."""
    with ThreadPoolExecutor(1) as alone:
        libc = ctypes.CDLL(None, use_errno=True)
        if alone.submit(libc.unshare, CLONE_NEWNET).result():
            pytest.skip("no network namespace of one's own here (it takes root)")
        made = alone.submit(subprocess.run, ["ip", "tuntap", "add", "dev", "t0", "mode", "tap"], capture_output=True)
        if made.result().returncode:
            pytest.skip(f"no TAP here: {made.result().stderr.decode().strip()[-100:]}")
        yield alone


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_a_tap_leads_to_the_host_itself(engine: str, raw_boot: MakeBoot, namespace: ThreadPoolExecutor) -> None:
    with host_with(network({"lan": 0}, [f"tap:{TAP}"])) as host:
        namespace.submit(host.place.start, stay=True).result()
        add = ["ip", "addr", "add", f"{TAP_IP}/24", "dev", TAP]
        namespace.submit(subprocess.run, add, check=True).result()
        machine = LanMachine(host, 1, raw_boot("686", APPEND), engine).up()
        assert machine.pings(f"-s 1472 {TAP_IP}") == 3
        with namespace.submit(socket.create_server, (TAP_IP, 0)).result() as server:
            server.settimeout(TIMEOUT_S)
            machine.ask(f"head -c {FILE_BYTES} /dev/urandom >/tmp/file")
            machine.begin(f"nc {TAP_IP} {server.getsockname()[1]} </tmp/file")
            with server.accept()[0] as connection:
                got = sha256_of_all(connection)
            machine.finish()
        assert got == machine.ask("sha256sum /tmp/file").split()[0]
        there = (machine.ip, PORT)
        takes_a_file(machine, lambda: namespace.submit(socket.create_connection, there, TIMEOUT_S).result())
        assert not machine.complaints()


# teaming


class Gaps(threading.Thread):
    """Looks at what a machine has received, until `longest` asks how long nothing came."""

    def __init__(self, host: Host, machine: LanMachine) -> None:
        super().__init__(name="gaps")
        self._host, self._machine, self._over = host, machine, threading.Event()
        self._longest_s = 0.0
        self.start()

    def run(self) -> None:
        last, since = -1, time.monotonic()
        while not self._over.wait(LOOK_S):
            count, now = self._host.counters(self._machine)["frames_in"], time.monotonic()
            if count != last:
                last, since = count, now
            self._longest_s = max(self._longest_s, now - since)

    def longest_s(self) -> float:
        self._over.set()
        self.join()
        return self._longest_s


@pytest.mark.long
def test_a_transfer_survives_the_loss_of_an_uplink_and_its_return(raw_boot: MakeBoot) -> None:
    boot = raw_boot("686", APPEND)
    with two_hosts(2) as (here, there):
        one, two = machines = [LanMachine(here, 1, boot), LanMachine(there, 2, boot)]
        started(machines)
        wait_until(lambda: here.uplinks_are_up() and there.uplinks_are_up())
        assert here.in_use("lan") == there.in_use("lan") == ["vmnic0"]
        right = there.file.network().nics["vmnic0"]
        mine, other = free_ports(2)
        wrong = replace(right, place=parse_place(f"udp:{LOOPBACK}:{mine},{LOOPBACK}:{other}"))
        transfer = Transfer(one, two, MIB)
        begun = there.counters(two)["bytes_in"]
        wait_until(lambda: there.counters(two)["bytes_in"] - begun > 1 << 20)
        gaps = Gaps(there, two)
        there.change(lambda whole: replace(whole, nics={**whole.nics, "vmnic0": wrong}))
        wait_until(lambda: here.in_use("lan") == there.in_use("lan") == ["vmnic1"])
        after = there.counters(two)["bytes_in"]
        wait_until(lambda: there.counters(two)["bytes_in"] - after > 1 << 20)
        told(f"failover: nothing came for {gaps.longest_s() * 1000:.0f} ms")
        gaps = Gaps(there, two)
        there.change(lambda whole: replace(whole, nics={**whole.nics, "vmnic0": right}))
        wait_until(lambda: here.in_use("lan") == there.in_use("lan") == ["vmnic0"])
        after = there.counters(two)["bytes_in"]
        wait_until(lambda: there.counters(two)["bytes_in"] - after > 1 << 20)
        told(f"failback: nothing came for {gaps.longest_s() * 1000:.0f} ms")
        told(f"{transfer.finish():.1f} MB/s")
        assert here.uplinks()["vmnic1"]["counters"]["bytes_out"] > 1 << 20
