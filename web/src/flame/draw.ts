// A flame graph on a canvas: only what is on screen, found by halving; what is
// narrower than a pixel becomes part of a grey run, found pixel by pixel. The work
// depends on the pixels and not on how many boxes there are. Boxes are pixels in
// memory; only words and what is marked are drawn.
import { after, ahead, rowCount, type Hits, type Layout } from "../model/flame/layout";
import type { Mask } from "../model/flame/tree";
import { fit } from "../model/flame/names";
import { diffFill } from "./colours";
import { mixed, putRow, type Pixel, type Sheet } from "./sheet";

export const rowHeight = 20;

export interface Scene {
  layout: Layout;
  /** How each frame is spelled in ever less room. */
  spellings: (frame: number) => readonly string[];
  fills: string[];
  /** Which of fills a frame has; null = a comparison. */
  of: Uint8Array | null;
  /** Of a comparison: what changes are a share of, by own values, and the least that counts. */
  whole: number;
  own: boolean;
  least: number;
  /** The part that is shown, in units of the layout. */
  from: number;
  to: number;
  /** Whether a node is what is zoomed to, or leads there: that is faded. */
  above: (node: number) => boolean;
  hits: Hits | null;
  /** The frames that are looked for. */
  match: Mask | null;
  selected: number;
  up: boolean;
}

export interface Surface {
  /** In CSS pixels; scale = device pixels of each. */
  height: number;
  scale: number;
  scrollTop: number;
  /** Where the boxes are made, in device pixels, and the picture that has its memory. */
  sheet: Sheet;
  image: ImageData;
  pixel: (colour: string) => Pixel;
  charWidth: number;
  font: string;
  ink: string;
  /** Of what is not looked for. */
  dimInk: string;
  quiet: string;
  grey: string;
  paper: string;
  accent: string;
}

const least = 1; // device pixels that a box of its own has
const labelFrom = 26;
/** Pixels under a match that say so. */
const underline = 2;

/** Where row r is drawn, before scrolling. */
export const rowTop = (l: Layout, r: number, up: boolean): number => (up ? rowCount(l) - 1 - r : r) * rowHeight;

interface Label {
  node: number;
  x: number;
  w: number;
  y: number;
  faded: boolean;
}

/** Colours of a scene as pixels, dimmed where something is looked for. */
interface Inks {
  fills: Pixel[];
  dimmed: Pixel[];
  grey: Pixel;
  faded: Pixel;
  accent: Pixel;
}

function inksOf(s: Scene, v: Surface): Inks {
  const fills = s.fills.map(v.pixel);
  const paper = v.pixel(v.paper);
  const grey = v.pixel(v.grey);
  const dim = s.hits ? 0.32 : 1;
  return { fills, dimmed: fills.map((f) => mixed(f, paper, dim)), grey: mixed(grey, paper, dim), faded: mixed(grey, paper, s.hits ? 0.2 : 0.5), accent: v.pixel(v.accent) };
}

/** What is drawn on top of the boxes, in CSS pixels: x, y and width of each. */
interface Extras {
  marked: number[];
  fresh: number[];
  gone: number[];
  labels: Label[];
}

export function draw(c: CanvasRenderingContext2D, s: Scene, v: Surface): void {
  const l = s.layout;
  const inks = inksOf(s, v);
  const extras: Extras = { marked: [], fresh: [], gone: [], labels: [] };
  const sheet = v.sheet;
  sheet.pixels.fill(0);
  for (let r = 0; r < rowCount(l); r++) {
    const y = rowTop(l, r, s.up) - v.scrollTop;
    if (y + rowHeight < 0 || y > v.height) continue;
    sheet.line.fill(0);
    fillRow(s, v, inks, r, y, extras);
    if (s.hits) fillHits(s, v, inks, r);
    const top = Math.round(y * v.scale);
    putRow(sheet, top, Math.round((y + rowHeight) * v.scale) - top - gapOf(v), s.hits ? Math.round(underline * v.scale) : 0);
  }
  c.putImageData(v.image, 0, 0);
  drawExtras(c, s, v, extras);
}

/** Between boxes that are wide enough for it, and between rows. */
const gapOf = (v: Surface): number => Math.max(1, Math.round(v.scale));

function fillRow(s: Scene, v: Surface, inks: Inks, r: number, y: number, out: Extras): void {
  const l = s.layout;
  const { width, line } = v.sheet;
  const scale = width / (s.to - s.from);
  const gap = gapOf(v);
  const end = l.rowStart[r + 1]!;

  const box = (node: number) => {
    const x0 = Math.max(0, Math.round((l.x[node]! - s.from) * scale));
    const x1 = Math.min(width, Math.max(x0 + 1, Math.round((l.x[node]! + l.width[node]! - s.from) * scale)));
    const above = s.above(node);
    const drawn = x1 - (x1 - x0 > 3 * gap ? gap : 0);
    line.fill(above ? inks.faded : inks.dimmed[fillOf(s, node)]!, x0, drawn);
    const w = (drawn - x0) / v.scale;
    if (w <= 2) return;
    const x = x0 / v.scale;
    if (l.frame[node] === s.selected && s.selected > 0) out.marked.push(x, y, w);
    if (w > 5 && !s.of && !above) {
      const change = diffOf(s, node).change;
      if (change === "new") out.fresh.push(x, y, w);
      if (change === "gone") out.gone.push(x, y, w);
    }
    if (w >= labelFrom) out.labels.push({ node, x, w, y, faded: above });
  };

  let i = Math.max(l.rowStart[r]!, after(l, r, s.from) - 1);
  if (i < end && l.x[l.rows[i]!]! + l.width[l.rows[i]!]! <= s.from) i++;
  while (i < end) {
    const node = l.rows[i]!;
    if (l.x[node]! >= s.to) break;
    if (l.width[node]! * scale >= least) {
      box(node);
      i++;
      continue;
    }
    // All that begins in this pixel; only the last of it can be wider.
    const pixel = Math.max(0, Math.floor((l.x[node]! - s.from) * scale));
    const j = ahead(l, l.rows, i + 1, end, s.from + (pixel + 1) / scale);
    const last = l.rows[j - 1]!;
    line[pixel] = inks.grey;
    if (l.width[last]! * scale >= least) box(last);
    i = Math.max(j, i + 1);
  }
}

const diffOf = (s: Scene, node: number): ReturnType<typeof diffFill> => {
  const l = s.layout;
  return s.own ? diffFill(l.baseSelf![node]!, l.self[node]!, s.whole, s.least) : diffFill(l.base![node]!, l.value[node]!, s.whole, s.least);
};

const fillOf = (s: Scene, node: number): number => (s.of ? s.of[s.layout.frame[node]!]! : diffOf(s, node).fill);

// What is looked for has its full colour and a line under it, and is never too
// small to be seen: what is narrow is a tick.
function fillHits(s: Scene, v: Surface, inks: Inks, r: number): void {
  const l = s.layout;
  const { width, line, low } = v.sheet;
  const { nodes, rowStart } = s.hits!;
  const scale = width / (s.to - s.from);
  const gap = gapOf(v);
  low.set(line);
  const end = rowStart[r + 1]!;
  for (let i = Math.max(rowStart[r]!, ahead(l, nodes, rowStart[r]!, end, s.from) - 1); i < end; ) {
    const node = nodes[i]!;
    if (l.x[node]! >= s.to) break;
    const a = (l.x[node]! - s.from) * scale;
    const w = l.width[node]! * scale;
    const x0 = Math.max(0, Math.round(a));
    const x1 = Math.min(width, Math.max(x0 + 1, Math.round(a + w)));
    i++;
    if (a + w < 0) continue;
    if (w < 3 * v.scale) {
      line.fill(inks.accent, x0, x1);
      low.fill(inks.accent, x0, x1);
      // One tick says as much as many in the same pixel.
      if (w < 1) i = ahead(l, nodes, i, end, s.from + (Math.floor(a) + 1) / scale);
      continue;
    }
    line.fill(inks.fills[fillOf(s, node)]!, x0, x1 - gap);
    low.fill(inks.accent, x0, x1 - gap);
  }
}

function drawExtras(c: CanvasRenderingContext2D, s: Scene, v: Surface, { marked, fresh, gone, labels }: Extras): void {
  const inner = rowHeight - 1;
  if (fresh.length) hatch(c, fresh, inner, v.ink);
  c.strokeStyle = v.quiet;
  c.setLineDash([3, 2]);
  for (let k = 0; k < gone.length; k += 3) c.strokeRect(gone[k]! + 0.5, gone[k + 1]! + 0.5, gone[k + 2]! - 1, inner - 1);
  c.setLineDash([]);
  c.strokeStyle = v.accent;
  c.lineWidth = 1.5;
  for (let k = 0; k < marked.length; k += 3) c.strokeRect(marked[k]! + 0.75, marked[k + 1]! + 0.75, Math.max(1, marked[k + 2]! - 1.5), inner - 1.5);
  c.lineWidth = 1;
  c.font = v.font;
  c.textBaseline = "middle";
  const l = s.layout;
  for (const t of labels) {
    const text = fit(s.spellings(l.frame[t.node]!), Math.floor((t.w - 8) / v.charWidth));
    if (!text) continue;
    c.fillStyle = t.faded ? v.quiet : s.match && !s.match[l.frame[t.node]!] ? v.dimInk : v.ink;
    c.fillText(text, t.x + 4, t.y + rowHeight / 2);
  }
}

// What is new is hatched: colour is not the only sign.
function hatch(c: CanvasRenderingContext2D, list: number[], height: number, ink: string): void {
  c.save();
  c.beginPath();
  for (let k = 0; k < list.length; k += 3) c.rect(list[k]!, list[k + 1]!, list[k + 2]!, height);
  c.clip();
  c.strokeStyle = ink;
  c.globalAlpha = 0.2;
  c.beginPath();
  for (let k = 0; k < list.length; k += 3) {
    const [x, y, w] = [list[k]!, list[k + 1]!, list[k + 2]!];
    for (let d = 6; d < w + height; d += 7) {
      c.moveTo(x + d, y);
      c.lineTo(x + d - height, y + height);
    }
  }
  c.stroke();
  c.restore();
}

/** The whole in a strip: each row a line, as dark as it is full. */
export function drawMap(c: CanvasRenderingContext2D, l: Layout, width: number, height: number, fills: { of: Uint8Array | null; list: string[]; grey: string }): void {
  c.clearRect(0, 0, width, height);
  const rows = rowCount(l);
  const each = Math.min(4, height / Math.max(1, rows));
  const scale = width / (l.width[0] || 1);
  for (let r = 0; r < rows; r++) {
    const y = r * each;
    if (y >= height) break;
    for (let i = l.rowStart[r]!; i < l.rowStart[r + 1]!; ) {
      const node = l.rows[i]!;
      const x = l.x[node]! * scale;
      const w = l.width[node]! * scale;
      c.fillStyle = w < 1 || !fills.of ? fills.grey : fills.list[fills.of[l.frame[node]!]!]!;
      c.fillRect(x, y, Math.max(0.7, w - 0.3), Math.max(0.6, each - 0.4));
      i = w >= 1 ? i + 1 : Math.max(i + 1, after(l, r, (Math.floor(x) + 1) / scale) - 1);
    }
  }
}
