// A tree by function: the table beside it, and who calls whom.
import type { Layout } from "./layout";
import type { Frames } from "./tree";

/** The functions of a tree, as columns. */
export interface Table {
  frame: Uint32Array;
  self: Float64Array;
  total: Float64Array;
  baseSelf: Float64Array | null;
  baseTotal: Float64Array | null;
}

// Walks a layout that has no pivot: in preorder, so that the way to a node is at hand.
function walk(l: Layout, enter: (node: number) => void, leave: (node: number) => void): void {
  const path: number[] = [];
  for (let i = 0; i < l.frame.length; i++) {
    while (path.length > l.depth[i]!) leave(path.pop()!);
    enter(i);
    path.push(i);
  }
  while (path.length) leave(path.pop()!);
}

/** What each function is worth. A function inside itself counts once. */
export function tableOf(l: Layout, frames: Frames): Table {
  const n = frames.names.length;
  const [self, total, baseSelf, baseTotal] = [new Float64Array(n), new Float64Array(n), new Float64Array(n), new Float64Array(n)];
  const on = new Uint32Array(n);
  const seen = new Uint8Array(n);
  walk(
    l,
    (i) => {
      const f = l.frame[i]!;
      seen[f] = 1;
      self[f]! += l.self[i]!;
      if (l.baseSelf) baseSelf[f]! += l.baseSelf[i]!;
      if (on[f]!++) return;
      total[f]! += l.value[i]!;
      if (l.base) baseTotal[f]! += l.base[i]!;
    },
    (i) => void on[l.frame[i]!]!--,
  );
  seen[l.frame[0]!] = 0; // the whole is no function
  const there = Uint32Array.from(seen.keys()).filter((f) => seen[f]);
  const pick = (from: Float64Array) => Float64Array.from(there, (f) => from[f]!);
  return { frame: there, self: pick(self), total: pick(total), baseSelf: l.base && pick(baseSelf), baseTotal: l.base && pick(baseTotal) };
}

export interface Edge {
  frame: number;
  value: number;
  base: number;
}

export interface Around {
  self: number;
  total: number;
  baseSelf: number;
  baseTotal: number;
  callers: Edge[];
  callees: Edge[];
}

/** A function with who calls it and whom it calls. A stack counts once for each edge; a call by itself is none. */
export function around(l: Layout, frame: number): Around {
  const out: Around = { self: 0, total: 0, baseSelf: 0, baseTotal: 0, callers: [], callees: [] };
  const [callers, callees] = [new Map<number, Edge & { on: number }>(), new Map<number, Edge & { on: number }>()];
  let depth = 0;
  const edge = (to: Map<number, Edge & { on: number }>, f: number, i: number, by: 1 | -1) => {
    const e = to.get(f) ?? { frame: f, value: 0, base: 0, on: 0 };
    to.set(f, e);
    if (by > 0 && e.on === 0) {
      e.value += l.value[i]!;
      e.base += l.base ? l.base[i]! : 0;
    }
    e.on += by;
  };
  const pass = (i: number, by: 1 | -1) => {
    const f = l.frame[i]!;
    const up = l.parent[i]! > 0 ? l.frame[l.parent[i]!]! : -1;
    if (f === frame) {
      if (up >= 0 && up !== f) edge(callers, up, i, by);
      if (by > 0) {
        out.self += l.self[i]!;
        out.baseSelf += l.baseSelf ? l.baseSelf[i]! : 0;
        if (depth === 0) {
          out.total += l.value[i]!;
          out.baseTotal += l.base ? l.base[i]! : 0;
        }
      }
      depth += by;
    } else if (up === frame) edge(callees, f, i, by);
  };
  walk(l, (i) => pass(i, 1), (i) => pass(i, -1));
  const sorted = (m: Map<number, Edge & { on: number }>) => [...m.values()].map(({ frame, value, base }) => ({ frame, value, base })).sort((a, b) => Math.max(b.value, b.base) - Math.max(a.value, a.base) || a.frame - b.frame);
  out.callers = sorted(callers);
  out.callees = sorted(callees);
  return out;
}

export const tableSorts = ["name", "self", "total", "base", "delta"] as const;
export type TableSort = (typeof tableSorts)[number];

/** The rows of a table in order: their places. What is looked for comes alone. */
export function sortTable(t: Table, frames: Frames, by: TableSort, desc: boolean, wanted: Uint8Array | null, own: boolean): Uint32Array {
  const rows = Uint32Array.from(t.frame.keys()).filter((i) => !wanted || wanted[t.frame[i]!]);
  const now = own ? t.self : t.total;
  const before = own ? t.baseSelf : t.baseTotal;
  const delta = (i: number) => now[i]! - (before ? before[i]! : 0);
  const value: Record<Exclude<TableSort, "name">, (i: number) => number> = { self: (i) => t.self[i]!, total: (i) => t.total[i]!, base: (i) => before?.[i] ?? 0, delta: (i) => Math.abs(delta(i)) };
  const name = (i: number) => frames.names[t.frame[i]!]!;
  const byName = (a: number, b: number) => (name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : t.frame[a]! - t.frame[b]!);
  const sign = desc ? -1 : 1;
  if (by === "name") return rows.sort((a, b) => sign * byName(a, b));
  const of = value[by];
  return rows.sort((a, b) => sign * (of(a) - of(b)) || t.total[b]! - t.total[a]! || byName(a, b));
}
