// Call trees as columns, and what one can do to them. A node's parent has a
// smaller number than the node; node 0 is the whole. Nothing here knows of
// pixels or of the page.

/** What a node can stand for, by number. Frame 0 is the whole. */
export interface Frames {
  names: string[];
  files: string[];
  /** Where the function begins, or the line itself where lines are told apart; 0 = unknown. */
  lines: ArrayLike<number>;
}

export interface Tree {
  parent: Int32Array;
  frame: Uint32Array;
  self: Float64Array;
  /** The same before, of a comparison. */
  base: Float64Array | null;
}

/** What was too small for the centre to send. */
export const prunedFrame = "(pruned)";

/** A mark for each frame. */
export type Mask = Uint8Array;

/** A tree out of preorder columns with depths. */
export function treeOf(frame: Uint32Array, depth: Uint16Array, self: Float64Array, base: Float64Array | null): Tree {
  const parent = new Int32Array(frame.length);
  const path = new Int32Array(65_536);
  parent[0] = -1;
  for (let i = 1; i < frame.length; i++) {
    const d = depth[i]!;
    parent[i] = path[d - 1]!;
    path[d] = i;
  }
  return { parent, frame, self, base };
}

/** Grows a tree by paths: the same frame under the same node is the same node. */
export class Builder {
  private n = 1;
  private parent = new Int32Array(1024);
  private frame = new Uint32Array(1024);
  private self = new Float64Array(1024);
  private base: Float64Array | null;
  // Nodes by parent and frame: open addressing, node + 1.
  private slots = new Int32Array(4096);

  constructor(root: number, compared: boolean) {
    this.base = compared ? new Float64Array(1024) : null;
    this.parent[0] = -1;
    this.frame[0] = root;
  }

  child(parent: number, frame: number): number {
    const mask = this.slots.length - 1;
    let i = hash(parent, frame) & mask;
    for (; this.slots[i] !== 0; i = (i + 1) & mask) {
      const at = this.slots[i]! - 1;
      if (this.parent[at] === parent && this.frame[at] === frame) return at;
    }
    const at = this.n++;
    if (at === this.parent.length) this.grow();
    this.parent[at] = parent;
    this.frame[at] = frame;
    this.slots[i] = at + 1;
    if (this.n * 2 > this.slots.length) this.rehash();
    return at;
  }

  add(node: number, self: number, base: number): void {
    this.self[node]! += self;
    if (this.base) this.base[node]! += base;
  }

  done(): Tree {
    return { parent: this.parent.slice(0, this.n), frame: this.frame.slice(0, this.n), self: this.self.slice(0, this.n), base: this.base?.slice(0, this.n) ?? null };
  }

  private grow(): void {
    const size = this.parent.length * 2;
    const wider = <T extends Int32Array | Uint32Array | Float64Array>(from: T, to: T): T => (to.set(from), to);
    this.parent = wider(this.parent, new Int32Array(size));
    this.frame = wider(this.frame, new Uint32Array(size));
    this.self = wider(this.self, new Float64Array(size));
    if (this.base) this.base = wider(this.base, new Float64Array(size));
  }

  private rehash(): void {
    this.slots = new Int32Array(this.slots.length * 2);
    const mask = this.slots.length - 1;
    for (let at = 1; at < this.n; at++) {
      let i = hash(this.parent[at]!, this.frame[at]!) & mask;
      while (this.slots[i] !== 0) i = (i + 1) & mask;
      this.slots[i] = at + 1;
    }
  }
}

function hash(a: number, b: number): number {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b, 0xc2b2ae35);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return h ^ (h >>> 13);
}

/** What each node is worth with all below it. */
export function totals(t: Tree, own: Float64Array): Float64Array {
  const out = own.slice();
  for (let i = out.length - 1; i > 0; i--) out[t.parent[i]!]! += out[i]!;
  return out;
}

/** The stacks that go through a marked frame; what is left keeps its callers. */
export function through(t: Tree, marked: Mask): Tree {
  const n = t.frame.length;
  const inside = new Uint8Array(n);
  const needed = new Uint8Array(n);
  for (let i = 1; i < n; i++) inside[i] = inside[t.parent[i]!]! | marked[t.frame[i]!]!;
  for (let i = n - 1; i > 0; i--) if (needed[i]! | inside[i]!) needed[i] = needed[t.parent[i]!] = 1;
  const b = new Builder(t.frame[0]!, t.base !== null);
  const to = new Int32Array(n);
  for (let i = 1; i < n; i++) {
    if (!needed[i]) continue;
    to[i] = b.child(to[t.parent[i]!]!, t.frame[i]!);
    if (inside[i]) b.add(to[i]!, t.self[i]!, t.base ? t.base[i]! : 0);
  }
  return b.done();
}

/** Without marked frames: their callers get what they cost. */
export const hide = (t: Tree, marked: Mask): Tree => fold(t, (_, frame) => marked[frame] === 1);

/** A function that calls itself is one node. */
export const collapseRecursion = (t: Tree): Tree => fold(t, (parent, frame) => parent === frame);

// Nodes that fold are part of what they are called by.
function fold(t: Tree, folds: (parentFrame: number, frame: number) => boolean): Tree {
  const b = new Builder(t.frame[0]!, t.base !== null);
  const n = t.frame.length;
  const to = new Int32Array(n);
  const as = new Uint32Array(n); // the frame of where a node went
  as[0] = t.frame[0]!;
  b.add(0, t.self[0]!, t.base ? t.base[0]! : 0);
  for (let i = 1; i < n; i++) {
    const up = t.parent[i]!;
    if (folds(as[up]!, t.frame[i]!)) {
      to[i] = to[up]!;
      as[i] = as[up]!;
    } else {
      to[i] = b.child(to[up]!, t.frame[i]!);
      as[i] = t.frame[i]!;
    }
    b.add(to[i]!, t.self[i]!, t.base ? t.base[i]! : 0);
  }
  return b.done();
}

/** Turned round: from what was running to who called it. */
export function invert(t: Tree): Tree {
  const b = new Builder(t.frame[0]!, t.base !== null);
  for (let i = 0; i < t.frame.length; i++) {
    const self = t.self[i]!;
    const base = t.base ? t.base[i]! : 0;
    if (!self && !base) continue;
    let at = 0;
    for (let j = i; j > 0; j = t.parent[j]!) at = b.child(at, t.frame[j]!);
    b.add(at, self, base);
  }
  return b.done();
}

/** What marked frames call, and who calls them, each as one tree from them on; by their outermost call. */
export function sandwich(t: Tree, marked: Mask): { callees: Tree; callers: Tree } | null {
  const pivot = marked.indexOf(1);
  if (pivot < 0) return null;
  const n = t.frame.length;
  const down = new Builder(pivot, t.base !== null);
  const up = new Builder(pivot, t.base !== null);
  const value = totals(t, t.self);
  const before = t.base && totals(t, t.base);
  const to = new Int32Array(n).fill(-1);
  let found = false;
  for (let i = 1; i < n; i++) {
    const above = to[t.parent[i]!]!;
    if (above >= 0) to[i] = down.child(above, t.frame[i]!);
    else if (marked[t.frame[i]!]) {
      to[i] = 0;
      found = true;
      let at = 0;
      for (let j = t.parent[i]!; j > 0; j = t.parent[j]!) at = up.child(at, t.frame[j]!);
      up.add(at, value[i]!, before ? before[i]! : 0);
    } else continue;
    down.add(to[i]!, t.self[i]!, t.base ? t.base[i]! : 0);
  }
  return found ? { callees: down.done(), callers: up.done() } : null;
}

/** The comparison with the side after scaled to the sum of the side before. */
export function normalised(t: Tree): Tree {
  if (!t.base) return t;
  const sum = (of: Float64Array) => of.reduce((a, b) => a + b, 0);
  const after = sum(t.self);
  const ratio = after ? sum(t.base) / after : 1;
  return ratio ? { ...t, self: t.self.map((v) => v * ratio) } : t;
}
