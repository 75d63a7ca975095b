"""The machine that `make run` shows: minios in a folder of a VMFS volume, which is formatted where there is none yet.

    python -m tools.demonstration IMAGE      prints the place of the machine's .vmx file, for `ringfence run`

The volume is an image file without blocks until they are written. Program and .vmx file are written anew each time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.errors import RingfenceError
from tools.process import close_volumes, complain

if TYPE_CHECKING:
    from vmkernel.storage.place import Place

GUEST, LABEL = "minios", "demonstration"
IMAGE_BYTES = 1280 << 20
STATUS_BAD_INPUT = 2
VMX = f"""\
#!/usr/bin/vmware
config.version = "8"
virtualHW.version = "4"
displayName = "{GUEST}"
memsize = "64"
nvram = "{GUEST}.nvram"
serial0.present = "TRUE"
serial0.fileType = "stdio"
ringfence.program = "{GUEST}.elf"
"""


def prepare(image: Path) -> Place:
    """The .vmx file, ready to run. Raises BadInput, BadOption and HostRefused."""
    from guests import builder
    from vmkernel.storage.block_file import copy_file, replace_file
    from vmkernel.storage.vmfs3.mkfs import format_volume
    from vmkernel.storage.vmfs_place import place_in

    if not image.exists():
        image.parent.mkdir(parents=True, exist_ok=True)
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        format_volume([image], label=LABEL)
    folder = place_in([image], GUEST)
    with suppress(FileExistsError):
        folder.mkdir()
    program = folder / f"{GUEST}.elf"
    program.unlink(missing_ok=True)
    copy_file(builder.build(GUEST), program)
    vmx = folder / f"{GUEST}.vmx"
    replace_file(vmx, VMX.encode())
    return vmx


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if len(words) != 1:
            complain("demonstration: expected the image of a volume")
            return STATUS_BAD_INPUT
        print(prepare(Path(words[0])))
    except RingfenceError as error:
        complain(str(error))
        return STATUS_BAD_INPUT
    except OSError as error:
        complain(f"{words[0]}: the host refused: {error.strerror or error}")
        return STATUS_BAD_INPUT
    finally:
        close_volumes()
    return 0


if __name__ == "__main__":
    sys.exit(main())
