"""One self-contained page: a single file, no script, nothing to download."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..train.writing import explained, replace_text
from .table import Table, html_table


@dataclass(frozen=True, kw_only=True)
class Section:
    """Section of a page.

    Attributes:
        title: heading.
        lead: a sentence on what the section shows; plain text.
        parts: HTML strings and tables; a terminal shows the tables too.
    """

    title: str
    lead: str = ""
    parts: Sequence[str | Table] = ()

    @property
    def tables(self) -> list[Table]:
        """Return the tables of the section, in order."""
        return [part for part in self.parts if isinstance(part, Table)]

    @property
    def body(self) -> str:
        """Return all parts as HTML."""
        return "".join(
            html_table(part) if isinstance(part, Table) else part for part in self.parts
        )


def write_page(
    path: Path, *, title: str, finding: str, sections: Sequence[Section]
) -> Path:
    """Write the page to `path`, atomically.

    Args:
        path: file to write; its folder is created.
        title: plain text.
        finding: the result in one or two sentences; plain text.
        sections: sections of the page, in order.

    Raises:
        SaveError: the file cannot be written.
    """
    parts = [_section(section) for section in sections]
    text = _PAGE.format(
        title=html.escape(title),
        finding=html.escape(finding),
        style=_STYLE,
        body="\n".join(parts),
    )
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text)
    return path


def figure(svg: str, title: str, caption: str) -> str:
    """Return a figure under its title and caption, both plain text."""
    head = f"<b>{html.escape(title)}</b> {html.escape(caption)}"
    return f"<figure><figcaption>{head}</figcaption>{svg}</figure>"


def grid(parts: Sequence[str], kind: str = "wide") -> str:
    """Return figures side by side if there is room; `kind` is `wide` or `small`."""
    return f'<div class="grid {kind}">{"".join(parts)}</div>'


def notes(lines: Sequence[str]) -> str:
    """Return a list of plain-text remarks."""
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def _section(section: Section) -> str:
    lead = f'<p class="lead">{html.escape(section.lead)}</p>' if section.lead else ""
    title = html.escape(section.title)
    return f"<section><h2>{title}</h2>{lead}{section.body}</section>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<p class="mark">memzoo</p>
<h1>{title}</h1>
<p class="finding">{finding}</p>
</header>
<main>
{body}
</main>
</body>
</html>
"""

# The series also differ in lightness and marker, so colour alone never tells them
# apart.
_STYLE = """
:root {
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  --paper: #ffffff; --card: #f6f7f9; --ink: #16191d; --muted: #5d6671;
  --grid: #e3e6ea; --line: #d5d9df;
  --series-0: #0063a6; --series-1: #c84a00; --series-2: #00795a;
  --series-3: #a9387f; --series-4: #8a6a00; --series-5: #2f8fc4;
  --series-6: #5b3f9e; --series-7: #4a4f55;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --card: #1c2026; --ink: #e8ebef; --muted: #9aa4b0;
    --grid: #2a3038; --line: #343b45;
    --series-0: #5cb3f0; --series-1: #ff8d4a; --series-2: #35cfa0;
    --series-3: #f08fc8; --series-4: #e3bf45; --series-5: #a6dcff;
    --series-6: #b9a2f5; --series-7: #b4bac2;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 68rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 var(--sans);
}
.mark { margin: 0; color: var(--muted); font: 600 .85rem/1 var(--mono); }
h1 { margin: .6rem 0 .8rem; font-size: 2rem; line-height: 1.15; }
h2 { margin: 0 0 .35rem; font-size: 1.25rem; }
h3 { margin: 1.4rem 0 .2rem; font-size: 1rem; }
.finding { margin: 0; max-width: 46rem; font-size: 1.15rem; }
section { margin-top: 2.6rem; }
.lead { margin: 0 0 .9rem; max-width: 46rem; color: var(--muted); }
svg { display: block; width: 100%; height: auto; }
figure { margin: 0; padding: .9rem .9rem .7rem; background: var(--card);
  border-radius: .6rem; }
figure > svg { max-width: 42rem; margin: 0 auto; }
figcaption { margin-bottom: .5rem; color: var(--muted); font-size: .86rem;
  line-height: 1.4; }
figcaption b { display: block; color: var(--ink); font-size: .95rem; }
.grid { display: grid; gap: 1rem; }
.grid.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 0 0 .8rem;
  padding: 0; list-style: none; font-size: .9rem; }
.legend li { display: flex; align-items: center; gap: .45rem; }
.legend svg, .name svg { flex: none; width: 2.1rem; }
.name { display: flex; align-items: center; gap: .45rem; white-space: nowrap; }
table { width: 100%; border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .5rem; text-align: right;
  border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; }
th:first-child { text-align: left; font-weight: 600; padding-left: 0; }
td:last-child, th:last-child { padding-right: 0; }
.strip { width: 6.5rem; margin-left: auto; }
.strip .rail { stroke: var(--line); stroke-width: 2; }
.strip .chance { stroke: var(--muted); stroke-width: 1.5; }
.strip circle { fill-opacity: .75; }
pre { overflow-x: auto; margin: 0 0 .8rem; padding: .8rem 1rem; border-radius: .6rem;
  background: var(--card); font: .86rem/1.5 var(--mono); white-space: pre-wrap;
  overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.2rem; max-width: 46rem; }
li { margin: .2rem 0; }
@media (max-width: 46rem) {
  body { padding: 1.4rem 1rem 3rem; }
  h1 { font-size: 1.55rem; }
  .finding { font-size: 1.05rem; }
  table, tbody, tr, td, tbody th { display: block; width: 100%; }
  thead { display: none; }
  tbody tr { margin-bottom: .8rem; padding: .7rem .9rem; border-radius: .6rem;
    background: var(--card); }
  tbody th { padding: 0 0 .3rem; border: 0; }
  tbody td { display: flex; justify-content: space-between; align-items: center;
    gap: 1rem; padding: .2rem 0; border: 0; }
  tbody td::before { content: attr(data-label); color: var(--muted); }
}
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""
