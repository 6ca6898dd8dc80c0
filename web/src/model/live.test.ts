import { expect, test } from "vitest";
import type { MetricsSample } from "./instance";
import { livePoint } from "./live";

/** "name=value name=median/p99" at a second. */
const sample = (second: number, text: string): MetricsSample => ({
  instanceId: "i", at: second * 1000, pools: [],
  values: Object.fromEntries(text.split(" ").filter(Boolean).map((pair) => {
    const [name = "", numbers = ""] = pair.split("=");
    const [value = "", p99 = value] = numbers.split("/");
    return [full[name]!, { value: Number(value), p99: Number(p99) }];
  })),
});
const full: Record<string, string> = {
  alloc: "/gc/heap/allocs:bytes", sched: "/sched/latencies:seconds", pause: "/sched/pauses/total/gc:seconds", mutex: "/sync/mutex/wait/total:seconds",
  cpu: "/cpu/classes/total:cpu-seconds", idle: "/cpu/classes/idle:cpu-seconds", gc: "/cpu/classes/gc/total:cpu-seconds", runnable: "/sched/goroutines/runnable:goroutines",
};

test("counters become rates over the time that passed", () => {
  const p = livePoint(sample(12, "alloc=5000 mutex=3 cpu=8 idle=4 gc=1 runnable=7"), sample(10, "alloc=1000 mutex=2 cpu=0 idle=0 gc=0"));
  expect(p).toMatchObject({ at: 12_000, allocRate: 2000, mutexWaitRate: 0.5, gcCpuShare: 0.25, runnable: 7 });
});

test("percentiles are of the second; one without events has none", () => {
  expect(livePoint(sample(1, "sched=0.0001/0.002 pause=0/0"), null)).toMatchObject({ schedP50: 0.0001, schedP99: 0.002, pauseP50: null, pauseP99: null });
});

test("what is not told, or began anew, is no number", () => {
  expect(livePoint(sample(1, ""), sample(0, "alloc=9"))).toMatchObject({ allocRate: null, liveHeapBytes: null, gcCpuShare: null });
  expect(livePoint(sample(1, "alloc=1"), sample(0, "alloc=9")).allocRate).toBeNull();
  expect(livePoint(sample(1, "alloc=1"), sample(1, "alloc=1")).allocRate).toBeNull();
  expect(livePoint(sample(1, "cpu=4 idle=4 gc=0"), sample(0, "cpu=0 idle=0 gc=0")).gcCpuShare).toBeNull();
});
