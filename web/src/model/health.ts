// When a number of a heartbeat deserves a colour. One table, so that the fleet,
// the instance page and its charts never disagree.
import { cpuShare, memoryShare, type Heartbeat } from "./instance";

export type Level = "" | "warn" | "bad";

const thresholds = {
  cpu: [0.75, 0.9],
  memory: [0.8, 0.92],
  gc: [0.1, 0.25],
  sched: [0.001, 0.01],
  throttled: [0.01, 0.1],
  waiters: [1, 10],
} as const satisfies Record<string, readonly [number, number]>;

export type Vital = keyof typeof thresholds;

export function level(vital: Vital, value: number | null): Level {
  if (value === null || Number.isNaN(value)) return "";
  const [warn, bad] = thresholds[vital];
  return value >= bad ? "bad" : value >= warn ? "warn" : "";
}

// Below this share of its CPU a process does so little that the collector's part of it says nothing.
const idleCpu = 0.05;

/** The numbers of a heartbeat that thresholds apply to; null = unknown, or meaningless. */
export function vitals(h: Heartbeat | null): Record<Vital, number | null> {
  return {
    cpu: cpuShare(h),
    memory: memoryShare(h),
    gc: h && (cpuShare(h) ?? 1) >= idleCpu ? h.gcCpuFraction : null,
    sched: h ? h.schedLatencyP99Seconds : null,
    throttled: h ? h.throttledFraction : null,
    waiters: h ? h.poolWaiters : null,
  };
}
