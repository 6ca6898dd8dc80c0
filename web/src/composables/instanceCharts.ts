// The charts of an instance: of its heartbeats, and of every metric while one looks.
import { computed, type Ref } from "vue";
import type { Chart, Series } from "../components/TimeChart.vue";
import { t } from "../components/capture/words";
import { bytes, cores, count, latency, percent } from "../model/format";
import type { Heartbeat, Threshold } from "../model/instance";
import type { LivePoint } from "../model/live";
import { t as f } from "../pages/fleet/words";
import { t as own } from "../pages/instance/words";

export function useInstanceCharts(points: Readonly<Ref<Heartbeat[]>>, live: Readonly<Ref<LivePoint[]>>, thresholds: Readonly<Ref<Threshold[]>>) {
  /** The line from which on a check warns, if there is one. */
  function warning<P>(check: string, of: (t: number, p: P) => number | null): Series<P>[] {
    const th = thresholds.value.find((x) => x.check === check);
    return th && !th.off && th.warning > 0 ? [{ label: own("threshold"), tone: "--c-limit", threshold: true, of: (p) => of(th.warning, p) }] : [];
  }

  const charts = computed<Chart<Heartbeat>[]>(() => [
    { title: t("chart.cpu"), format: cores, atLeast: 0.1, series: [
      { label: t("chart.cpu.used"), tone: "--c1", of: (h) => h.cpuCores },
      { label: points.value.some((h) => h.cpuQuotaCores) ? t("chart.cpu.quota") : "GOMAXPROCS", tone: "--c-limit", limit: true, of: (h) => h.cpuQuotaCores || h.gomaxprocs || null },
      ...warning<Heartbeat>("cpu", (v, h) => v * (h.cpuQuotaCores || h.gomaxprocs) || null),
    ] },
    { title: own("chart.states"), format: count, atLeast: 10, series: [
      { label: t("chart.goroutines.total"), tone: "--c1", of: (h) => h.goroutines },
      { label: own("state.waiting"), tone: "--x-network", of: (h) => h.goroutinesWaiting },
      { label: own("state.runnable"), tone: "--x-runnable", of: (h) => h.goroutinesRunnable },
      { label: own("state.running"), tone: "--x-running", of: (h) => h.goroutinesRunning },
      { label: own("state.syscall"), tone: "--x-syscall", of: (h) => h.goroutinesSyscall },
    ] },
    { title: t("chart.memory"), ...(points.value.some((h) => h.rssBytes > 0 && h.liveHeapBytes > h.rssBytes) ? { hint: f("col.heap.what") } : {}), format: bytes, binary: true, atLeast: 1 << 20, series: [
      { label: t("chart.memory.rss"), tone: "--c1", of: (h) => h.rssBytes },
      { label: t("chart.memory.heap"), tone: "--c3", of: (h) => h.liveHeapBytes },
      ...(points.value.some((h) => h.memoryLimitBytes)
        ? [{ label: t("chart.memory.limit"), tone: "--c-limit", limit: true, of: (h: Heartbeat) => h.memoryLimitBytes || null }, ...warning<Heartbeat>("memory", (v, h) => v * h.memoryLimitBytes || null)]
        : []),
    ] },
    { title: t("chart.gc"), format: percent, atLeast: 0.05, series: [{ label: t("chart.gc"), tone: "--c1", of: (h) => h.gcCpuFraction }] },
    { title: t("chart.sched"), format: latency, atLeast: 0.0005, series: [{ label: t("chart.sched"), tone: "--c1", of: (h) => h.schedLatencyP99Seconds }, ...warning<Heartbeat>("sched-latency", (v) => v)] },
    { title: t("chart.waiters"), format: count, atLeast: 5, series: [{ label: t("chart.waiters"), tone: "--c1", of: (h) => h.poolWaiters }, ...warning<Heartbeat>("pool-waiters", (v) => v)] },
    { title: t("chart.throttled"), format: percent, atLeast: 0.05, series: [{ label: t("chart.throttled"), tone: "--c1", of: (h) => h.throttledFraction }, ...warning<Heartbeat>("throttled", (v) => v)] },
    { title: `${t("chart.mutex")} (${t("chart.mutex.unit")})`, format: cores, atLeast: 0.1, series: [{ label: t("chart.mutex"), tone: "--c1", of: (h) => h.mutexWaitRate }, ...warning<Heartbeat>("mutex-wait", (v) => v)] },
  ]);

  const liveCharts = computed<Chart<LivePoint>[]>(() => [
    { title: own("chart.states"), format: count, atLeast: 10, series: [
      { label: own("state.waiting"), tone: "--x-network", of: (p) => p.waiting },
      { label: own("state.runnable"), tone: "--x-runnable", of: (p) => p.runnable },
      { label: own("state.running"), tone: "--x-running", of: (p) => p.running },
      { label: own("state.syscall"), tone: "--x-syscall", of: (p) => p.notInGo },
    ] },
    { title: own("chart.sched"), format: latency, atLeast: 0.0005, series: [
      { label: own("p99"), tone: "--c1", of: (p) => p.schedP99 },
      { label: own("p50"), tone: "--c3", of: (p) => p.schedP50 },
      ...warning<LivePoint>("sched-latency", (v) => v),
    ] },
    { title: own("chart.heap"), format: bytes, binary: true, atLeast: 1 << 20, series: [
      { label: own("heap.now"), tone: "--c1", of: (p) => p.heapBytes },
      { label: own("heap.live"), tone: "--c3", of: (p) => p.liveHeapBytes },
      { label: own("heap.goal"), tone: "--c-limit", limit: true, of: (p) => p.heapGoalBytes },
    ] },
    { title: own("chart.alloc"), format: bytes, binary: true, atLeast: 1 << 16, series: [{ label: own("chart.alloc"), tone: "--c1", of: (p) => p.allocRate }] },
    { title: own("chart.pauses"), format: latency, atLeast: 0.0001, series: [{ label: own("p99"), tone: "--c1", dots: true, of: (p) => p.pauseP99 }, { label: own("p50"), tone: "--c3", dots: true, of: (p) => p.pauseP50 }] },
    { title: t("chart.gc"), format: percent, atLeast: 0.05, series: [{ label: t("chart.gc"), tone: "--c1", dots: true, of: (p) => p.gcCpuShare }] },
    { title: `${t("chart.mutex")} (${t("chart.mutex.unit")})`, format: cores, atLeast: 0.1, series: [{ label: t("chart.mutex"), tone: "--c1", of: (p) => p.mutexWaitRate }] },
    ...poolCharts(live.value),
  ]);
  return { charts, liveCharts };
}

/** Each pool the process speaks of has a chart; what does not say how many wait has no such line. */
function poolCharts(points: LivePoint[]): Chart<LivePoint>[] {
  return (points.at(-1)?.pools ?? []).map((pool) => {
    const of = (p: LivePoint) => p.pools.find((x) => x.name === pool.name && x.remote === pool.remote);
    return {
      title: own("chart.pool", { name: pool.name }), format: count, atLeast: 4,
      series: [
        { label: own("pool.inUse"), tone: "--c1", of: (p: LivePoint) => of(p)?.inUse ?? null },
        ...(pool.waiting >= 0 ? [{ label: own("pool.waiting"), tone: "--c2", of: (p: LivePoint) => of(p)?.waiting ?? null }] : []),
        ...(pool.maxOpen > 0 ? [{ label: own("pool.max"), tone: "--c-limit", limit: true, of: (p: LivePoint) => of(p)?.maxOpen || null }] : []),
      ],
    };
  });
}
