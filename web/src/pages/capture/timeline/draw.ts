// What stands on the rows: the axis, names on intervals, arrows, marks, what is
// selected and pointed at. It is drawn over the rows' pixels and goes alone when
// the pointer moves.
import type { NamedRange } from "../../../api/timeline";
import { classes } from "../../../model/timeline/states";
import type { Row } from "../../../model/timeline/rows";
import { placeIn, type Intervals, type PlacedRow } from "../../../model/timeline/tile";
import { ticks, type Range } from "../../../model/timeline/window";
import { shortFunction } from "../../../model/diagnosis";

export interface Ink {
  text: string;
  quiet: string;
  line: string;
  accent: string;
  back: string;
  font: string;
}

export interface Scene {
  ctx: CanvasRenderingContext2D;
  width: number;
  height: number;
  range: Range;
  ink: Ink;
}

const x = (s: Scene, at: number): number => ((at - s.range.from) / (s.range.to - s.range.from)) * s.width;

/** Lines and times of the axis in a band at the top. */
export function axis(s: Scene, height: number): void {
  const { ctx } = s;
  ctx.font = s.ink.font;
  ctx.textBaseline = "middle";
  for (const t of ticks(s.range, s.width)) {
    const px = Math.round(x(s, t.at)) + 0.5;
    ctx.strokeStyle = s.ink.line;
    ctx.globalAlpha = 0.55;
    ctx.beginPath();
    ctx.moveTo(px, height - 5);
    ctx.lineTo(px, s.height);
    ctx.stroke();
    ctx.globalAlpha = 1;
    const w = ctx.measureText(t.text).width;
    if (px + 4 + w > s.width) continue;
    ctx.fillStyle = s.ink.quiet;
    ctx.fillText(t.text, px + 4, height / 2);
  }
}

/**
 * Stops of the world and collections, each in a band of its own. Where many fall
 * into a pixel, it is as strong as they cover it.
 */
export function ranges(s: Scene, list: readonly NamedRange[], y: number, height: number, colour: string, hatched: boolean): void {
  const { ctx } = s;
  const narrow = new Float32Array(Math.ceil(s.width) + 1);
  ctx.fillStyle = colour;
  ctx.strokeStyle = colour;
  for (const r of list) {
    if (r.to < s.range.from || r.from > s.range.to) continue;
    const a = x(s, r.from);
    const w = x(s, r.to) - a;
    if (w < 2) {
      const n = Math.floor(Math.max(0, a));
      if (n < narrow.length) narrow[n]! += Math.max(w, 0.04);
    } else wide(s, Math.max(0, a), Math.min(s.width, a + w), y, height, hatched);
  }
  narrow.forEach((share, n) => {
    if (!share) return;
    ctx.globalAlpha = Math.min(1, 0.25 + share);
    ctx.fillRect(n, y, 1, height);
  });
  ctx.globalAlpha = 1;
}

function wide(s: Scene, a: number, b: number, y: number, height: number, hatched: boolean): void {
  const { ctx } = s;
  if (!hatched) return ctx.fillRect(a, y, b - a, height);
  ctx.save();
  ctx.beginPath();
  ctx.rect(a, y, b - a, height);
  ctx.clip();
  ctx.globalAlpha = 0.35;
  ctx.fillRect(a, y, b - a, height);
  ctx.globalAlpha = 1;
  ctx.beginPath();
  for (let d = a - height - (a % 6); d < b; d += 6) {
    ctx.moveTo(d, y + height);
    ctx.lineTo(d + height, y);
  }
  ctx.stroke();
  ctx.restore();
}

/** Lines over all rows where the world stood still for as long as can be seen. */
export function stops(s: Scene, list: readonly NamedRange[], top: number): void {
  s.ctx.fillStyle = s.ink.text;
  s.ctx.globalAlpha = 0.35;
  for (const r of list) {
    const w = x(s, r.to) - x(s, r.from);
    if (w >= 1 && r.to >= s.range.from && r.from <= s.range.to) s.ctx.fillRect(x(s, r.from), top, w, s.height - top);
  }
  s.ctx.globalAlpha = 1;
}

/** What an interval is called where there is room: the function that waits. */
export function label(r: Intervals, i: number, kind: Row["kind"]): string {
  const who = r.who[i]!;
  if (kind === "proc") return who ? `G${who}` : "";
  const f = placeIn(r.stacks[r.stack[i]!] ?? []);
  return f ? shortFunction(f.function) : "";
}

/** Names on the intervals of a row that are wide enough; each stands in the first tile in which it is seen. */
export function names(s: Scene, t: PlacedRow, clip: Range, row: Row, y: number): void {
  if (t.row.kind !== "intervals") return;
  const { ctx } = s;
  const r = t.row;
  ctx.font = s.ink.font;
  ctx.textBaseline = "middle";
  for (let i = 0; i < r.from.length; i++) {
    const from = Math.max(r.from[i]!, s.range.from);
    if (from < clip.from || from >= clip.to) continue;
    const a = x(s, from);
    const b = Math.min(x(s, r.to[i]!), s.width);
    if (b - a < 72) continue;
    const text = label(r, i, row.kind);
    if (!text) continue;
    const tall = ["running", "gc"].includes(classes[r.class[i]!]!);
    ctx.fillStyle = tall ? "#10151b" : s.ink.text;
    ctx.fillText(fitted(ctx, text, b - a - 8), a + 4, tall ? y + row.height / 2 : y + row.height * 0.3);
  }
}

/** The beginning of a text that fits, a name's end being the useful one. */
function fitted(ctx: CanvasRenderingContext2D, text: string, width: number): string {
  if (ctx.measureText(text).width <= width) return text;
  const keep = Math.max(1, Math.floor((text.length * width) / ctx.measureText(text).width) - 1);
  return `…${text.slice(-keep)}`;
}

export interface Arrow {
  at: number;
  fromY: number;
  toY: number;
  strong: boolean;
}

/** Who woke whom: from the waker's row to the woken one's. */
export function arrows(s: Scene, list: readonly Arrow[]): void {
  const { ctx } = s;
  for (const a of list) {
    const px = x(s, a.at);
    if (px < -20 || px > s.width + 20) continue;
    ctx.strokeStyle = ctx.fillStyle = a.strong ? s.ink.accent : s.ink.quiet;
    ctx.globalAlpha = a.strong ? 1 : 0.55;
    ctx.lineWidth = a.strong ? 1.6 : 1;
    const bend = Math.min(26, Math.abs(a.toY - a.fromY) / 2 + 6);
    ctx.beginPath();
    ctx.moveTo(px, a.fromY);
    ctx.bezierCurveTo(px - bend, a.fromY, px - bend, a.toY, px - 1, a.toY);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(px, a.toY);
    ctx.lineTo(px - 5, a.toY - 3);
    ctx.lineTo(px - 5, a.toY + 3);
    ctx.fill();
  }
  ctx.globalAlpha = 1;
  ctx.lineWidth = 1;
}

/** A frame around an interval. */
export function frame(s: Scene, r: Range, y: number, height: number, colour: string): void {
  const a = Math.max(-2, x(s, r.from));
  const b = Math.min(s.width + 2, x(s, r.to));
  if (b < 0 || a > s.width) return;
  s.ctx.strokeStyle = colour;
  s.ctx.lineWidth = 2;
  s.ctx.strokeRect(a - 1, y + 0.5, Math.max(3, b - a + 2), height - 1);
  s.ctx.lineWidth = 1;
}

/** A stretch of time that is chosen. */
export function band(s: Scene, r: Range, y: number, height: number): void {
  const a = x(s, r.from);
  const b = x(s, r.to);
  s.ctx.fillStyle = s.ink.accent;
  s.ctx.globalAlpha = 0.16;
  s.ctx.fillRect(a, y, b - a, height);
  s.ctx.globalAlpha = 1;
  s.ctx.strokeStyle = s.ink.accent;
  s.ctx.strokeRect(Math.round(a) + 0.5, y + 0.5, Math.round(b - a), height - 1);
}

/** A mark, or the pointer's time, as an upright line. */
export function upright(s: Scene, at: number, colour: string, dashed: boolean, top = 0): void {
  const px = Math.round(x(s, at)) + 0.5;
  if (px < 0 || px > s.width) return;
  s.ctx.strokeStyle = colour;
  s.ctx.setLineDash(dashed ? [3, 3] : []);
  s.ctx.beginPath();
  s.ctx.moveTo(px, top);
  s.ctx.lineTo(px, s.height);
  s.ctx.stroke();
  s.ctx.setLineDash([]);
}
