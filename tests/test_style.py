"""Style, where it can be tested: docstrings, names, sizes, the form of CHANGELOG.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ringfence", "hw", "vmm", "vmkernel", "vmx", "tools", "guests", "tests", "bench")
PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
C = sorted(path for pattern in ("*.c", "*.h", "*.S") for folder in ("vmm", "guests") for path in (ROOT / folder).rglob(pattern))
LINES_MAX = 700  # "near 600, split it by noun"
LINE_LENGTH_MAX = 132  # of C; Python's is ruff's
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
CHANGE_KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_a_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{name(path)} has no docstring"
    assert docstring.split("\n")[0].rstrip().endswith((".", "?", ":")), f"{name(path)}: the first line is no sentence"


@pytest.mark.parametrize("path", C, ids=name)
def test_a_c_file_says_what_it_is(path: Path) -> None:
    head = path.read_text(encoding="utf-8")[:400]
    assert re.match(rf"/\*\s+\*? ?{re.escape(path.name)} -- |/\*\s+\* \w+ -- ", head), f"{name(path)} has no header comment"


@pytest.mark.parametrize("path", [*PYTHON, *C], ids=name)
def test_a_file_is_named_for_what_it_holds_and_has_a_size(path: Path) -> None:
    assert path.stem not in VAGUE
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", C, ids=name)
def test_c_lines_are_not_too_long_and_have_no_trailing_blanks(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert len(line.expandtabs(8)) <= LINE_LENGTH_MAX, f"{name(path)}:{number}"
        assert line == line.rstrip(), f"{name(path)}:{number}: trailing blanks"


def test_the_changelog_keeps_its_form() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Changelog"
    assert "Keep a Changelog" in "".join(lines[:8])
    sections = [line for line in lines if line.startswith("## ")]
    assert sections and sections[0] == "## [Unreleased]"
    for section in sections[1:]:
        assert re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", section), section
    for line in lines:
        if line.startswith("### "):
            assert line.removeprefix("### ") in CHANGE_KINDS, line


def test_the_documentation_has_no_dead_links() -> None:
    link = re.compile(r"\[[^\]]*\]\(([^)#\s]+)")
    for page in [*ROOT.glob("*.md"), *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]:
        for target in link.findall(page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{name(page)}: {target}"
