// A row of a tile as it is drawn: intervals one by one, or shares of columns.
import { classes } from "./states";
import { tileSpan } from "./window";

export interface Frame {
  function: string;
  file: string;
  line: number;
  own: boolean;
}

/** The frame that says most: the program's own, else the first outside of the runtime. */
export const placeIn = (stack: readonly Frame[]): Frame | undefined => stack.find((f) => f.own) ?? stack.find((f) => !f.function.startsWith("runtime.")) ?? stack[0];

export interface Intervals {
  kind: "intervals";
  /** Nanoseconds since the trace began; whole at the edges of the tile. */
  from: Float64Array;
  to: Float64Array;
  state: Uint8Array;
  /** Indexes into classes. */
  class: Uint8Array;
  reason: Uint8Array;
  stack: Uint16Array;
  wakerStack: Uint16Array;
  /** The goroutine on a P; else who woke this one, negative if by creating it. */
  who: Float64Array;
  stacks: readonly Frame[][];
}

export interface Shares {
  kind: "shares";
  columns: number;
  /** For each class, in order, a share of 255 of each column; null = never in it. */
  planes: (Uint8Array | null)[];
  /** How many goroutines there were on average, of each column. */
  goroutines: Float32Array;
}

export type TileRow = Intervals | Shares;

/** A row as it comes from the wire. */
export interface WireRow {
  fromNs: Uint8Array;
  toNs: Uint8Array;
  state: Uint8Array;
  reason: Uint8Array;
  stack: Uint8Array;
  wakerStack: Uint8Array;
  goroutine: Uint8Array;
  shareStates: Uint8Array;
  shares: Uint8Array;
  goroutines: Uint8Array;
}

/** The bytes of a column at an address that its numbers may have. */
const own = (b: Uint8Array): ArrayBuffer => b.slice().buffer;

export function decodeRow(r: WireRow, stacks: readonly Frame[][], classOf: Uint8Array): TileRow {
  if (!r.goroutines.length) {
    return {
      kind: "intervals", stacks, from: new Float64Array(own(r.fromNs)), to: new Float64Array(own(r.toNs)), state: r.state.slice(),
      class: r.state.map((s) => classOf[s] ?? 7), reason: r.reason.slice(), stack: new Uint16Array(own(r.stack)),
      wakerStack: new Uint16Array(own(r.wakerStack)), who: new Float64Array(own(r.goroutine)),
    };
  }
  const columns = r.goroutines.length / 4;
  const planes: (Uint8Array | null)[] = classes.map(() => null);
  r.shareStates.forEach((s, n) => {
    const c = classOf[s] ?? 7;
    const plane = (planes[c] ??= new Uint8Array(columns));
    for (let i = 0; i < columns; i++) plane[i]! += r.shares[n * columns + i]!;
  });
  return { kind: "shares", columns, planes, goroutines: new Float32Array(own(r.goroutines)) };
}

/** Bytes that a row holds. */
export const sizeOf = (r: TileRow): number => (r.kind === "shares" ? r.columns * (4 + r.planes.filter(Boolean).length) : r.from.length * 32) + 200;

/** The interval at a time; -1 = none. */
export function intervalAt(r: Intervals, at: number): number {
  let lo = 0;
  let hi = r.from.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (r.from[mid]! <= at) lo = mid + 1;
    else hi = mid;
  }
  return lo > 0 && at < r.to[lo - 1]! ? lo - 1 : -1;
}

export interface PlacedRow {
  row: TileRow;
  level: number;
  index: number;
  from: number;
  to: number;
}

/**
 * Tiles by track, level and index, as many bytes as are allowed; what was drawn
 * least recently gives way.
 */
export class TileCache {
  private readonly rows = new Map<string, PlacedRow>();
  private bytes = 0;

  constructor(private readonly most: number) {}

  private static key = (track: string, level: number, index: number): string => `${level}/${index}/${track}`;

  put(track: string, level: number, index: number, row: TileRow): void {
    const key = TileCache.key(track, level, index);
    this.drop(key);
    this.rows.set(key, { row, level, index, from: index * tileSpan(level), to: (index + 1) * tileSpan(level) });
    this.bytes += sizeOf(row);
    for (const old of this.rows.keys()) {
      if (this.bytes <= this.most) break;
      this.drop(old);
    }
  }

  private drop(key: string): void {
    const old = this.rows.get(key);
    if (!old) return;
    this.rows.delete(key);
    this.bytes -= sizeOf(old.row);
  }

  get(track: string, level: number, index: number): PlacedRow | undefined {
    const key = TileCache.key(track, level, index);
    const row = this.rows.get(key);
    if (row) {
      this.rows.delete(key);
      this.rows.set(key, row);
    }
    return row;
  }

  /** The tile, or the nearest wider one that has it too. */
  nearest(track: string, level: number, index: number): PlacedRow | undefined {
    for (let up = 0; up <= 12; up++) {
      const row = this.get(track, level + up, Math.floor(index / 2 ** up));
      if (row) return row;
    }
    return undefined;
  }

  clear(): void {
    this.rows.clear();
    this.bytes = 0;
  }
}
