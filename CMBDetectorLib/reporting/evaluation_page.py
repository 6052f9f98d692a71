"""The look of the evaluation report: its style sheet and the script that sorts tables."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fefefe; --card: #f5f7f9; --ink: #1b2530; --muted: #5c6875; --line: #d3dae1;
  --found: #0d8a80; --missed: #c2700a; --false: #5a73a8;
  --note: #fff6e3; --note-edge: #e0a53a;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", sans-serif;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #0d1015; --card: #161a21; --ink: #e8edf3; --muted: #97a2af; --line: #2a313c;
    --found: #3ee0d0; --missed: #f5b84b; --false: #8fa8dd;
    --note: #342a18; --note-edge: #f5b84b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.2rem clamp(.8rem, 3vw, 2.2rem) 4rem; max-width: 78rem;
  background: var(--paper); color: var(--ink); font: 15px/1.5 var(--font);
}
h1 { font-size: 1.75rem; font-weight: 600; line-height: 1.2; margin: .2rem 0 .3rem;
  overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; font-weight: 600; margin: 2.6rem 0 .7rem; padding-top: .7rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; font-weight: 600; margin: 1.6rem 0 .4rem; overflow-wrap: anywhere; }
p { max-width: 48rem; margin: .4rem 0 .8rem; overflow-wrap: break-word; }
.muted, figcaption, .interval, caption { color: var(--muted); }
.research { display: inline-block; border: 1px solid var(--note-edge); border-radius: 1rem;
  padding: .1rem .8rem; font-size: .87rem; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem;
  font-size: .87rem; margin: .8rem 0; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.cards { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fit, minmax(9.2rem, 1fr));
  margin: 1.2rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .6rem .9rem .7rem; }
.card .name { color: var(--muted); font-size: .85rem; }
.card .value { font-size: 1.75rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card .detail { font-size: .8rem; color: var(--muted); font-variant-numeric: tabular-nums; }
.note { background: var(--note); border: 1px solid var(--note-edge); border-radius: .6rem;
  padding: .5rem 1rem; margin: 1rem 0; }
.note ul { margin: .3rem 0; padding-left: 1.2rem; }
summary { cursor: pointer; }
.scroll { overflow: auto; max-width: 100%; }
.scroll.tall { max-height: 30rem; border: 1px solid var(--line); border-radius: .6rem; }
.scroll.tall thead th { position: sticky; top: 0; background: var(--card); }
table { border-collapse: collapse; font-size: .87rem; margin: .3rem 0 1rem;
  font-variant-numeric: tabular-nums; }
.scroll.tall table { margin: 0; }
caption { text-align: left; padding: .2rem 0; }
th, td { padding: .28rem .8rem .28rem 0; text-align: right; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.scroll.tall th:first-child, .scroll.tall td:first-child { padding-left: .7rem; }
thead th { font-weight: 600; color: var(--muted); vertical-align: bottom; }
tbody th { font-weight: 400; }
table.words td, table.words th { text-align: left; min-width: 6rem; }
table.words td.wide { min-width: 14rem; }
table.published th, table.published td { vertical-align: top; }
table.published :is(th, td):is(:nth-child(2), :nth-child(5), :nth-child(10)) { text-align: left;
  min-width: 11rem; }
table.published tbody th { min-width: 9rem; }
tr.own th, tr.own td { background: var(--card); font-weight: 600;
  border-bottom: 3px double var(--muted); }
.interval { font-size: .86em; white-space: nowrap; }
abbr.undefined { text-decoration: none; cursor: help; color: var(--muted); }
table.confusion td { text-align: center; min-width: 3.4rem; padding: .45rem .4rem;
  background: color-mix(in srgb, var(--found) calc(var(--share) * 60%), transparent); }
table.confusion th { padding-right: .8rem; }
table.confusion thead th { text-align: center; }
.figures { display: flex; flex-wrap: wrap; gap: .6rem 1.6rem; align-items: flex-start; }
figure { margin: .4rem 0 1rem; }
.plot { max-width: var(--width); }
.figures > .plot { flex: 1 1 var(--width); min-width: min(100%, 18rem); }
figcaption { font-size: .84rem; max-width: 44rem; }
svg { display: block; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: var(--font) !important; }
.tiles { display: grid; gap: .8rem; margin: .6rem 0 1.4rem;
  grid-template-columns: repeat(auto-fill, minmax(min(344px, 100%), 1fr)); }
.tile { margin: 0; content-visibility: auto; contain-intrinsic-size: auto 344px auto 160px;
  break-inside: avoid; }
.tile img, .tile .blank { display: block; width: 100%; max-width: 344px; height: auto;
  aspect-ratio: 344 / 112; border-radius: .3rem; }
.tile .blank { display: flex; align-items: center; justify-content: center;
  background: var(--card); border: 1px solid var(--line); color: var(--muted); font-size: .84rem; }
.tile figcaption { line-height: 1.35; margin-top: .2rem; overflow-wrap: anywhere; }
.tile b { color: var(--ink); font-weight: 600; }
.key { display: inline-block; width: 1.1rem; height: .75rem; border: 2px solid; border-radius: 2px;
  margin: 0 .35rem 0 .9rem; vertical-align: -1px; }
.key.truth { border-color: #f5b84b; margin-left: 0; } .key.prediction { border-color: #3ee0d0; }
.legend { background: #20252e; color: #e8edf3; border-radius: .4rem; padding: .35rem .8rem;
  max-width: max-content; font-size: .86rem; }
dl.terms dt { font-weight: 600; margin-top: .7rem; }
dl.terms dd { margin: 0; max-width: 48rem; }
ol.references { font-size: .87rem; max-width: 52rem; padding-left: 1.4rem; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--found); }
th button::after { content: " \\2195"; color: var(--muted); font-weight: 400; }
th[aria-sort="ascending"] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
@media print {
  body { max-width: none; font-size: 10.5pt; padding: 0; }
  .scroll, .scroll.tall { overflow: visible; max-height: none; border: 0; }
  table { font-size: 8.5pt; } .tile { content-visibility: visible; }
  h2, h3 { break-after: avoid; } figure, tr, .card { break-inside: avoid; }
  th button::after { content: "" !important; }
}
"""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const value = (row, column) => {
    const cell = row.cells[column], data = cell.querySelector("data");
    if (data) return Number(data.value);
    return cell.querySelector(".undefined") ? null : cell.textContent.trim();
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), undefined, { numeric: true });
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
      rows.sort(([a], [b]) =>
        a === null || b === null ? (a === null) - (b === null) : (down ? -1 : 1) * compare(a, b));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}
"""


def page_head(title: str) -> str:
    """From the beginning to the opened body; ``title`` is escaped already."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
    )


def page_foot() -> str:
    """All that is left to close."""
    return f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
