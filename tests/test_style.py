"""Style, where it can be tested: docstrings, names, sizes, the form of CHANGELOG.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ringfence", "hw", "vmm", "vmkernel", "vmx", "tools", "guests", "tests", "bench")
PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
C = sorted(
    path for pattern in ("*.c", "*.h", "*.S") for folder in ("vmm", "guests") for path in (ROOT / folder).rglob(pattern)
)
LINES_MAX = 700  # "near 600, split it by noun"
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
CHANGE_KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_a_module_says_what_it_is() -> None:
    docstrings = {path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in PYTHON}
    assert not [name(path) for path, text in docstrings.items() if not text]
    first = {path: (text or "").split("\n")[0].rstrip() for path, text in docstrings.items()}
    assert not [name(path) for path, line in first.items() if not line.endswith((".", "?", ":"))], "no sentence"


def test_a_c_file_says_what_it_is() -> None:
    header = re.compile(r"\A(/\*\s+\*? ?\S+ -- )")
    assert not [name(path) for path in C if not header.match(path.read_text(encoding="utf-8"))]


def test_files_are_named_for_what_they_hold() -> None:
    assert not [name(path) for path in [*PYTHON, *C] if path.stem in VAGUE]


def test_files_are_split_before_they_are_too_long() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in [*PYTHON, *C]}
    assert not {path: count for path, count in lengths.items() if count > LINES_MAX}


def test_c_lines_have_no_trailing_blanks() -> None:
    wrong = [
        f"{name(path)}:{number}"
        for path in C
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line != line.rstrip()
    ]
    assert not wrong


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
