// The rows of a timeline: which there are, in what order, and where.
import { classes, type StateClass } from "./states";

export interface Group {
  function: string;
  goroutines: number;
  /** Nanoseconds in each class. */
  classNs: number[];
}

export type Track = { kind: "proc"; id: number } | { kind: "group"; function: string } | { kind: "goroutine"; id: number };

/** A track's name in addresses and caches: "p0", "g4388", "fmain.main". */
export const keyOf = (t: Track): string => (t.kind === "group" ? `f${t.function}` : `${t.kind === "proc" ? "p" : "g"}${t.id}`);

export function trackOf(key: string): Track | null {
  if (key.startsWith("f")) return { kind: "group", function: key.slice(1) };
  const id = Number(key.slice(1));
  if (!Number.isSafeInteger(id) || id < 0 || key.length < 2) return null;
  return key.startsWith("p") ? { kind: "proc", id } : key.startsWith("g") ? { kind: "goroutine", id } : null;
}

export interface Row {
  key: string;
  /** What it draws; null = the sum of all Ps, or only words. */
  track: Track | null;
  kind: "procs" | "proc" | "group" | "goroutine" | "more";
  y: number;
  height: number;
  /** Of a group and the Ps: whether its members are shown. */
  open: boolean;
  /** Of a group: how many goroutines; of "more": how many are left out. */
  count: number;
  group: string;
  pinned: boolean;
}

export interface RowsInput {
  procs: readonly number[];
  groups: readonly Group[];
  procsOpen: boolean;
  /** Functions of the groups that are open. */
  open: ReadonlySet<string>;
  /** The goroutines of open groups that are known so far, and how many there are. */
  members: ReadonlyMap<string, { ids: readonly number[]; total: number }>;
  pinned: readonly number[];
  /** Groups with most of it come first; "" = as they are. */
  only: StateClass | "";
}

export const heights = { procs: 28, proc: 16, group: 34, goroutine: 22, more: 22 } as const;

export function rowsOf(o: RowsInput): Row[] {
  const rows: Row[] = [];
  let y = 0;
  const add = (kind: Row["kind"], key: string, track: Track | null, more: Partial<Row> = {}) => {
    rows.push({ key, track, kind, y, height: heights[kind], open: false, count: 0, group: "", pinned: false, ...more });
    y += heights[kind];
  };
  for (const id of o.pinned) add("goroutine", `pin${id}`, { kind: "goroutine", id }, { pinned: true });
  if (o.procs.length) add("procs", "ps", null, { open: o.procsOpen, count: o.procs.length });
  if (o.procsOpen) for (const id of o.procs) add("proc", `p${id}`, { kind: "proc", id });
  for (const g of sorted(o.groups, o.only)) {
    const open = o.open.has(g.function);
    add("group", `f${g.function}`, { kind: "group", function: g.function }, { open, count: g.goroutines, group: g.function });
    if (!open) continue;
    const m = o.members.get(g.function);
    for (const id of m?.ids ?? []) add("goroutine", `g${id}`, { kind: "goroutine", id }, { group: g.function });
    const left = (m?.total ?? g.goroutines) - (m?.ids.length ?? 0);
    if (left > 0) add("more", `more${g.function}`, null, { count: left, group: g.function });
  }
  return rows;
}

function sorted(groups: readonly Group[], only: StateClass | ""): readonly Group[] {
  if (!only) return groups;
  const n = classes.indexOf(only);
  return groups.map((g, i) => ({ g, i })).sort((a, b) => b.g.classNs[n]! - a.g.classNs[n]! || a.i - b.i).map(({ g }) => g);
}

export const totalHeight = (rows: readonly Row[]): number => (rows.length ? rows.at(-1)!.y + rows.at(-1)!.height : 0);

/** The index of the row at a height; -1 = below the last one. */
export function rowAt(rows: readonly Row[], y: number): number {
  if (y < 0) return rows.length ? 0 : -1;
  let lo = 0;
  let hi = rows.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (rows[mid]!.y + rows[mid]!.height <= y) lo = mid + 1;
    else hi = mid;
  }
  return lo < rows.length ? lo : -1;
}

/** The rows between two heights. */
export function visibleRows(rows: readonly Row[], top: number, height: number): Row[] {
  const first = rowAt(rows, top);
  if (first < 0) return [];
  let end = first;
  while (end < rows.length && rows[end]!.y < top + height) end++;
  return rows.slice(first, end);
}
