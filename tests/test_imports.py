"""Imports point one way. Every import statement of every module is read, those inside functions included."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Who may import whom, directly. What is reached through a neighbour must be allowed too, so rows are closed.
ALLOWED: dict[str, set[str]] = {
    "ringfence": {"ringfence"},
    "hw": {"hw", "ringfence"},
    "vmm": {"vmm", "ringfence"},
    "vmkernel": {"vmkernel", "ringfence"},
    "vmx": {"vmx", "vmm", "hw", "vmkernel", "ringfence"},
    "console": {"console", "vmx", "vmm", "hw", "vmkernel", "ringfence"},
    "virtualcenter": {"virtualcenter", "console", "vmx", "vmm", "hw", "vmkernel", "ringfence"},
    "guests": {"guests", "ringfence"},
    "tools": {"tools", "guests", "virtualcenter", "console", "vmx", "vmm", "hw", "vmkernel", "ringfence"},
}
# Beside the standard library, what a *_spec.py may use: declarations of layouts.
DECLARING = {"ringfence", "construct", "numpy"}
# Standard modules that declare; a spec file has no behaviour, so it needs no others.
DECLARING_STANDARD = {"__future__", "ctypes", "enum", "typing", "dataclasses", "collections"}
# A device takes its time, its randomness and its output from what it is wired to.
NOT_IN_A_DEVICE = {"time", "random", "os"}

MODULES = sorted(path for folder in ALLOWED for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> list[str]:
    """Dotted names that a module imports, relative ones resolved."""
    return names(ast.parse(path.read_text(encoding="utf-8")), list(path.relative_to(ROOT).parts[:-1]))


def names(tree: ast.AST, package: list[str]) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            found += [f"{module}.{alias.name}" for alias in node.names]
    return found


def folder(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def is_spec(name: str) -> bool:
    return any(part.endswith("_spec") for part in name.split("."))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_point_one_way() -> None:
    wrong = [
        f"{name(path)} imports {imported}"
        for path in MODULES
        for imported in imports(path)
        if imported.split(".")[0] in ALLOWED
        and imported.split(".")[0] not in ALLOWED[folder(path)]
        and not (is_spec(imported) and folder(path) != "ringfence")
    ]
    assert not wrong


def test_a_spec_file_only_declares() -> None:
    wrong = []
    for path in MODULES:
        for imported in imports(path) if path.stem.endswith("_spec") else []:
            top = imported.split(".")[0]
            declares = DECLARING_STANDARD if top in sys.stdlib_module_names else DECLARING
            if top not in declares and not is_spec(imported):  # a structure may hold another's
                wrong.append(f"{name(path)} imports {imported}")
    assert not wrong


def test_a_device_takes_no_time_randomness_or_files_of_its_own() -> None:
    devices = [path for path in MODULES if folder(path) == "hw"]
    assert not [name(path) for path in devices if {word.split(".")[0] for word in imports(path)} & NOT_IN_A_DEVICE]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import vmm.vcpu", ["vmm.vcpu"]),
        ("def f():\n    from hw import bus, pci", ["hw.bus", "hw.pci"]),
        ("from . import uart_spec", ["hw.uart_spec"]),
        ("from .uart_spec import Lcr", ["hw.uart_spec.Lcr"]),
    ],
)
def test_every_form_of_import_is_seen(source: str, found: list[str]) -> None:
    assert names(ast.parse(source), ["hw"]) == found


def test_every_folder_that_is_installed_is_covered() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"bench"}
    assert packages <= set(ALLOWED)
