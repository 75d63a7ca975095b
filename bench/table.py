"""The rows as a table for people: on a terminal with colour, into a pipe as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from bench.rows import Row, Verdict

WIDTH_MIN = 148  # a narrower terminal breaks the lines, but loses no figure
COLOURS = {
    Verdict.AIM: "green", Verdict.MUST: "yellow", Verdict.BELOW: "yellow", Verdict.MISSED: "red", Verdict.NONE: "",
}  # fmt: skip


def number(value: float | None) -> str:
    """At most four significant digits, thousands apart."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def print_table(rows: Sequence[Row], console: Console | None = None) -> None:
    console = console or Console()
    if not console.is_terminal:
        console = Console(file=console.file, no_color=True)
    console.width = max(console.width, WIDTH_MIN)
    shape = box.SIMPLE_HEAD if console.is_terminal else box.ASCII2
    table = Table(box=shape, title="ratio above 1: we are better", title_justify="left")
    for heading in ("measure", "unit", "beside"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ours", "theirs", "ratio", "must", "aim"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        verdict = row.verdict()
        table.add_row(
            row.measure, row.unit, row.peer_name or "", number(row.ours), number(row.peer), number(row.ratio),
            number(row.must), number(row.aim), verdict.value, style=COLOURS[verdict],
        )  # fmt: skip
    console.print(table)
