// The stretch of time that a timeline shows, and the tiles that it is made of.
// Times are nanoseconds since the trace began.

export interface Range {
  from: number;
  to: number;
}

/** What cannot be divided further: some ticks of the trace's clock. */
export const shortest = 1_000;

/** A range of the same length, or as long as the trace, that lies within it. */
export function clamp(r: Range, duration: number): Range {
  const length = Math.min(Math.max(r.to - r.from, shortest), Math.max(duration, shortest));
  const from = Math.min(Math.max(r.from, 0), Math.max(0, duration - length));
  return { from, to: from + length };
}

/** Zooms by a factor (2 = twice as near) around a place, which stays where it is. */
export function zoom(r: Range, factor: number, at: number, duration: number): Range {
  const length = (r.to - r.from) / factor;
  const share = (at - r.from) / (r.to - r.from);
  const bounded = Math.min(Math.max(length, shortest), Math.max(duration, shortest));
  return clamp({ from: at - share * bounded, to: at + (1 - share) * bounded }, duration);
}

/** Moves by a share of the range's own length. */
export const pan = (r: Range, share: number, duration: number): Range => clamp({ from: r.from + share * (r.to - r.from), to: r.to + share * (r.to - r.from) }, duration);

/** A range that shows another one with some room on both sides. */
export function around(r: Range, duration: number): Range {
  const room = Math.max((r.to - r.from) * 0.15, shortest);
  return clamp({ from: r.from - room, to: r.to + room }, duration);
}

export const columns = 512;

/** The level whose columns are a pixel wide, or down to half of one. */
export const levelFor = (r: Range, pixels: number): number => Math.max(0, Math.min(40, Math.floor(Math.log2(Math.max(1, (r.to - r.from) / Math.max(1, pixels))))));

export const tileSpan = (level: number): number => columns * 2 ** level;

/** The indexes of the tiles of a level that a range reaches into. */
export function tilesOf(r: Range, level: number, duration: number): number[] {
  const span = tileSpan(level);
  const first = Math.max(0, Math.floor(r.from / span));
  const last = Math.floor(Math.max(r.from, Math.min(r.to, duration) - 1) / span);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, n) => first + n);
}

/** Where an axis of so many pixels has its marks, and how many digits after the point of the unit they need. */
export function ticks(r: Range, pixels: number): { at: number; text: string }[] {
  const want = (r.to - r.from) / Math.max(1, pixels / 110);
  const power = 10 ** Math.floor(Math.log10(want));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= want)!;
  const out = [];
  for (let at = Math.ceil(r.from / step) * step; at <= r.to; at += step) out.push({ at, text: clockText(at, step) });
  return out;
}

// By the digits after the point; made once, since making one costs a thousand times what it does.
const formats = [0, 1, 2, 3, 4, 5, 6].map((digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));

/** "412.3 ms": a time in the unit and with the digits that a step needs. */
export function clockText(ns: number, step: number): string {
  const [unit, size] = step >= 1e8 ? (["s", 1e9] as const) : step >= 1e3 ? (["ms", 1e6] as const) : (["µs", 1e3] as const);
  const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(step / size) - 1e-9)));
  return `${formats[digits]!.format(ns / size)} ${unit}`;
}
