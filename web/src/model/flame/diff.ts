// How much a part of a comparison changed, and how that is told.

/** A change is told by its share of the whole of the larger side: a tenth is as strong as it gets. */
const strongest = 0.1;

export type Change = "same" | "new" | "gone" | "more" | "less";

export interface Difference {
  change: Change;
  delta: number;
  /** Of the whole of the larger side, with its sign. */
  share: number;
  /** 0 to 1: how strong a colour tells it. */
  strength: number;
}

/** What became of a value; least is the share of the whole below which nothing is said. */
export function difference(before: number, after: number, whole: number, least: number): Difference {
  const delta = after - before;
  const share = whole ? delta / whole : 0;
  const tiny = Math.abs(share) <= least;
  const change: Change = tiny || delta === 0 ? "same" : before === 0 ? "new" : after === 0 ? "gone" : delta > 0 ? "more" : "less";
  return { change, delta, share, strength: change === "same" ? 0 : Math.min(1, Math.sqrt(Math.abs(share) / strongest)) };
}

/** "+12 %", "new", "gone": the relative change as people say it. */
export function ratio(before: number, after: number): number | null {
  return before ? (after - before) / before : null;
}
