// What is looked at of a tree, in the order in which it is applied: scaled,
// hidden, folded, cut down to what goes through some functions; the table is of
// that; what is drawn may be turned round, or be a function's surroundings.
import { layout, type Layout } from "./layout";
import { framesOf, packagesOf } from "./names";
import { tableOf, type Table } from "./table";
import { collapseRecursion, hide, invert, normalised, sandwich, through, type Frames, type Tree } from "./tree";

export interface ViewSpec {
  /** Only the stacks through one of these functions; none = all. */
  through: string[];
  /** Packages without which it is shown. */
  hide: string[];
  recursion: boolean;
  /** Begin at what was running rather than at the root. */
  callers: boolean;
  /** A function with its callers above and its callees below; "" = none. */
  sandwich: string;
  /** Both sides of a comparison scaled to the same sum. */
  normalise: boolean;
}

export interface View {
  layout: Layout;
  table: Table;
  /** The tree that the table is of, when what is drawn is another. */
  main: Layout;
  /** What shares refer to: the whole of either side, before anything was left out. */
  total: number;
  baseTotal: number;
  /** Functions that were asked for and are not there. */
  missing: string[];
}

const sum = (of: Float64Array | null): number => of?.reduce((a, b) => a + b, 0) ?? 0;

export function view(whole: Tree, frames: Frames, spec: ViewSpec): View {
  let t = spec.normalise ? normalised(whole) : whole;
  const [total, baseTotal] = [sum(t.self), sum(t.base)];
  const missing: string[] = [];
  if (spec.hide.length) t = hide(t, packagesOf(frames, spec.hide));
  if (spec.recursion) t = collapseRecursion(t);
  if (spec.through.length) {
    const marked = new Uint8Array(frames.names.length);
    for (const name of spec.through) {
      const of = framesOf(frames, name);
      if (of.includes(1)) of.forEach((m, f) => (marked[f]! |= m));
      else missing.push(name);
    }
    if (marked.includes(1)) t = through(t, marked);
  }
  const main = layout(t, frames);
  const table = tableOf(main, frames);
  let drawn = main;
  if (spec.sandwich) {
    const s = sandwich(t, framesOf(frames, spec.sandwich));
    if (s) drawn = layout(s.callees, frames, s.callers);
    else missing.push(spec.sandwich);
  } else if (spec.callers) drawn = layout(invert(t), frames);
  return { layout: drawn, table, main, total, baseTotal, missing };
}
