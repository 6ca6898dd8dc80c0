// Where each node of a tree is drawn, in units of its value: widths are additive,
// siblings lie side by side, the largest first. Rows are sorted by place, so that
// what is under a point, or on screen, is found by halving.
import { totals, type Frames, type Mask, type Tree } from "./tree";

export interface Layout {
  /** In preorder; what is above the pivot comes last. */
  frame: Uint32Array;
  parent: Int32Array;
  /** 0 is the whole, or the pivot; callers of a pivot are above it: negative. */
  depth: Int16Array;
  x: Float64Array;
  /** Of a comparison, that of the larger side of each part: neither what is new nor what is gone has no width. */
  width: Float64Array;
  value: Float64Array;
  self: Float64Array;
  base: Float64Array | null;
  baseSelf: Float64Array | null;
  /** Names the way to a node, the same in every layout: see pathKey. */
  key: Float64Array;
  /** Nodes by depth, from minDepth on: those of row r are rows[rowStart[r] … rowStart[r + 1] − 1], from left to right. */
  rows: Uint32Array;
  rowStart: Uint32Array;
  minDepth: number;
}

interface Part {
  t: Tree;
  order: Uint32Array;
  width: Float64Array;
  value: Float64Array;
  base: Float64Array | null;
}

/** The layout of a tree; with callers, these grow the other way from the same root. */
export function layout(t: Tree, frames: Frames, callers: Tree | null = null): Layout {
  const parts = [part(t, frames), ...(callers ? [part(callers, frames)] : [])];
  const n = parts.reduce((s, p) => s + p.order.length, 0) - (callers ? 1 : 0);
  const compared = t.base !== null;
  const l: Layout = {
    frame: new Uint32Array(n), parent: new Int32Array(n), depth: new Int16Array(n), x: new Float64Array(n), width: new Float64Array(n), value: new Float64Array(n), self: new Float64Array(n),
    base: compared ? new Float64Array(n) : null, baseSelf: compared ? new Float64Array(n) : null, key: new Float64Array(n), rows: new Uint32Array(n), rowStart: new Uint32Array(0), minDepth: 0,
  };
  const hashes = frameHashes(frames);
  let next = 0;
  parts.forEach((p, above) => {
    const put = new Int32Array(p.order.length);
    // Where the next child of a node begins.
    const filled = new Float64Array(n);
    for (const node of p.order) {
      if (above && node === 0) continue; // the pivot is there already
      const i = (put[node] = next++);
      const up = p.t.parent[node]!;
      const q = up < 0 ? -1 : up === 0 ? 0 : put[up]!;
      l.frame[i] = p.t.frame[node]!;
      l.parent[i] = q;
      l.depth[i] = q < 0 ? 0 : l.depth[q]! + (above ? -1 : 1);
      l.width[i] = p.width[node]!;
      l.x[i] = q < 0 ? 0 : l.x[q]! + filled[q]!;
      if (q >= 0) filled[q]! += l.width[i]!;
      l.value[i] = p.value[node]!;
      l.self[i] = p.t.self[node]!;
      if (p.base) {
        l.base![i] = p.base[node]!;
        l.baseSelf![i] = p.t.base![node]!;
      }
      l.key[i] = pathKey(q < 0 ? 0 : l.key[q]!, hashes[l.frame[i]!]!, above);
    }
  });
  byRow(l);
  return l;
}

// The nodes of a tree in preorder, the widest child first.
function part(t: Tree, frames: Frames): Part {
  const n = t.frame.length;
  const value = totals(t, t.self);
  const base = t.base && totals(t, t.base);
  const width = base ? totals(t, t.self.map((v, i) => Math.max(v, t.base![i]!))) : value;
  // Children side by side: those of p are list[ends[p] … ends[p + 1] − 1].
  const ends = new Uint32Array(n + 1);
  for (let i = 1; i < n; i++) ends[t.parent[i]! + 1]!++;
  for (let i = 0; i < n; i++) ends[i + 1]! += ends[i]!;
  const list = new Uint32Array(Math.max(0, n - 1));
  const fill = ends.slice();
  for (let i = 1; i < n; i++) list[fill[t.parent[i]!]!++] = i;
  const order = new Uint32Array(n);
  const todo = [0];
  for (let k = 0; todo.length; k++) {
    const node = todo.pop()!;
    order[k] = node;
    const from = ends[node]!;
    const to = ends[node + 1]!;
    const kids = list.subarray(from, to);
    if (kids.length > 1) kids.sort((a, b) => width[b]! - width[a]! || compareNames(frames, t.frame[a]!, t.frame[b]!));
    for (let i = kids.length - 1; i >= 0; i--) todo.push(kids[i]!);
  }
  return { t, order, width, value, base };
}

function compareNames(f: Frames, a: number, b: number): number {
  const [x, y] = [f.names[a]!, f.names[b]!];
  return x < y ? -1 : x > y ? 1 : f.lines[a]! - f.lines[b]!;
}

function byRow(l: Layout): void {
  let [min, max] = [0, 0];
  for (const d of l.depth) {
    if (d < min) min = d;
    if (d > max) max = d;
  }
  const start = new Uint32Array(max - min + 2);
  for (const d of l.depth) start[d - min + 1]!++;
  for (let r = 1; r < start.length; r++) start[r]! += start[r - 1]!;
  const fill = start.slice();
  for (let i = 0; i < l.depth.length; i++) l.rows[fill[l.depth[i]! - min]!++] = i; // preorder goes from left to right
  l.rowStart = start;
  l.minDepth = min;
}

// The key of a way is a number that a double holds exactly: 53 bits.
function pathKey(parent: number, frame: number, above: number): number {
  const low = Math.imul((parent >>> 0) ^ frame, 0x9e3779b1) ^ (above ? 0x5bd1e995 : 0);
  const high = Math.imul(Math.floor(parent / 4294967296) + frame, 0x85ebca6b) ^ (low >>> 7);
  return (high & 0x1fffff) * 4294967296 + ((low ^ (low >>> 15)) >>> 0);
}

function frameHashes(f: Frames): Uint32Array {
  return Uint32Array.from(f.names, (name, i) => {
    let h = 0x811c9dc5;
    for (let c = 0; c < name.length; c++) h = Math.imul(h ^ name.charCodeAt(c), 0x01000193);
    return Math.imul(h ^ (f.lines[i]! + 1), 0x01000193);
  });
}

/** The node that a key names, or -1. */
export const nodeOf = (l: Layout, key: string): number => (key ? l.key.indexOf(parseInt(key, 36)) : -1);
export const keyOf = (l: Layout, node: number): string => l.key[node]!.toString(36);

/** The node of a row that covers the place v, or -1. */
export function at(l: Layout, row: number, v: number): number {
  const i = after(l, row, v) - 1;
  if (i < l.rowStart[row]!) return -1;
  const node = l.rows[i]!;
  return v < l.x[node]! + l.width[node]! ? node : -1;
}

/** The place in rows of the first node of a row that begins after v. */
export function after(l: Layout, row: number, v: number): number {
  let [lo, hi] = [l.rowStart[row]!, l.rowStart[row + 1]!];
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (l.x[l.rows[mid]!]! <= v) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

/**
 * The first place from lo to end in a list of nodes by place of which the node begins
 * at v or after it. What is sought is near: steps are doubled until they are too long.
 */
export function ahead(l: Layout, nodes: Uint32Array, lo: number, end: number, v: number): number {
  let step = 1;
  let hi = lo;
  while (hi < end && l.x[nodes[hi]!]! < v) {
    lo = hi + 1;
    hi += step;
    step *= 2;
  }
  hi = Math.min(hi, end);
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (l.x[nodes[mid]!]! < v) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

export const rowCount = (l: Layout): number => l.rowStart.length - 1;
export const rowOf = (l: Layout, node: number): number => l.depth[node]! - l.minDepth;

/** The way from the whole, or the pivot, to a node. */
export function pathOf(l: Layout, node: number): number[] {
  const out: number[] = [];
  for (let i = node; i >= 0; i = l.parent[i]!) out.unshift(i);
  return out;
}

/** One row further down or up: to the widest child, or towards the root; the node itself where there is none. */
export function vertical(l: Layout, node: number, by: 1 | -1): number {
  const depth = l.depth[node]!;
  if (Math.abs(depth + by) < Math.abs(depth)) return l.parent[node]!;
  const row = rowOf(l, node) + by;
  if (row < 0 || row >= rowCount(l)) return node;
  let best = -1;
  for (let i = first(l, row, l.x[node]!); i < l.rowStart[row + 1]!; i++) {
    const kid = l.rows[i]!;
    if (l.parent[kid] !== node) break;
    if (best < 0 || l.width[kid]! > l.width[best]!) best = kid;
  }
  return best < 0 ? node : best;
}

/** The next node of the row that is at least that wide; the node itself where there is none. */
export function sideways(l: Layout, node: number, by: 1 | -1, least: number): number {
  const row = rowOf(l, node);
  for (let i = after(l, row, l.x[node]!) - 1 + by; i >= l.rowStart[row]! && i < l.rowStart[row + 1]!; i += by) if (l.width[l.rows[i]!]! >= least) return l.rows[i]!;
  return node;
}

// The place in rows of the first node of a row that begins at v or after it.
function first(l: Layout, row: number, v: number): number {
  let [lo, hi] = [l.rowStart[row]!, l.rowStart[row + 1]!];
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (l.x[l.rows[mid]!]! < v) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

export interface Hits {
  /** Nodes that match, by row from left to right: those of row r are nodes[rowStart[r] … rowStart[r + 1] − 1]. */
  nodes: Uint32Array;
  rowStart: Uint32Array;
  /** What they are worth together, of the whole; one inside another counts once. */
  value: number;
  base: number;
}

export function hits(l: Layout, marked: Mask): Hits {
  const out: Hits = { nodes: new Uint32Array(0), rowStart: new Uint32Array(l.rowStart.length), value: 0, base: 0 };
  const inside = new Uint8Array(l.frame.length);
  for (let i = 0; i < l.frame.length; i++) {
    const up = l.parent[i]!;
    const covered = up >= 0 && inside[up]! === 1;
    const hit = marked[l.frame[i]!]! === 1;
    inside[i] = covered || hit ? 1 : 0;
    // Of the callers of a pivot, those nearest to it count; what is on both sides of it counts below.
    if (hit && !covered && l.depth[i]! >= 0) {
      out.value += l.value[i]!;
      out.base += l.base ? l.base[i]! : 0;
    }
  }
  out.nodes = l.rows.filter((node) => marked[l.frame[node]!] === 1);
  for (const node of out.nodes) out.rowStart[rowOf(l, node) + 1]!++;
  for (let r = 1; r < out.rowStart.length; r++) out.rowStart[r]! += out.rowStart[r - 1]!;
  return out;
}
