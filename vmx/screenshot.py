"""A picture of the screen in a PNG file.

The file appears whole or not at all: it is written beside its place and then renamed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ringfence.errors import HostRefused
from vmx.rfb_frame import PictureSource


def take_screenshot(source: PictureSource, lock: threading.Lock, path: Path) -> tuple[int, int]:
    """The screen as it is now; its width and height. The machine's lock is held only while it is drawn."""
    with lock:
        picture = np.array(source.render(), dtype=np.uint8)
    write_png(picture, path)
    height, width, _ = picture.shape
    return width, height


def write_png(picture: NDArray[np.uint8], path: Path) -> None:
    """(height, width, 3) RGB. Raises HostRefused; what was at `path` before is then untouched."""
    try:
        target = Path(os.path.realpath(path))  # a link stays one
        if target.exists() and not target.is_file():
            raise HostRefused(f"screenshot {path}: expected a new or an ordinary file, found another kind")
        partial = target.with_name(f".ringfence-{os.getpid()}-{threading.get_native_id()}.png")
        try:
            with open(partial, "xb") as file:
                Image.fromarray(picture).save(file, format="PNG")
            os.replace(partial, target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
    except OSError as error:
        raise HostRefused(f"screenshot {path}: cannot write: {error.strerror or error}") from error
    except ValueError as error:  # a path with a NUL in it
        raise HostRefused(f"screenshot {str(path)!r}: cannot write: {error}") from error
