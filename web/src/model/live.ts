// What a process says of itself once a second, as points for charts: finer than
// heartbeats, and only as old as somebody has been looking.
import type { MetricsSample, PoolStats } from "./instance";

export interface LivePoint {
  at: number;
  /** null = the runtime does not say, or nothing happened in that second. */
  running: number | null;
  runnable: number | null;
  waiting: number | null;
  notInGo: number | null;
  liveHeapBytes: number | null;
  heapGoalBytes: number | null;
  heapBytes: number | null;
  /** Bytes a second. */
  allocRate: number | null;
  schedP50: number | null;
  schedP99: number | null;
  pauseP50: number | null;
  pauseP99: number | null;
  /** Seconds a second. */
  mutexWaitRate: number | null;
  gcCpuShare: number | null;
  pools: PoolStats[];
}

/** How long live points are kept. */
export const liveMs = 10 * 60_000;

/** The point of a sample; rates are since the sample before it. */
export function livePoint(s: MetricsSample, before: MetricsSample | null): LivePoint {
  const value = (name: string): number | null => s.values[name]?.value ?? null;
  const p99 = (name: string): number | null => s.values[name]?.p99 ?? null;
  const grown = (name: string): number | null => {
    const was = before?.values[name]?.value;
    const is = value(name);
    return is === null || was === undefined || is < was ? null : is - was;
  };
  const seconds = before && s.at > before.at ? (s.at - before.at) / 1000 : 0;
  const rate = (name: string): number | null => {
    const by = grown(name);
    return by === null || !seconds ? null : by / seconds;
  };
  // An empty second has a percentile of 0, which would be a lie among real ones.
  const orNone = (v: number | null) => v || null;
  const cpu = grown("/cpu/classes/total:cpu-seconds");
  const idle = grown("/cpu/classes/idle:cpu-seconds");
  const gc = grown("/cpu/classes/gc/total:cpu-seconds");
  const busy = cpu !== null && idle !== null ? cpu - idle : 0;
  return {
    at: s.at,
    running: value("/sched/goroutines/running:goroutines"), runnable: value("/sched/goroutines/runnable:goroutines"),
    waiting: value("/sched/goroutines/waiting:goroutines"), notInGo: value("/sched/goroutines/not-in-go:goroutines"),
    liveHeapBytes: value("/gc/heap/live:bytes"), heapGoalBytes: value("/gc/heap/goal:bytes"), heapBytes: value("/memory/classes/heap/objects:bytes"),
    allocRate: rate("/gc/heap/allocs:bytes"),
    schedP50: orNone(value("/sched/latencies:seconds")), schedP99: orNone(p99("/sched/latencies:seconds")),
    pauseP50: orNone(value("/sched/pauses/total/gc:seconds")), pauseP99: orNone(p99("/sched/pauses/total/gc:seconds")),
    mutexWaitRate: rate("/sync/mutex/wait/total:seconds"),
    gcCpuShare: gc !== null && busy > 0 ? Math.min(1, gc / busy) : null,
    pools: s.pools,
  };
}
