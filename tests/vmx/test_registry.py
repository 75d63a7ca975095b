"""Which machines run: entries, names, left-overs of killed processes, and one instance of each machine."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringfence.errors import BadInput, HostRefused
from vmx.machine_lock import MachineInUse, MachineLock, owner_of
from vmx.registry import Entry, Registry, parse_entry

OTHER_PROCESS = """
import sys
from pathlib import Path
from vmx.machine_lock import MachineLock
from vmx.registry import Registry
folder, vmx = Path(sys.argv[1]), Path(sys.argv[2])
registry = Registry(folder, folder / "machines")
lock = MachineLock.acquire(vmx, folder)
registration = registry.register("other", vmx)
registry.socket_path(vmx).touch()
print("ready", flush=True)
sys.stdin.read()
registration.close()
lock.release()
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "run", tmp_path / "run" / "machines")
    registry.prepare()
    return registry


def machine(folder: Path, name: str, text: str = "") -> Path:
    path = folder / name
    path.write_text(f'config.version = "8"\n{text}')
    return path


@contextmanager
def other_process(registry: Registry, vmx: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has `vmx` switched on."""
    child = subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(registry.directory), str(vmx)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            yield child
        finally:
            if child.poll() is None:
                child.communicate("")


def test_a_machine_is_listed_while_it_runs(registry: Registry, tmp_path: Path) -> None:
    vmx = machine(tmp_path, "m.vmx")
    registration = registry.register("web", vmx)
    assert [(entry.name, entry.vmx, entry.pid) for entry in registry.running()] == [("web", str(vmx), os.getpid())]
    assert registry.running()[0].socket == str(registry.socket_path(vmx))
    registration.close()
    registration.close()
    assert registry.running() == []


def test_a_machine_without_a_file_is_listed_by_its_process(registry: Registry) -> None:
    registration = registry.register("hello", None)
    assert [entry.vmx for entry in registry.running()] == [""]
    assert registry.find("hello") == registration.entry
    registration.close()


def test_a_killed_process_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    vmx = machine(tmp_path, "m.vmx")
    with other_process(registry, vmx) as child:
        assert [entry.pid for entry in registry.running()] == [child.pid]
        assert owner_of(vmx, registry.directory) == child.pid
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert registry.socket_path(vmx).exists()
        assert registry.running() == []
        assert not registry.socket_path(vmx).exists()
        assert owner_of(vmx, registry.directory) == 0
        lock = MachineLock.acquire(vmx, registry.directory)
        lock.release()


def test_a_second_power_on_is_refused_with_the_owners_process(registry: Registry, tmp_path: Path) -> None:
    vmx = machine(tmp_path, "m.vmx")
    (tmp_path / "link.vmx").symlink_to("m.vmx")
    with other_process(registry, vmx) as child:
        for path in (vmx, tmp_path / "link.vmx"):
            with pytest.raises(MachineInUse, match=f"switched on already, by process {child.pid}"):
                MachineLock.acquire(path, registry.directory)
    lock = MachineLock.acquire(vmx, registry.directory)
    with pytest.raises(MachineInUse, match=str(os.getpid())):
        MachineLock.acquire(vmx, registry.directory)
    lock.release()
    lock.release()
    assert sorted(os.listdir(tmp_path)) == ["link.vmx", "m.vmx", "run"]


def test_a_folder_that_cannot_be_written_is_locked_in_the_runtime_directory(registry: Registry) -> None:
    vmx = Path("/proc/version")
    lock = MachineLock.acquire(vmx, registry.directory)
    assert lock.path.parent == registry.directory
    with pytest.raises(MachineInUse):
        MachineLock.acquire(vmx, registry.directory)
    assert owner_of(vmx, registry.directory) == os.getpid()
    lock.release()


def test_a_folder_that_is_not_there_is_refused(registry: Registry) -> None:
    with pytest.raises(HostRefused, match="cannot lock"):
        MachineLock.acquire(Path("/nonexistent/m.vmx"), registry.directory)


# finding


def test_a_running_machine_is_found_by_name_and_by_path(registry: Registry, tmp_path: Path) -> None:
    vmx = machine(tmp_path, "m.vmx", 'displayName = "web"\n')
    registration = registry.register("web", vmx)
    (tmp_path / "link.vmx").symlink_to("m.vmx")
    for target in ("web", str(vmx), str(tmp_path / "link.vmx")):
        assert registry.find(target) == registration.entry
    registration.close()


def test_a_machine_that_ran_before_is_found_by_name(registry: Registry, tmp_path: Path) -> None:
    vmx = machine(tmp_path, "m.vmx", 'displayName = "web"\n')
    with pytest.raises(BadInput, match="no such machine"):
        registry.find("web")
    registry.register("web", vmx).close()
    assert registry.find("web") == vmx
    assert registry.find(str(vmx)) == vmx
    vmx.unlink()
    with pytest.raises(BadInput, match="no such machine"):
        registry.find("web")


def test_a_name_that_two_machines_have_names_neither(registry: Registry, tmp_path: Path) -> None:
    for name in ("a.vmx", "b.vmx"):
        registry.register("web", machine(tmp_path, name, 'displayName = "web"\n')).close()
    with pytest.raises(BadInput, match=r"one machine of this name, or a path.*a\.vmx.*b\.vmx"):
        registry.find("web")


@pytest.mark.parametrize("target", ["/nonexistent/m.vmx", "no.vmx", "/", "a\0/b", "x" * 5000 + "/y"])
def test_a_path_that_is_no_machine_is_refused(registry: Registry, target: str) -> None:
    with pytest.raises(BadInput, match="no such machine"):
        registry.find(target)


def test_the_inventory_names_each_file_once(registry: Registry, tmp_path: Path) -> None:
    first, second = machine(tmp_path, "a.vmx"), machine(tmp_path, "b.vmx")
    for path in (first, second, first):
        registry.register("web", path).close()
    assert registry.known() == [second, first]


# hostile surroundings


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"name": 1}', b'{"name": "a", "vmx": "", "pid": "x", "socket": "", "started": 0}',
     b"[" * 50_000, b'{"name": "a", "vmx": 3, "pid": 1, "socket": "", "started": 0}'],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_is_none(registry: Registry, data: bytes) -> None:
    assert parse_entry(data) is None
    (registry.directory / "x.json").write_bytes(data)
    assert registry.running() == []


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = Entry("a", "/b", 3, "/c", 4.5)
    assert parse_entry(json.dumps({name: getattr(entry, name) for name in Entry.__slots__}).encode()) == entry


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    with pytest.raises(HostRefused, match="closed to others"):
        Registry(tmp_path / "run").prepare()


def test_the_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    registry = Registry.of_user({"XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)})
    assert registry.directory == tmp_path / "ringfence"
    assert stat.S_IMODE(registry.directory.stat().st_mode) == 0o700


def test_without_a_runtime_directory_the_home_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    registry = Registry.of_user({"XDG_RUNTIME_DIR": "relative"})
    assert registry.directory == tmp_path / ".ringfence" / "run"
    assert registry.inventory == tmp_path / ".local" / "state" / "ringfence" / "machines"


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostRefused, match="at most 107 bytes"):
        Registry(tmp_path / ("x" * 100)).socket_path(None)


def test_an_inventory_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "run", Path("/proc/none/machines"))
    registry.prepare()
    registry.register("web", machine(tmp_path, "m.vmx")).close()
    assert registry.known() == []
