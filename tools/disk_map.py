"""`ringfence disk map` and `hexdump`: where data lives, and what it is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption
from tools.disk_words import add_input, add_json, opened, size, size_text, warn

if TYPE_CHECKING:
    from vmkernel.storage.chain import Chain
    from vmkernel.storage.disk import Piece

COLUMNS, ROWS = 64, 16
DARK = " .:-=+*#%@"  # from no data in a cell to nothing but data
PNG_WIDTH, PNG_HEIGHT, PNG_SIDE_MAX = 512, 256, 4096
BACKGROUND = (24, 24, 28)
# The base first; a chain with more links begins again.
COLOURS = (
    (86, 156, 214), (220, 220, 100), (206, 110, 90), (106, 190, 120), (197, 134, 192), (78, 201, 176),
    (214, 157, 80), (150, 150, 230),
)  # fmt: skip
LINE_BYTES = 16
STEP_BYTES = 1 << 20
DUMP_BYTES = 512


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    where = subparsers.add_parser("map", help="where the data of a disk lives: runs, a picture, a PNG")
    add_input(where)
    where.add_argument("--picture", action="store_true", help="draw the disk in text instead of listing runs")
    where.add_argument("--png", metavar="FILE", type=Path, help="draw the disk as an image, a colour for each link")
    where.add_argument("--width", metavar="N", type=side, default=PNG_WIDTH, help="of the image (default %(default)s)")
    where.add_argument("--height", metavar="N", type=side, default=PNG_HEIGHT, help="likewise (default %(default)s)")
    where.add_argument("--relaxed", action="store_true", help="pass over a parent that was modified, with a warning")
    add_json(where)
    where.set_defaults(run=map_run)

    dump = subparsers.add_parser("hexdump", help="bytes of a disk, and which link each run comes from")
    add_input(dump)
    dump.add_argument("offset", metavar="OFFSET", nargs="?", type=size, default=0, help="first byte (default 0)")
    dump.add_argument("length", metavar="LENGTH", nargs="?", type=size, default=DUMP_BYTES, help="default %(default)s")
    dump.add_argument("--relaxed", action="store_true", help="pass over a parent that was modified, with a warning")
    add_json(dump)
    dump.set_defaults(run=dump_run)


def side(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= PNG_SIDE_MAX:
        raise argparse.ArgumentTypeError(f"expected 1 to {PNG_SIDE_MAX}, found {text!r}")
    return int(text)


def map_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.allocation import joined_runs

    with opened(options.disk, options) as disk:
        warn(disk)
        if options.png is not None:
            draw_png(disk, options.png, options.width, options.height)
            if not options.json and not options.picture:
                return 0
        if options.json:
            print_json_rows(run_facts(piece) for piece in joined_runs(disk, 0, disk.size_bytes))
        elif options.picture:
            print("\n".join(picture(disk)))
        else:
            for piece in joined_runs(disk, 0, disk.size_bytes):
                print(run_text(piece))
    return 0


def print_json_rows(rows: Iterator[dict[str, Any]]) -> None:
    """A list, written as it comes."""
    before = "["
    for one in rows:
        print(f"{before}\n {json.dumps(one)}", end="")
        before = ","
    print("[]" if before == "[" else "\n]")


def run_facts(piece: Piece) -> dict[str, Any]:
    return {
        "start": piece.start, "length": piece.length, "layer": piece.layer if piece.file is not None else None,
        "file": None if piece.file is None else str(piece.file.path), "data": piece.file is not None,
        "offset": None if piece.file is None else piece.offset, "compressed": piece.packed,
    }  # fmt: skip


def run_text(piece: Piece) -> str:
    place = f"{piece.start:>16} {piece.length:>16}"
    if piece.file is None:
        return f"{place}  zeros"
    packed = ", compressed" if piece.packed else ""
    return f"{place}  link {piece.layer}, {piece.file.path} from byte {piece.offset}{packed}"


def picture(disk: Chain) -> Iterator[str]:
    """A cell for each equal part of the disk, darker the more of it is data; then what each link has."""
    from vmkernel.storage.allocation import grid, layer_bytes

    shares = grid(disk, COLUMNS * ROWS).sum(axis=1).clip(0, 1)
    levels = [DARK[min(int(-(-share * (len(DARK) - 1) // 1)), len(DARK) - 1)] for share in shares.tolist()]
    for at in range(0, len(levels), COLUMNS):
        yield f"|{''.join(levels[at : at + COLUMNS]):{COLUMNS}}|"
    yield f"a cell is {size_text(-(-disk.size_bytes // len(levels)))}; the darker, the more of it is data"
    for number, count in enumerate(layer_bytes(disk)):
        yield f"link {number}: {size_text(count)} of what is read, {disk.links[number].path}"


def draw_png(disk: Chain, path: Path, width: int, height: int) -> None:
    """A pixel for each equal part of the disk, row by row: the links' colours, mixed by their shares."""
    import numpy as np
    from PIL import Image

    from vmkernel.storage.allocation import grid
    from vmkernel.storage.block_file import replace_file

    shares = grid(disk, width * height)
    colours = np.array([COLOURS[number % len(COLOURS)] for number in range(shares.shape[1])], np.float64)
    rest = 1 - shares.sum(axis=1, keepdims=True).clip(0, 1)
    pixels = np.zeros((width * height, 3), np.uint8)
    pixels[: len(shares)] = (shares @ colours + rest * np.array(BACKGROUND)).round().clip(0, 255)
    image = Image.fromarray(pixels.reshape(height, width, 3))
    replace_file(path, png_bytes(image))


def png_bytes(image: Any) -> bytes:
    import io

    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def dump_run(options: argparse.Namespace) -> int:
    with opened(options.disk, options) as disk:
        warn(disk)
        end = min(options.offset + options.length, disk.size_bytes)
        if not 0 <= options.offset < disk.size_bytes:
            raise BadOption(f"OFFSET: expected 0 to {disk.size_bytes - 1}, found {options.offset}")
        if options.json:
            print_json_rows(
                {**run_facts(piece), "hex": data.hex()} for piece, data in bytes_of(disk, options.offset, end)
            )
            return 0
        for piece, data in bytes_of(disk, options.offset, end):
            print(f"-- {source_text(piece)}")
            for line in hex_lines(piece.start, data):
                print(line)
    return 0


def bytes_of(disk: Chain, start: int, end: int) -> Iterator[tuple[Piece, bytes]]:
    """Runs that are cut to the range, with their bytes, at most so many at once."""
    from vmkernel.storage.allocation import joined_runs

    first, last = start // 512 * 512, -(-end // 512) * 512
    for piece in joined_runs(disk, first, last - first):
        for at in range(piece.start, piece.start + piece.length, STEP_BYTES):
            data = bytearray(min(STEP_BYTES, piece.start + piece.length - at))
            disk.read(at, [memoryview(data)])
            low, high = max(start, at), min(end, at + len(data))
            moved = 0 if piece.packed or piece.file is None else low - piece.start
            cut = piece._replace(start=low, length=high - low, offset=piece.offset + moved)
            yield cut, bytes(data[low - at : high - at])


def source_text(piece: Piece) -> str:
    if piece.file is None:
        return "zeros"
    what = "compressed, its grain from byte" if piece.packed else "from byte"
    return f"link {piece.layer}, {piece.file.path}, {what} {piece.offset}"


def hex_lines(start: int, data: bytes) -> Iterator[str]:
    """As hexdump -C: a star for lines like the one before."""
    previous, starred = b"", False
    for at in range(0, len(data), LINE_BYTES):
        line = data[at : at + LINE_BYTES]
        if line == previous and at + LINE_BYTES < len(data):
            if not starred:
                yield "*"
            starred = True
            continue
        previous, starred = line, False
        cells = line.hex(" ")
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"{start + at:012x}  {cells[:24].ljust(24)} {cells[24:].ljust(23)}  |{text}|"
