"""How places in volumes are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import BadOption
from vmkernel.storage.vmfs3.place_names import PlaceName, place_name, volume_name


@pytest.mark.parametrize(
    ("text", "images", "path"),
    [
        ("a.img:/", ["a.img"], "/"),
        ("a.img:/vm/x.vmdk", ["a.img"], "/vm/x.vmdk"),
        ("/d/a.img:/vm//x/./y/../z/", ["/d/a.img"], "/vm/x/z"),
        ("a.img:/../..", ["a.img"], "/"),
        ("a+b+/c/d:/x", ["a", "b", "/c/d"], "/x"),
        ("a.img:/x:/y", ["a.img"], "/x:/y"),
        ("a.img://x", ["a.img"], "/x"),
    ],
)
def test_a_place_has_devices_and_a_path(text: str, images: list[str], path: str) -> None:
    assert place_name(text) == PlaceName(tuple(map(Path, images)), path)


@pytest.mark.parametrize("text", ["file", "./a+b", "a:b", ":/x", "", "[ds] x"])
def test_other_texts_are_files_of_the_host(text: str) -> None:
    assert place_name(text) is None


def test_a_volume_alone_is_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert volume_name("a+b") == PlaceName((Path("a"), Path("b")), "/")
    monkeypatch.chdir(tmp_path)
    Path("a+b").touch()
    assert volume_name("a+b") == PlaceName((Path("a+b"),), "/")
    assert str(PlaceName((Path("a"), Path("b")), "/x").child("y")) == "a+b:/x/y"


@pytest.mark.parametrize("text", ["", "a+", "+b:/x", "a++b"])
def test_a_device_has_a_name(text: str) -> None:
    with pytest.raises(BadOption):
        volume_name(text)
