"""The style of every page: one sheet, light and dark, no outside resource."""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root { color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --line: #e3e2dc; --bed: #f1f0ec; --ink: #1c1d20;
  --soft: #62646c; --accent: #0b6e75; --warn: #a04a00; --warn-bed: #fdf3e7;
  --c0: #2f6fb5; --c1: #d9822b; --c2: #2f9e74; --c3: #b8478d; --c4: #7a5cc4;
  --c5: #c9a227; --c6: #4fa9c9; --c7: #8b8d94; }
@media (prefers-color-scheme: dark) { :root {
  --page: #15171a; --card: #1d2024; --line: #32363c; --bed: #262a2f; --ink: #e9e9e6;
  --soft: #a2a5ad; --accent: #5cc3c9; --warn: #f0b070; --warn-bed: #33291d;
  --c0: #6aa5e3; --c1: #eda25a; --c2: #5cc79d; --c3: #dd7fb8; --c4: #a68fe6;
  --c5: #dfc25c; --c6: #7fcbe5; --c7: #8d9098; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 27px; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 0 0 12px; }
h2.part { font-size: 21px; margin: 44px 0 0; padding-top: 20px; border-top: 2px solid var(--line); }
.answer { font-size: 20px; line-height: 1.4; margin: 0 0 20px; max-width: 62ch; font-weight: 560; }
.lead { color: var(--soft); margin: 0 0 20px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 24px; margin: 16px 0; }
section.plain { background: none; border: 0; padding: 0; }
.note { color: var(--soft); font-size: 13.5px; margin: 10px 0 0; max-width: 78ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(168px, 1fr)); gap: 12px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
.card b { display: block; font-size: 23px; font-weight: 620; line-height: 1.25;
  letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: 13px; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr));
  gap: 16px; margin: 16px 0; }
.beside section { margin: 0; min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; }
th, td { padding: 6px 18px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
.r { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg.roofline { max-width: 760px; }
svg.wide { min-width: 760px; }
svg text.on { font-size: 11px; fill: var(--card); pointer-events: none; }
svg text { font-size: 12px; fill: var(--soft); }
svg text.lane { font-size: 13px; fill: var(--ink); }
.bed { fill: var(--bed); } .grid { stroke: var(--line); stroke-width: 1; }
.limit { stroke: var(--warn); stroke-width: 1.5; stroke-dasharray: 6 4; }
svg text.limit { stroke: none; fill: var(--warn); }
.roof { fill: none; stroke: var(--accent); stroke-width: 2; }
svg .c0 { fill: var(--c0); } svg .c1 { fill: var(--c1); }
svg .c2 { fill: var(--c2); } svg .c3 { fill: var(--c3); }
svg .c4 { fill: var(--c4); } svg .c5 { fill: var(--c5); }
svg .c6 { fill: var(--c6); } svg .c7 { fill: var(--c7); }
svg polyline { fill: none; stroke-width: 1.8; }
svg polyline.c0 { fill: none; stroke: var(--c0); }
svg polyline.c1 { fill: none; stroke: var(--c1); }
svg polyline.c2 { fill: none; stroke: var(--c2); }
svg polyline.c3 { fill: none; stroke: var(--c3); }
svg polyline.c4 { fill: none; stroke: var(--c4); }
svg polyline.c5 { fill: none; stroke: var(--c5); }
svg polyline.c6 { fill: none; stroke: var(--c6); }
svg polyline.c7 { fill: none; stroke: var(--c7); }
svg polyline.range { stroke-width: 5; opacity: .28; }
svg polyline.leader { stroke-width: 1; stroke-dasharray: 1 3; opacity: .8; }
svg text.name { fill: var(--ink); }
svg.small { display: none; }
circle.best { stroke: var(--ink); stroke-width: 2; }
table.sortable th { cursor: pointer; white-space: nowrap; }
table.sortable td { white-space: nowrap; }
table.sortable { font-size: 13.5px; } table.sortable :is(th, td):first-child { position: sticky;
  left: 0; background: var(--card); padding-right: 14px; }
table.sortable th[aria-sort=ascending]::after { content: " \\25B4"; }
table.sortable th[aria-sort=descending]::after { content: " \\25BE"; }
.swings { display: grid; gap: 18px 32px;
  grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); }
.swings h3 { font-size: 14px; margin: 0 0 6px; }
.swings .bars { grid-template-columns: 16em 1fr max-content; font-size: 12.5px; }
.ranges { display: grid; grid-template-columns: max-content 1fr max-content; gap: 11px 18px;
  align-items: center; font-size: 14px; }
.ranges .r { color: var(--soft); font-size: 13px; }
.ranges .r b { color: var(--ink); font-size: 14.5px; margin-right: 6px; }
.ranges em { color: var(--warn); font-style: normal; font-size: 12.5px; }
.range { position: relative; height: 14px; border-radius: 7px; background: var(--bed); }
.range div { position: absolute; top: 3px; bottom: 3px; border-radius: 4px; opacity: .5; }
.range i { position: absolute; top: 1px; width: 12px; height: 12px; margin-left: -6px;
  border-radius: 50%; border: 2px solid var(--card); }
.range u { position: absolute; top: -6px; bottom: -6px; border-left: 2px dashed var(--warn); }
.swing { position: relative; height: 12px; border-radius: 6px; background: var(--bed); }
.swing div { position: absolute; top: 0; bottom: 0; background: var(--accent); opacity: .55;
  border-radius: 6px; }
.swing i { position: absolute; top: -2px; bottom: -2px; width: 2px; background: var(--ink); }
:is(i, div).c0 { background: var(--c0); } :is(i, div).c1 { background: var(--c1); }
:is(i, div).c2 { background: var(--c2); } :is(i, div).c3 { background: var(--c3); }
:is(i, div).c4 { background: var(--c4); } :is(i, div).c5 { background: var(--c5); }
:is(i, div).c6 { background: var(--c6); } :is(i, div).c7 { background: var(--c7); }
section ul { margin: 0; padding-left: 18px; max-width: 82ch; } section li { margin: 4px 0; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--soft); font-size: 13.5px; margin-bottom: 8px; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 12px 0 0; font-size: 13px;
  color: var(--soft); }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px;
  margin-right: 6px; vertical-align: -1px; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 9px 14px;
  align-items: center; font-size: 14px; }
.bar { height: 12px; border-radius: 6px; background: var(--bed); overflow: hidden; }
.bar div { height: 100%; background: var(--accent); border-radius: 6px; }
.bars .r { color: var(--soft); font-size: 13.5px; }
.verdict { border-left: 4px solid var(--accent); }
.verdict dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 18px; margin: 0; }
.verdict dt { color: var(--soft); } .verdict dd { margin: 0; overflow-wrap: anywhere; }
.warning { border-color: var(--warn); background: var(--warn-bed); }
.warning h2, .warning h3 { color: var(--warn); }
.warning h3 { font-size: 14.5px; margin: 12px 0 2px; }
.warning p { margin: 2px 0; }
pre { margin: 6px 0 0; font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-x: auto; color: var(--soft); }
footer { color: var(--soft); font-size: 13px; margin-top: 28px; }
@media (max-width: 640px) { main { padding: 20px 12px; } section { padding: 14px; }
  .verdict dl { grid-template-columns: 1fr; gap: 0; } .verdict dd { margin-bottom: 8px; }
  table { min-width: 520px; } .bars { grid-template-columns: max-content 1fr; }
  .bars .r { grid-column: 1 / -1; text-align: left; margin-top: -8px; }
  .swings .bars { display: block; } .swings .bars .r { display: block; margin: 0 0 8px; }
  .ranges { grid-template-columns: 1fr max-content; gap: 4px 10px; }
  .ranges { grid-auto-flow: dense; } .range { grid-column: 1 / -1; margin-bottom: 10px; }
  .answer { font-size: 18px; }
  svg.plot { display: none; } svg.small { display: block; } }
@media print { body { background: none; } section, .card { break-inside: avoid; } }
"""
