"""`ringfence datastore`, disks in datastores by the disk verbs and vmkfstools, and the demonstration's machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.command import ringfence_here
from tests.vmkernel.storage.lab import contents, data, put
from tests.vmkernel.storage.vmfs3.hosts import make
from tests.vmkernel.storage.volume_lab import COUNTS, judge
from tools import demonstration, vmkfstools
from vmkernel.storage.chain import open_disk
from vmkernel.storage.datastores import resolve
from vmkernel.storage.vmfs_store import close_volumes


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`san`, a volume, and `local`, a directory."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    images = make(tmp_path, devices=2, counts=COUNTS)
    (tmp_path / "local").mkdir()
    assert ringfence_here("datastore", "add", "san", "+".join(map(str, images))).returncode == 0
    assert ringfence_here("datastore", "add", "local", str(tmp_path / "local")).returncode == 0
    yield tmp_path
    close_volumes()
    judge(images)


def done(*words: str) -> str:
    result = ringfence_here(*words)
    assert (result.returncode, result.stderr) == (0, ""), (words, result)
    return result.stdout


def refused(*words: str) -> str:
    result = ringfence_here(*words)
    assert result.returncode == 2 and result.stderr.count("\n") == 1, (words, result)
    return result.stderr


def test_datastores_are_listed_with_their_room(stores: Path) -> None:
    san, local = sorted(json.loads(done("datastore", "list", "--json")), key=lambda row: row["kind"], reverse=True)
    assert (san["name"], san["kind"], len(san["places"])) == ("san", "vmfs", 2)
    assert (local["name"], local["kind"]) == ("local", "directory")
    assert 0 < san["free_bytes"] < 512 << 20 and local["free_bytes"] > 0
    assert done("datastore", "list").count("\n") == 2
    (stores / "disk1.img").rename(stores / "away")
    (wrong,) = (row["error"] for row in json.loads(done("datastore", "list", "--json")) if row["error"])
    assert "cannot open" in wrong
    (stores / "away").rename(stores / "disk1.img")
    done("datastore", "rm", "local")
    assert "expected a datastore: san" in refused("datastore", "browse", "local")


def test_disks_are_made_in_a_datastore_looked_at_copied_and_browsed(stores: Path) -> None:
    resolve("[san] vm").mkdir()
    done("disk", "create", "[san] vm/disk.vmdk", "2M", "--kind", "thin")
    with open_disk(resolve("[san] vm/disk.vmdk"), writable=True) as disk:
        put(disk, 5, data(1, 3))
    child = done("disk", "snapshot", "[san] vm/disk.vmdk").strip()
    assert child == "[san] vm/disk-000001.vmdk"
    info = json.loads(done("disk", "info", child, "--json"))
    assert [link["path"] for link in info["links"]] == [child, "[san] vm/disk.vmdk"]
    assert (info["bytes"], info["findings"], info["error"]) == (2 << 20, [], "")
    done("disk", "convert", child, "[local] copy.vmdk")
    assert contents(stores / "local" / "copy.vmdk") == contents(resolve(child))
    assert done("disk", "compare", child, str(stores / "local" / "copy.vmdk")) == "the same\n"
    rows = {row["name"]: row for row in json.loads(done("datastore", "browse", "[san] vm", "--json"))}
    assert rows.keys() == {"disk.vmdk", "disk-flat.vmdk", "disk-000001.vmdk", "disk-000001-delta.vmdk"}
    assert (rows["disk-flat.vmdk"]["bytes"], rows["disk-flat.vmdk"]["host_bytes"]) == (2 << 20, 1 << 20)
    assert "folder  vm/" in done("datastore", "browse", "san")
    assert "[san] vm/other.vmdk" in refused("disk", "info", "[san] vm/other.vmdk")
    assert "inside the datastore" in refused("disk", "info", "[san] ../x.vmdk")


def test_vmkfstools_takes_the_same_names(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resolve("[san] vm").mkdir()
    assert vmkfstools.main(["-c", "2m", "[san] vm/a.vmdk"]) == 0
    assert vmkfstools.main(["-E", "[san] vm/a.vmdk", "[san] vm/b.vmdk"]) == 0
    assert vmkfstools.main(["-i", "[san] vm/b.vmdk", "-d", "thin", "[local] c.vmdk"]) == 0
    capsys.readouterr()
    assert vmkfstools.main(["-D", "[san] vm/b-flat.vmdk"]) == 0
    shown = capsys.readouterr().out
    assert "Lock [type 10c00001 offset" in shown and "type reg" in shown and "len 2097152, nb 2 tbz 2" in shown
    assert vmkfstools.main(["-U", "[san] vm/b.vmdk"]) == 0
    assert {path.name for path in resolve("[san] vm").iterdir()} == set()
    assert (stores / "local" / "c.vmdk").exists()


def test_the_demonstration_is_a_machine_on_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNTIME_DIR", "STATE_HOME"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(f"XDG_{name}", str(tmp_path / name))
    image = tmp_path / "made" / "demonstration.img"
    for _ in range(2):  # the second time the volume is there
        assert demonstration.main([str(image)]) == 0
        command = [sys.executable, "-m", "tools.ringfence", "run", f"{image}:/minios/minios.vmx", "--timeout", "60"]
        ran = subprocess.run(command, input="run primes\nexit\n", capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert "there are 2262 below 20000" in ran.stdout
    found = done("vmfs", "ls", f"{image}:/minios").split()
    assert found == ["minios.elf", "minios.nvram", "minios.vmx", "vmware-1.log", "vmware.log"]
    close_volumes()
    judge([image])
