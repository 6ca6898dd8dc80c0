// Rows of a timeline as pixels. Nothing is left out: what is narrower than a pixel
// is a share of it. The time it takes depends on pixels, not on intervals beyond
// four a column.
import { classes, looks } from "./states";
import type { Intervals, PlacedRow, Shares } from "./tile";
import type { Range } from "./window";

/** Pixels as a canvas has them, and the stretch of time that their width is. */
export interface Surface {
  width: number;
  height: number;
  pixels: Uint32Array;
  range: Range;
  /** Device pixels of a CSS pixel. */
  scale: number;
}

export interface Palette {
  background: number;
  /** By class; those that are not highlighted are nearly the background. */
  plain: Uint32Array;
  /** The lines of a hatched class. */
  hatch: Uint32Array;
}

type Rgb = [number, number, number];

/** "#rgb" or "#rrggbb". */
export function rgb(hex: string): Rgb {
  const h = hex.replace("#", "");
  const full = h.length === 3 ? [...h].map((c) => c + c).join("") : h;
  return [0, 2, 4].map((i) => parseInt(full.slice(i, i + 2), 16) || 0) as Rgb;
}

const mix = (a: Rgb, b: Rgb, share: number): Rgb => [0, 1, 2].map((i) => Math.round(a[i]! * share + b[i]! * (1 - share))) as Rgb;
const pack = ([r, g, b]: Rgb): number => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** Colours of a theme; only = the classes that are highlighted, empty = all. */
export function palette(tone: (token: string) => string, only: ReadonlySet<string>): Palette {
  const back = rgb(tone("--s1"));
  const ink = rgb(tone("--bg"));
  const plain = new Uint32Array(classes.length);
  const hatch = new Uint32Array(classes.length);
  classes.forEach((c, n) => {
    const full = rgb(tone(looks[c].tone));
    const shown = only.size && !only.has(c) ? mix(full, back, 0.16) : full;
    plain[n] = pack(shown);
    hatch[n] = looks[c].hatched ? pack(mix(shown, ink, 0.62)) : plain[n]!;
  });
  return { background: pack(back), plain, hatch };
}

const heightOf = classes.map((c) => looks[c].height);
const hatchedClass = classes.map((c) => looks[c].hatched);

export function clear(s: Surface, p: Palette): void {
  s.pixels.fill(p.background);
}

/** Of the diagonal lines, the same on every row and at every zoom, where a pixel is between two. */
const phase = (x: number, y: number, step: number): number => (x + y) % step;

function fill(s: Surface, p: Palette, c: number, x0: number, x1: number, top: number, bottom: number): void {
  const { pixels, width } = s;
  const y0 = Math.max(0, top);
  const y1 = Math.min(s.height, bottom);
  const plain = p.plain[c]!;
  const line = p.hatch[c]!;
  if (!hatchedClass[c] || line === plain || x1 - x0 < 3) {
    // A call for a handful of pixels costs more than they do.
    if (x1 - x0 > 24) for (let y = y0; y < y1; y++) pixels.fill(plain, y * width + x0, y * width + x1);
    else for (let y = y0; y < y1; y++) for (let i = y * width + x0, end = y * width + x1; i < end; i++) pixels[i] = plain;
    return;
  }
  const step = Math.round(6 * s.scale);
  const on = step / 4;
  for (let y = y0; y < y1; y++) {
    for (let i = y * width + x0, end = y * width + x1, at = phase(x0, y, step); i < end; i++) {
      pixels[i] = at < on ? line : plain;
      if (++at === step) at = 0;
    }
  }
}

/** A part of a column of pixels, from the bottom up to the top. */
function column(s: Surface, p: Palette, c: number, x: number, top: number, bottom: number): void {
  const { pixels, width } = s;
  const plain = p.plain[c]!;
  const line = p.hatch[c]!;
  const end = Math.max(0, top);
  const from = Math.min(bottom, s.height) - 1;
  if (line === plain) {
    for (let y = from, i = y * width + x; y >= end; y--, i -= width) pixels[i] = plain;
    return;
  }
  const step = Math.round(6 * s.scale);
  const on = step / 4;
  for (let y = from, i = y * width + x, at = phase(x, Math.max(0, from), step); y >= end; y--, i -= width) {
    pixels[i] = at < on ? line : plain;
    if (--at < 0) at = step - 1;
  }
}

/** Shares from the bottom of a column of pixels, in the order of classes. */
function stack(s: Surface, p: Palette, shares: Float32Array, at: number, x: number, y: number, height: number): void {
  let sum = 0;
  let bottom = y + height;
  for (let c = 0; c < classes.length; c++) {
    const v = shares[at + c]!;
    if (v <= 0) continue;
    sum += v;
    const top = y + height - Math.round(Math.min(1, sum) * height);
    column(s, p, c, x, top, bottom);
    bottom = Math.min(bottom, top);
  }
}

const scratch = { of: new Float32Array(0) };

function room(n: number): Float32Array {
  if (scratch.of.length < n) scratch.of = new Float32Array(n * 2);
  return scratch.of.fill(0, 0, n);
}

/** The pixels of a tile within a surface. */
function extent(s: Surface, t: Range): [number, number] {
  const perPixel = (s.range.to - s.range.from) / s.width;
  const x = (at: number) => Math.round((at - s.range.from) / perPixel);
  return [Math.max(0, x(t.from)), Math.min(s.width, x(t.to))];
}

/** Paints a tile's row between two heights; clip = the time that it answers for. */
export function paintRow(s: Surface, p: Palette, t: PlacedRow, clip: Range, y: number, height: number): void {
  const [x0, x1] = extent(s, clip);
  if (x0 >= x1 || y >= s.height || y + height <= 0) return;
  if (t.row.kind === "shares") paintShares(s, p, t, t.row, x0, x1, y, height);
  else paintIntervals(s, p, t.row, x0, x1, y, height);
}

function paintShares(s: Surface, p: Palette, t: PlacedRow, r: Shares, x0: number, x1: number, y: number, height: number): void {
  const perPixel = (s.range.to - s.range.from) / s.width;
  const wide = (t.to - t.from) / r.columns;
  const seen: number[] = [];
  const planes: Uint8Array[] = [];
  r.planes.forEach((plane, c) => plane && (seen.push(c), planes.push(plane)));
  for (let x = x0; x < x1; x++) {
    const at = (s.range.from + x * perPixel - t.from) / wide;
    // Half a column's rounding must not take in the neighbour as well.
    const a = Math.max(0, Math.min(r.columns - 1, Math.floor(at + 1e-6)));
    const b = Math.max(a + 1, Math.min(r.columns, Math.ceil(at + perPixel / wide - 1e-6)));
    const part = height / (255 * (b - a));
    let sum = 0;
    let bottom = y + height;
    for (let k = 0; k < planes.length; k++) {
      const plane = planes[k]!;
      let v = plane[a]!;
      for (let i = a + 1; i < b; i++) v += plane[i]!;
      if (v === 0) continue;
      sum += v;
      const top = y + height - Math.round(Math.min(height, part * sum));
      if (top < bottom) column(s, p, seen[k]!, x, top, bottom);
      bottom = Math.min(bottom, top);
    }
  }
}

/** The first interval that ends after a time: intervals do not overlap. */
function firstAfter(r: Intervals, at: number): number {
  let lo = 0;
  let hi = r.to.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (r.to[mid]! <= at) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

function paintIntervals(s: Surface, p: Palette, r: Intervals, x0: number, x1: number, y: number, height: number): void {
  const perPixel = (s.range.to - s.range.from) / s.width;
  const n = classes.length;
  const part = room((x1 - x0) * n);
  let first = x1;
  let last = x0 - 1;
  const add = (x: number, c: number, v: number) => {
    if (x < x0 || x >= x1) return;
    part[(x - x0) * n + c]! += v;
    if (x < first) first = x;
    if (x > last) last = x;
  };
  for (let i = firstAfter(r, s.range.from + x0 * perPixel); i < r.from.length; i++) {
    const a = (r.from[i]! - s.range.from) / perPixel;
    const b = (r.to[i]! - s.range.from) / perPixel;
    if (b <= x0) continue;
    if (a >= x1) break;
    const c = r.class[i]!;
    const whole = Math.max(x0, Math.ceil(a));
    const end = Math.min(x1, Math.floor(b));
    if (whole < end) {
      fill(s, p, c, whole, end, y + height - Math.max(1, Math.round(heightOf[c]! * height)), y + height);
      if (whole - a > 0) add(whole - 1, c, whole - a);
      if (b - end > 0) add(end, c, b - end);
    } else if (Math.floor(a) === Math.floor(b)) add(Math.floor(a), c, b - a);
    else {
      add(Math.floor(a), c, Math.ceil(a) - a);
      add(Math.floor(b), c, b - Math.floor(b));
    }
  }
  for (let x = first; x <= last; x++) mixed(s, p, part, (x - x0) * n, x, y, height);
}

/** A pixel in which states change: one that nearly fills it has its own height, others are shares of the row. */
function mixed(s: Surface, p: Palette, part: Float32Array, at: number, x: number, y: number, height: number): void {
  let most = 0;
  let sum = 0;
  let tall = 0;
  for (let c = 0; c < classes.length; c++) {
    const v = part[at + c]!;
    sum += v;
    if (v > part[at + most]!) most = c;
    // As tall as its parts are on average.
    tall += v * heightOf[c]!;
  }
  if (sum < 0.004) return;
  if (part[at + most]! > 0.95) return fill(s, p, most, x, x + 1, y + height - Math.max(1, Math.round(heightOf[most]! * height)), y + height);
  const shown = Math.max(1, Math.round((tall / sum) * Math.min(1, Math.max(sum, 0.5)) * height));
  for (let c = 0; c < classes.length; c++) part[at + c]! /= sum;
  stack(s, p, part, at, x, y + height - shown, shown);
}
