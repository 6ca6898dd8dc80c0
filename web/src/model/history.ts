// The recent past of many instances, small enough to keep for a whole fleet:
// five numbers every ten seconds, ten minutes back.
import type { SparkKey } from "./columns";
import { cpuShare, type Heartbeat, type Instance } from "./instance";

export const sparkStepMs = 10_000;
export const sparkPoints = 60;

/** Oldest first, NaN where nothing was heard. */
export type Spark = Record<SparkKey, Float32Array>;

const sparkKeys: readonly SparkKey[] = ["cpu", "goroutines", "heap", "gc", "sched"];
const blank = () => new Float32Array(sparkPoints).fill(NaN);

interface Ring extends Spark {
  /** The step that the last point belongs to. */
  last: number;
}

/** SparkHistory keeps one ring for each instance. */
export class SparkHistory {
  #rings = new Map<string, Ring>();
  // By slot: the step of the last heartbeat that was recorded.
  #steps: number[] = [];

  /** Records a heartbeat. Those older than the ring, or without a time, are ignored. */
  push(id: string, h: Heartbeat): void {
    if (!h.at) return;
    const step = Math.floor(h.at / sparkStepMs);
    let r = this.#rings.get(id);
    if (!r) {
      r = { last: step, cpu: blank(), goroutines: blank(), heap: blank(), gc: blank(), sched: blank() };
      this.#rings.set(id, r);
    }
    if (step > r.last) {
      for (const k of sparkKeys) shift(r[k], step - r.last);
      r.last = step;
    }
    const at = sparkPoints - 1 - (r.last - step);
    if (at < 0) return;
    // Spelt out: this runs for thousands of instances.
    r.cpu[at] = cpuShare(h) ?? NaN;
    r.goroutines[at] = h.goroutines;
    r.heap[at] = h.liveHeapBytes;
    r.gc[at] = h.gcCpuFraction;
    r.sched[at] = h.schedLatencyP99Seconds;
  }

  /**
   * Records the heartbeat of one among thousands: the first of a step. What its
   * last one said is seen where the ring is looked at, by of.
   */
  beat(i: Instance): void {
    if (!i.heartbeat) return;
    const step = Math.floor(i.heartbeat.at / sparkStepMs);
    if (i.slot && this.#steps[i.slot] === step) return;
    if (i.slot) this.#steps[i.slot] = step;
    this.push(i.id, i.heartbeat);
  }

  /** The ring of an instance up to its newest heartbeat; undefined = nothing was heard yet. */
  of(i: Instance): Spark | undefined {
    if (i.heartbeat) this.push(i.id, i.heartbeat);
    return this.#rings.get(i.id);
  }

  /** The ring of an instance; undefined = nothing was heard yet. */
  get(id: string): Spark | undefined {
    return this.#rings.get(id);
  }

  /** Forgets every instance that is not in keep. */
  prune(keep: { has(id: string): boolean }): void {
    for (const id of this.#rings.keys()) if (!keep.has(id)) this.#rings.delete(id);
  }
}

function shift(a: Float32Array, by: number): void {
  if (by >= a.length) {
    a.fill(NaN);
    return;
  }
  a.copyWithin(0, by);
  a.fill(NaN, a.length - by);
}

/** The largest number in a, ignoring what is missing; 0 if there is none. */
export function maxOf(a: Float32Array): number {
  let m = 0;
  for (const v of a) if (v > m) m = v;
  return m;
}

/**
 * Appends a point to those before it, which are in order of time, dropping what is
 * older than keepMs. Returns points itself if it is already in there.
 */
export function appendPoint<P extends { at: number }>(points: P[], h: P, keepMs: number): P[] {
  const last = points[points.length - 1];
  if (!h.at || (last && h.at <= last.at)) return points;
  const from = h.at - keepMs;
  const first = points.findIndex((p) => p.at >= from);
  return [...(first < 0 ? [] : first === 0 ? points : points.slice(first)), h];
}

/**
 * Columns for a chart: seconds, and for each series its values with a null
 * where more than three steps passed without a heartbeat, so that lines break
 * instead of lying.
 */
export function columns<P extends { at: number }>(points: readonly P[], stepMs: number, series: ((p: P) => number | null)[]): { x: number[]; ys: (number | null)[][] } {
  const x: number[] = [];
  const ys: (number | null)[][] = series.map(() => []);
  let before = 0;
  for (const p of points) {
    if (before && p.at - before > 3 * stepMs) {
      x.push((before + stepMs) / 1000);
      for (const y of ys) y.push(null);
    }
    x.push(p.at / 1000);
    series.forEach((of, n) => ys[n]!.push(of(p)));
    before = p.at;
  }
  return { x, ys };
}
