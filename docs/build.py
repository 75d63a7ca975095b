"""Turns docs/*.md and the README into HTML under docs/_build, and fails on a link that leads nowhere."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

from markdown_it import MarkdownIt

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
OUTPUT = DOCS / "_build"
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
STYLE = "body{max-width:60em;margin:2em auto;padding:0 1em;font:16px/1.5 sans-serif}pre{background:#f4f4f4;padding:1em;overflow:auto}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em}"  # noqa: E501
PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{style}</style>{nav}{body}</html>"


def pages() -> list[Path]:
    """Every page, the README first."""
    found = sorted(path for path in DOCS.rglob("*.md") if OUTPUT not in path.parents)
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *found]


def dead_links(page: Path) -> list[str]:
    """Relative links of a page whose file does not exist."""
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target and not (page.parent / target).exists()]


def target(page: Path) -> Path:
    return OUTPUT / page.relative_to(ROOT).with_suffix(".html")


def main() -> int:
    """0, or 1 when a link is dead."""
    dead = [f"{page.relative_to(ROOT)}: {link}" for page in pages() for link in dead_links(page)]
    markdown = MarkdownIt("commonmark").enable("table")
    for page in pages():
        out = target(page)
        out.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (len(out.relative_to(OUTPUT).parts) - 1)
        nav = " · ".join(
            f'<a href="{up}{target(other).relative_to(OUTPUT)}">{html.escape(other.stem)}</a>' for other in pages()
        )
        body = re.sub(
            r'href="([^":]+)\.md(#[^"]*)?"', r'href="\1.html\2"', markdown.render(page.read_text(encoding="utf-8"))
        )
        out.write_text(PAGE.format(title=page.stem, style=STYLE, nav=f"<nav>{nav}</nav>", body=body), encoding="utf-8")
    for line in dead:
        sys.stderr.write(f"dead link: {line}\n")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
