"""The images are good: another PC boots them. What Ringfence makes of them is judged against this elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.realguests import iso
from tests.realguests.initramfs import everything_needed
from tests.realguests.packages import PackagesUnavailable, archive
from tests.realguests.qemu import boots, kernel_options
from tests.realguests.transcript import Transcript

FLAVOURS = ("686", "686-pae")
QUICK = "mods=none checks=none"
CD_MODULES = "mods=ata_piix,sr_mod,isofs"
MakeIso = Callable[..., Path]
MakeBoot = Callable[[str, str], iso.Boot]


def cd(path: Path) -> tuple[str, ...]:
    return ("-drive", f"file={path},if=ide,index=2,media=cdrom,readonly=on")


def well(transcript: Transcript) -> Transcript:
    """It came to the end of init.sh without the kernel complaining."""
    assert transcript.at("userland") <= transcript.at("ALL DONE")
    assert not transcript.complaints
    return transcript


def test_what_a_module_needs_comes_deepest_last() -> None:
    needs = {"sd": ["scsi", "t10"], "t10": ["crc"], "crc": [], "scsi": ["crc", "block"], "block": []}
    order = everything_needed("sd", needs)
    assert sorted(order) == ["block", "crc", "scsi", "t10"]
    assert all(order.index(name) < order.index(need) for name in order for need in needs[name])


def test_a_kernel_without_decompressor_boots_and_powers_off(raw_boot: MakeBoot) -> None:
    transcript = well(boots(*kernel_options(raw_boot("686", f"{QUICK} end=poweroff"))))
    assert "reboot: Power down" in transcript.text


@pytest.mark.long
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_checks_find_what_is_there(flavour: str, raw_boot: MakeBoot, data_iso: Path) -> None:
    options = (*kernel_options(raw_boot(flavour, f"{CD_MODULES} end=reboot")), *cd(data_iso), "-smp", "4")
    transcript = well(boots(*options))
    assert transcript.cpus == 4
    assert transcript.loaded == {"ata_piix", "sr_mod", "isofs"}
    assert transcript.sums == iso.data_sums()
    assert transcript.pci["00:01.1"] == ("0101", "8086:7010")
    assert transcript.interrupts["LOC"].total > 100
    assert {transcript.interrupts[name].total for name in ("NMI", "ERR", "MIS")} == {0}
    assert abs(int(transcript.starting("date ")[0]) - time.time()) < 300
    assert "reboot: Restarting system" in transcript.text


@pytest.mark.long
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_kernel_as_shipped_takes_its_signed_modules(flavour: str, stock_boot: MakeBoot, data_iso: Path) -> None:
    transcript = well(boots(*kernel_options(stock_boot(flavour, f"{CD_MODULES} end=poweroff")), *cd(data_iso)))
    assert transcript.sums == iso.data_sums()
    assert "module verification failed" not in transcript.text


@pytest.mark.long
def test_the_isolinux_cd_boots(isolinux_iso: MakeIso) -> None:
    image = isolinux_iso("686", f"{CD_MODULES} checks=cdrom end=poweroff")
    transcript = well(boots(*cd(image), "-boot", "d"))
    assert "ISOLINUX 6.04" in transcript.text
    assert "isolinux/ldlinux.c32" in transcript.sums


@pytest.mark.long
@pytest.mark.parametrize("medium", ["CD", "hard disk"])
def test_the_grub_image_boots(medium: str, grub_iso: MakeIso) -> None:
    image = grub_iso("686", f"{QUICK} end=reboot")
    disk = ("-drive", f"file={image},if=ide,index=0,format=raw,snapshot=on", "-boot", "c")
    transcript = well(boots(*((*cd(image), "-boot", "d") if medium == "CD" else disk)))
    assert "GRUB read its configuration" in transcript.text


def test_the_archive_is_the_host_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGFENCE_DEBIAN_MIRROR", raising=False)
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    with pytest.raises(PackagesUnavailable, match="no Debian archive"):
        archive(tmp_path)
    (folder / "a.list").write_text("# deb http://o.example/debian a main\ndeb http://x.example/ubuntu b main\n")
    (folder / "b.sources").write_text("Types: deb\nURIs: http://y.example/debian-security\nSuites: z\n")
    (folder / "c.sources").write_text("Types: deb\nURIs: http://z.example/debian\nSuites: bookworm\n")
    assert archive(tmp_path) == "http://z.example/debian"
    (tmp_path / "sources.list").write_text("deb [arch=i386] https://w.example/debian/ bookworm main\n")
    assert archive(tmp_path) == "https://w.example/debian/"
    monkeypatch.setenv("RINGFENCE_DEBIAN_MIRROR", "http://mine.example/")
    assert archive(tmp_path) == "http://mine.example/"
