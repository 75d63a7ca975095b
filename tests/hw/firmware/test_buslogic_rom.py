"""The BusLogic adapter's option ROM is what its source says, and in the form that firmware looks for."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import zlib
from pathlib import Path

import hw.firmware.buslogic_rom as module
from hw.firmware.buslogic_rom import buslogic_rom, finished

HERE = Path(module.__file__)
SOURCE = HERE.with_name("buslogic_bios.S")
LINK = "-Wl,--build-id=none,-z,noexecstack,-Ttext=0,--oformat=binary,--no-warn-rwx-segments"
WIDTH = 116


def assembled(folder: Path) -> bytes:
    image = folder / "rom.bin"
    command = ["gcc", "-m32", "-nostdlib", "-static", "-no-pie", LINK, str(SOURCE), "-o", str(image)]
    subprocess.run(command, check=True, capture_output=True)
    return image.read_bytes()


def written(image: bytes) -> str:
    text = base64.b85encode(zlib.compress(image, 9)).decode()
    return "\n".join(text[at : at + WIDTH] for at in range(0, len(text), WIDTH))


def test_it_is_what_its_source_says(tmp_path: Path) -> None:
    image = assembled(tmp_path)
    if os.environ.get("RINGFENCE_WRITE_ROM"):
        table = re.compile(r'(?<=ASSEMBLED = """\n).*?(?=""")', re.DOTALL)
        HERE.write_text(table.sub(lambda _: f"{written(image)}\n", HERE.read_text()))
        return
    assert buslogic_rom() == finished(image)


def test_firmware_finds_its_headers() -> None:
    rom = buslogic_rom()
    assert rom[:2] == b"\x55\xaa" and len(rom) == rom[2] * 512 and sum(rom) % 256 == 0
    pci, pnp = (int.from_bytes(rom[at : at + 2], "little") for at in (0x18, 0x1A))
    assert rom[pci : pci + 8] == b"PCIR" + bytes.fromhex("4b104010") and pci % 4 == 0
    assert rom[pnp : pnp + 6] == b"$PnP\x01\x02" and sum(rom[pnp : pnp + 32]) % 256 == 0 and pnp % 16 == 0
    product = int.from_bytes(rom[pnp + 16 : pnp + 18], "little")
    assert rom[product:].startswith(b"SCSI disks (BusLogic)\0")
