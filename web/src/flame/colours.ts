// What a box is filled with. The hue says whose code it is: the runtime violet
// grey, the standard library teal, other modules green to blue, one's own warm;
// within these, each package has its own. Lightness is the same for all, so that
// what is dimmed or marked stands out.
import { difference, type Change } from "../model/flame/diff";
import { originOf, packageOf } from "../model/flame/names";
import type { Frames } from "../model/flame/tree";

export interface Palette {
  fills: string[];
  /** Which of fills each frame has. */
  of: Uint8Array;
}

const hues: Record<string, readonly number[]> = { own: [28, 44, 58, 72, 86, 12], other: [128, 146, 162, 232, 250, 268], std: [196], runtime: [300], none: [260] };
const chroma: Record<string, number> = { own: 1, other: 0.9, std: 0.8, runtime: 0.42, none: 0.08 };

/** What the code of an origin can be filled with: each of its packages has one of these. */
export const fillsOf = (origin: "own" | "other" | "std" | "runtime", dark: boolean): string[] => hues[origin]!.map((hue) => fillOf(origin, hue, dark));

const fillOf = (origin: string, hue: number, dark: boolean): string => (dark ? `oklch(0.44 ${0.085 * chroma[origin]!} ${hue})` : `oklch(0.87 ${0.075 * chroma[origin]!} ${hue})`);

export function paletteOf(frames: Frames, dark: boolean, module = ""): Palette {
  const fills: string[] = [];
  const index = new Map<string, number>();
  const of = Uint8Array.from(frames.names, (name) => {
    const origin = originOf(name, module);
    const list = hues[origin]!;
    const hue = list[hash(packageOf(name)) % list.length]!;
    const fill = fillOf(origin, hue, dark);
    let i = index.get(fill);
    if (i === undefined) index.set(fill, (i = fills.push(fill) - 1));
    return i;
  });
  return { fills, of };
}

function hash(s: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < s.length; i++) h = Math.imul(h ^ s.charCodeAt(i), 0x01000193);
  return (h ^ (h >>> 13)) >>> 0;
}

/** Steps of a change's strength, in each direction. */
const steps = 6;

/** Blue is less, red is more, grey is neither: not red and green, which many cannot tell apart. */
export function diffFills(dark: boolean): string[] {
  const fill = (hue: number, n: number) => {
    const s = n / steps;
    return dark ? `oklch(${0.36 + 0.11 * s} ${0.02 + 0.14 * s} ${hue})` : `oklch(${0.92 - 0.17 * s} ${0.01 + 0.13 * s} ${hue})`;
  };
  return [dark ? "oklch(0.36 0.01 260)" : "oklch(0.92 0.004 260)", ...Array.from({ length: steps }, (_, n) => fill(25, n + 1)), ...Array.from({ length: steps }, (_, n) => fill(250, n + 1))];
}

/** Which of diffFills a change has, and what kind of change it is. */
export function diffFill(before: number, after: number, whole: number, least: number): { fill: number; change: Change } {
  const d = difference(before, after, whole, least);
  if (d.change === "same") return { fill: 0, change: d.change };
  const step = Math.max(1, Math.ceil(d.strength * steps));
  return { fill: d.delta > 0 ? step : steps + step, change: d.change };
}
