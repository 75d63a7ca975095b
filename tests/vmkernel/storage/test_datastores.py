"""Datastores of the host: the file of names, and what a text names."""

import json
import threading
from pathlib import Path

import pytest

from ringfence.errors import BadInput, BadOption, HostRefused
from vmkernel.storage.datastores import Datastores, Kind, in_brackets, is_nfs, locate, resolve


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "ringfence" / "datastores.json"


@pytest.fixture
def known(config: Path) -> Datastores:
    return Datastores.of_user()


def test_a_directory_is_a_datastore_by_its_name(tmp_path: Path, known: Datastores) -> None:
    (tmp_path / "store").mkdir()
    known.add("local", [tmp_path / "store"])
    assert known.find("local").kind is Kind.DIRECTORY
    assert resolve("[local] vm/vm.vmdk") == tmp_path / "store" / "vm" / "vm.vmdk"
    assert resolve("[local]") == tmp_path / "store"
    assert locate(tmp_path, "[local] vm/a.vmdk") == tmp_path / "store/vm/a.vmdk"
    known.remove("local")
    with pytest.raises(BadOption, match=r"\[local\]: expected a datastore: none is known here"):
        resolve("[local] vm/vm.vmdk")


@pytest.mark.parametrize("text", ["vm/vm.vmdk", "/vm/a b.vmdk", "x[local] y", "C:x"])
def test_other_texts_are_paths_of_the_host(text: str, known: Datastores) -> None:
    assert in_brackets(text) is None
    assert resolve(text) == Path(text)
    assert locate(Path("/folder"), text) == Path("/folder") / text


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/../x"])
def test_a_path_does_not_leave_its_datastore(tmp_path: Path, known: Datastores, path: str) -> None:
    known.add("local", [tmp_path])
    with pytest.raises(BadOption, match="inside the datastore"):
        resolve(f"[local] {path}")


@pytest.mark.parametrize("name", ["", " a", "a/b", "a]b", "[a", "a\nb", "x" * 128])
def test_names_that_no_brackets_can_hold_are_refused(tmp_path: Path, known: Datastores, name: str) -> None:
    with pytest.raises(BadOption, match="expected 1 to 127 bytes"):
        known.add(name, [tmp_path])


def test_a_name_is_given_once_and_only_to_what_is_there(tmp_path: Path, known: Datastores) -> None:
    known.add("local", [tmp_path])
    with pytest.raises(BadOption, match="there is one of this name already"):
        known.add("local", [tmp_path])
    with pytest.raises(HostRefused, match="no such file"):
        known.add("other", [tmp_path / "nothing"])
    with pytest.raises(BadOption, match="beside others"):
        known.add("other", [tmp_path, tmp_path])
    (tmp_path / "image").write_bytes(bytes(1 << 16))
    with pytest.raises(BadInput, match="image"):
        known.add("other", [tmp_path / "image"])
    with pytest.raises(BadOption, match="other"):
        known.remove("other")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"datastores": []}', '{"datastores": {"a": {}}}', '{"datastores": {"a": {"places": ["x"]}}}',
        '{"datastores": {"a": {"places": []}}}', '{"datastores": {"a]": {"places": ["/x"]}}}', "[" * 5000,
    ],
)  # fmt: skip
def test_a_damaged_file_of_names_is_bad_input(config: Path, known: Datastores, text: str) -> None:
    config.parent.mkdir(parents=True)
    config.write_text(text)
    with pytest.raises(BadInput, match=r"datastores\.json"):
        known.all()


def test_names_added_at_once_are_all_there(tmp_path: Path, config: Path, known: Datastores) -> None:
    adding = [threading.Thread(target=known.add, args=(f"s{number}", [tmp_path])) for number in range(20)]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert {one.name for one in known.all()} == {f"s{number}" for number in range(20)}
    assert len(json.loads(config.read_text())["datastores"]) == 20


def test_nfs_is_told_by_the_mount_that_holds_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "share").mkdir()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/share nfs4 rw 0 0\n")
    monkeypatch.setattr("vmkernel.storage.datastores.MOUNTS", mounts)
    assert is_nfs(tmp_path / "share")
    assert not is_nfs(tmp_path)
