// The style of a report: colours for light and dark, one column on narrow screens, two on wide
// ones.
#pragma once

namespace torusml {

inline constexpr const char* kReportStyle = R"css(
:root{--page:#f7f7f4;--card:#fff;--ink:#1c2026;--soft:#5b6470;--line:#dfdfd9;--hover:#f0f0eb;
--input:#0b7a70;--linear:#2f5fb3;--lookup:#b0500f;--output:#6b45a8;--bar:#c9ccd2;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media (prefers-color-scheme:dark){:root{--page:#121418;--card:#1b1e24;--ink:#e8eaed;--soft:#a0a8b4;
--line:#31363f;--hover:#252931;--input:#4fc3b4;--linear:#82aaf5;--lookup:#f0a05a;--output:#bd9bf2;
--bar:#4a505b}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",
Roboto,"Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1280px;margin:0 auto;padding:28px 24px 40px}
h1{font-size:30px;line-height:1.2;margin:2px 0 10px;overflow-wrap:anywhere;letter-spacing:-.01em}
h2{font-size:17px;margin:0 0 12px}
section{margin:28px 0 0}
sup{font-size:.72em;line-height:0}
.kicker{margin:0;color:var(--soft);font-size:13px}
.tags{margin:0;display:flex;flex-wrap:wrap;gap:6px}
.tags span{border:1px solid var(--line);background:var(--card);border-radius:99px;padding:1px 11px;
font-size:13px}
.note{color:var(--soft);font-size:13px;margin:8px 0 0;overflow-wrap:anywhere}
.name{font-family:var(--mono);font-size:.9em;overflow-wrap:anywhere}
dl,dd{margin:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(168px,1fr));gap:1px;
background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}
.tile{padding:12px 14px;min-width:0;box-shadow:0 0 0 1px var(--line)}
dt{color:var(--soft);font-size:12.5px}
.tile dd{font-size:21px;font-weight:600;line-height:1.3;letter-spacing:-.01em}
.tile sup{font-size:.66em;vertical-align:.5em}
.tile dd.note{font-size:12.5px;font-weight:400;margin:0;letter-spacing:0}
.shares{display:flex;height:26px;border-radius:7px;overflow:hidden;gap:1px;background:var(--card)}
.shares span{flex-basis:0;min-width:1px}
.shares .lookup{background:var(--lookup)}
.shares .lookup:nth-child(even){opacity:.72}
.shares .rest{background:var(--lookup);opacity:.4}
.shares .linear{background:var(--linear)}
.legend{margin:8px 0 0;font-size:13px;color:var(--soft);display:flex;flex-wrap:wrap;align-items:center;
gap:4px 18px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;background:var(--lookup);
margin-right:7px}
.legend i.linear{background:var(--linear)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:13.5px;white-space:nowrap}
th{font-weight:400;color:var(--soft);font-size:12.5px}
th,td{text-align:right;padding:7px 12px}
th:first-child,td:first-child{text-align:left}
tbody td{border-top:1px solid var(--line)}
.graph{min-width:0}
.canvas{overflow:auto;max-height:78vh;border:1px solid var(--line);border-radius:10px;
background:var(--card);padding:6px;overscroll-behavior:auto}
.canvas svg{display:block;margin:0 auto}
.edge{fill:none;stroke:var(--soft);stroke-width:1.3;opacity:.65}
.node rect{fill:var(--card);stroke:currentColor;stroke-width:1.5}
.node text{text-anchor:middle;fill:var(--ink);font-size:12.5px}
.node .name{font-family:inherit;font-weight:600}
.node .fact{fill:var(--soft);font-size:11.5px}
a:hover .node rect,a:focus .node rect{fill:var(--hover);stroke-width:2.5}
a{color:inherit;text-decoration:none}
.node.input,article.input{color:var(--input)}
.node.linear,article.linear{color:var(--linear)}
.node.lookup,article.lookup{color:var(--lookup)}
.node.output,article.output{color:var(--output)}
.layers{min-width:0}
article{border:1px solid var(--line);border-left:4px solid currentColor;border-radius:10px;
background:var(--card);padding:12px 16px 14px;margin:0 0 12px;scroll-margin-top:12px}
article:target{box-shadow:0 0 0 2px currentColor}
article>*{color:var(--ink)}
h3{font-size:15.5px;line-height:1.35;margin:0 0 8px;overflow-wrap:anywhere}
.kind{font-weight:400;font-size:12.5px;border-radius:99px;padding:1px 9px;margin-right:5px;
border:1px solid var(--line)}
article.input .kind{color:var(--input)}article.linear .kind{color:var(--linear)}
article.lookup .kind{color:var(--lookup)}article.output .kind{color:var(--output)}
.body{display:flex;flex-wrap:wrap;gap:12px 32px;align-items:flex-start}
.facts{flex:1 1 300px;min-width:0}
.facts dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(112px,1fr));gap:8px 18px}
.facts dd{font-size:14.5px;overflow-wrap:anywhere}
.drawing{flex:0 1 400px;min-width:min(100%,260px)}
article .note{color:var(--soft)}
.drawing ul{list-style:none;margin:0 0 6px;padding:0;font-size:13px;color:var(--soft);
display:flex;flex-wrap:wrap;gap:0 16px}
.drawing li{white-space:nowrap}
.drawing b{font-weight:400;color:var(--ink)}
.drawing i{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:6px}
.calibrated{background:var(--linear);fill:var(--linear)}
.declared{background:var(--input);fill:var(--input)}
.guaranteed{background:var(--bar);fill:var(--bar)}
.ranges{display:block;width:100%;height:auto}
figure{margin:0}
figure+figure{margin-top:12px}
figcaption{font-size:12.5px;color:var(--soft)}
.plot{display:block;width:100%;height:auto}
.plot text{font-size:10px;fill:var(--soft)}
.axis{stroke:var(--soft);stroke-width:1}
.zero{stroke:var(--line);stroke-width:1}
.curve{fill:none;stroke:var(--lookup);stroke-width:1.4;opacity:.8;stroke-linejoin:round}
.noise{fill:none;stroke:var(--ink);stroke-width:1.2}
details{font-size:13px;color:var(--soft);margin:-4px 0 14px}
summary{cursor:pointer}
details dl{margin:8px 0 0}
details dt{color:var(--ink);margin-top:6px}
footer{margin-top:28px;padding-top:12px;border-top:1px solid var(--line);color:var(--soft);font-size:13px}
@media (min-width:1080px){.net.narrow{display:grid;grid-template-columns:minmax(260px,auto) minmax(0,1fr);gap:28px;
align-items:start}.narrow .graph{position:sticky;top:0;max-width:520px}}
@media (max-width:560px){main{padding:18px 14px 30px}h1{font-size:24px}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}.tile dd{font-size:18px}article{padding:11px 12px 12px}
.canvas{max-height:70vh}}
@media print{.canvas{max-height:none;overflow:visible}article,figure{break-inside:avoid}}
)css";

}  // namespace torusml
