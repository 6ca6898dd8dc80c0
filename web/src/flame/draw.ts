// A flame graph on a canvas: only what is on screen, found by halving; what is
// narrower than a pixel becomes part of a grey run, found pixel by pixel. The work
// depends on the pixels and not on how many boxes there are.
import { after, rowCount, type Hits, type Layout } from "../model/flame/layout";
import type { Mask } from "../model/flame/tree";
import { fit } from "../model/flame/names";
import { diffFill } from "./colours";

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
  width: number;
  height: number;
  scrollTop: number;
  charWidth: number;
  font: string;
  ink: string;
  quiet: string;
  grey: string;
  paper: string;
  accent: string;
}

const least = 1; // pixels that a box of its own has
const labelFrom = 26;

/** Where row r is drawn, before scrolling. */
export const rowTop = (l: Layout, r: number, up: boolean): number => (up ? rowCount(l) - 1 - r : r) * rowHeight;

export function draw(c: CanvasRenderingContext2D, s: Scene, v: Surface): void {
  const l = s.layout;
  c.clearRect(0, 0, v.width, v.height);
  const scale = v.width / (s.to - s.from);
  const boxes: number[][] = s.fills.map(() => []);
  const faded: number[] = [];
  const runs: number[] = [];
  const marked: number[] = [];
  const fresh: number[] = [];
  const gone: number[] = [];
  const labels: { node: number; x: number; w: number; y: number; faded: boolean }[] = [];

  const box = (node: number, y: number) => {
    const x0 = Math.max(0, (l.x[node]! - s.from) * scale);
    const x1 = Math.min(v.width, (l.x[node]! + l.width[node]! - s.from) * scale);
    const w = Math.max(least, x1 - x0 - (x1 - x0 > 3 ? 1 : 0));
    const above = s.above(node);
    if (above) faded.push(x0, y, w);
    else if (s.of) boxes[s.of[l.frame[node]!]!]!.push(x0, y, w);
    else {
      const [b, a] = s.own ? [l.baseSelf![node]!, l.self[node]!] : [l.base![node]!, l.value[node]!];
      const d = diffFill(b, a, s.whole, s.least);
      boxes[d.fill]!.push(x0, y, w);
      if (w > 5 && d.change === "new") fresh.push(x0, y, w);
      if (w > 5 && d.change === "gone") gone.push(x0, y, w);
    }
    if (l.frame[node] === s.selected && s.selected > 0 && w > 2) marked.push(x0, y, w);
    if (w >= labelFrom) labels.push({ node, x: x0, w, y, faded: above });
  };

  for (let r = 0; r < rowCount(l); r++) {
    const y = rowTop(l, r, s.up) - v.scrollTop;
    if (y + rowHeight < 0 || y > v.height) continue;
    const end = l.rowStart[r + 1]!;
    let i = Math.max(l.rowStart[r]!, after(l, r, s.from) - 1);
    if (i < end && l.x[l.rows[i]!]! + l.width[l.rows[i]!]! <= s.from) i++;
    while (i < end) {
      const node = l.rows[i]!;
      if (l.x[node]! >= s.to) break;
      if (l.width[node]! * scale >= least) {
        box(node, y);
        i++;
        continue;
      }
      // All that begins in this pixel; only the last of it can be wider.
      const pixel = Math.floor((l.x[node]! - s.from) * scale);
      const j = after(l, r, s.from + (pixel + 1) / scale);
      const last = l.rows[j - 1]!;
      const wide = l.width[last]! * scale >= least;
      const n = runs.length;
      if (n && runs[n - 2] === y && runs[n - 3]! + runs[n - 1]! >= pixel) runs[n - 1] = pixel + 1 - runs[n - 3]!;
      else runs.push(pixel, y, 1);
      if (wide) box(last, y);
      i = Math.max(j, i + 1);
    }
  }

  const inner = rowHeight - 1;
  const fill = (list: number[]) => {
    for (let k = 0; k < list.length; k += 3) c.fillRect(list[k]!, list[k + 1]!, list[k + 2]!, inner);
  };
  // What is dimmed is mixed beforehand: it takes twice as long to draw what is seen through.
  const mixed = (colour: string, share: number) => (share < 1 ? `color-mix(in srgb, ${colour} ${share * 100}%, ${v.paper})` : colour);
  const dim = s.hits ? 0.32 : 1;
  c.fillStyle = mixed(v.grey, dim);
  fill(runs);
  boxes.forEach((list, k) => {
    if (!list.length) return;
    c.fillStyle = mixed(s.fills[k]!, dim);
    fill(list);
  });
  c.fillStyle = mixed(v.grey, s.hits ? 0.2 : 0.5);
  fill(faded);
  if (s.hits) drawHits(c, s, v, scale);
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
  for (const t of labels) {
    const text = fit(s.spellings(l.frame[t.node]!), Math.floor((t.w - 8) / v.charWidth));
    if (!text) continue;
    c.fillStyle = t.faded ? v.quiet : v.ink;
    c.globalAlpha = s.match && !s.match[l.frame[t.node]!] ? 0.55 : 1;
    c.fillText(text, t.x + 4, t.y + rowHeight / 2);
  }
  c.globalAlpha = 1;
}

// What is looked for is never too small to be seen.
function drawHits(c: CanvasRenderingContext2D, s: Scene, v: Surface, scale: number): void {
  const l = s.layout;
  const boxes: number[][] = s.fills.map(() => []);
  const marks: number[] = [];
  const ticks: number[] = [];
  const { nodes, rowStart } = s.hits!;
  // The first of a row's hits that begins at v or after it.
  const first = (lo: number, hi: number, at: number) => {
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (l.x[nodes[mid]!]! < at) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  };
  for (let r = 0; r < rowCount(l); r++) {
    const y = rowTop(l, r, s.up) - v.scrollTop;
    if (y + rowHeight < 0 || y > v.height) continue;
    const end = rowStart[r + 1]!;
    let tick = -2; // the last pixel that has one
    for (let i = Math.max(rowStart[r]!, first(rowStart[r]!, end, s.from) - 1); i < end; ) {
      const node = nodes[i]!;
      const x = l.x[node]!;
      if (x >= s.to) break;
      const w = l.width[node]! * scale;
      const x0 = (x - s.from) * scale;
      if (x0 + w < 0) {
        i++;
        continue;
      }
      if (w < 3) {
        // One tick says as much as many in the same pixel, and side by side they are one.
        const [a, b] = [Math.max(0, Math.floor(x0)), Math.floor(x0 + w)];
        if (a <= tick + 1 && tick >= 0) ticks[ticks.length - 1]! += Math.max(0, b - tick);
        else ticks.push(a, y, Math.max(1, b - a + 1));
        tick = Math.max(tick, b);
        i = Math.max(i + 1, first(i, end, s.from + (b + 1) / scale));
        continue;
      }
      const left = Math.max(0, x0);
      const width = Math.min(v.width, x0 + w) - left - 1;
      const fill = s.of ? s.of[l.frame[node]!]! : diffFill(s.own ? l.baseSelf![node]! : l.base![node]!, s.own ? l.self[node]! : l.value[node]!, s.whole, s.least).fill;
      boxes[fill]!.push(left, y, width);
      marks.push(left, y, width);
      i++;
    }
  }
  const put = (list: number[], down: number, height: number) => {
    for (let k = 0; k < list.length; k += 3) c.fillRect(list[k]!, list[k + 1]! + down, list[k + 2]!, height);
  };
  boxes.forEach((list, k) => {
    if (!list.length) return;
    c.fillStyle = s.fills[k]!;
    put(list, 0, rowHeight - 1);
  });
  c.fillStyle = v.accent;
  put(marks, rowHeight - 3, 2);
  put(ticks, 0, rowHeight - 1);
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
