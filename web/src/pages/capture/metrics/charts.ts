// Which charts a window's runtime series make: those for which there are figures.
import type { Series } from "../../../components/TimeChart.vue";
import { bytes, cores, count, latency, percent } from "../../../model/format";
import { rate, type RuntimeSeries } from "../../../model/runtime";
import { t } from "./words";

/** A moment of the series: its place in every column. */
export interface Point {
  at: number;
  n: number;
}

export interface Chart {
  id: string;
  title: string;
  series: Series<Point>[];
  format: (v: number | null) => string;
  /** The scale reaches at least this high. */
  atLeast: number;
  binary: boolean;
}

export const pointsOf = (r: RuntimeSeries): Point[] => r.seconds.map((s, n) => ({ at: r.start + s * 1000, n }));

type Column = readonly (number | null)[] | undefined;
const tones = ["--c1", "--c3", "--c2"];

const perSecond = (v: number | null) => (v === null ? "–" : v < 9.95 ? v.toFixed(1) : count(v));

/** The agent's own rates are over the second before: the first point has none. */
const withoutFirst = (c: readonly number[] | undefined): Column => c?.map((v, n) => (n ? v : null));
const atLeastZero = (c: readonly number[] | undefined): Column => c?.map((v) => (v < 0 ? null : v));

export function chartsOf(r: RuntimeSeries): Chart[] {
  const col = (name: string): Column => r.columns.get(name);
  const per = (name: string): Column => rate(r.seconds, r.columns.get(name));
  const lines = (all: [label: string, c: Column][]): Series<Point>[] => all.filter(([, c]) => c).map(([label, c], n) => ({ label, tone: tones[n % tones.length]!, of: (p) => c![p.n] ?? null }));
  const limit = (label: string, v: number): Series<Point>[] => (v > 0 ? [{ label, tone: "--c-limit", limit: true, of: () => v }] : []);
  const chart = (id: string, title: string, format: Chart["format"], atLeast: number, all: [string, Column][], limits: Series<Point>[] = [], binary = false): Chart[] => {
    const series = lines(all);
    return series.length ? [{ id, title, format, atLeast, binary, series: [...series, ...limits] }] : [];
  };
  return [
    ...chart("cpu", t("cpu"), cores, 0.1, [[t("cpu.used"), withoutFirst(r.columns.get("ops/cpu:cores"))]], limit(t("cpu.limit"), r.cpuQuotaCores || r.gomaxprocs)),
    ...chart("goroutines", t("goroutines"), count, 10, [[t("goroutines.all"), col("/sched/goroutines:goroutines")], [t("goroutines.runnable"), col("/sched/goroutines/runnable:goroutines")], [t("goroutines.notInGo"), col("/sched/goroutines/not-in-go:goroutines")]]),
    ...chart("memory", t("memory"), bytes, 1 << 20, [[t("memory.live"), col("/gc/heap/live:bytes")], [t("memory.goal"), col("/gc/heap/goal:bytes")], [t("memory.rss"), col("ops/rss:bytes")]], limit(t("memory.limit"), r.memoryLimitBytes), true),
    ...chart("gc", t("gc"), perSecond, 1, [[t("gc"), per("/gc/cycles/total:gc-cycles")]]),
    ...chart("gc-cpu", t("gcCpu"), percent, 0.05, [[t("gcCpu"), withoutFirst(r.columns.get("ops/gc-cpu:share"))]]),
    ...chart("sched", t("sched"), latency, 0.0005, [[t("sched"), withoutFirst(r.columns.get("ops/sched-latency-p99:seconds"))]]),
    ...chart("mutex", t("mutex"), cores, 0.1, [[t("mutex"), withoutFirst(r.columns.get("ops/mutex-wait:seconds-per-second"))]]),
    ...chart("allocs", t("allocs"), bytes, 1 << 20, [[t("allocs"), per("/gc/heap/allocs:bytes")]], [], true),
    ...chart("created", t("created"), perSecond, 10, [[t("created"), per("/sched/goroutines-created:goroutines")]]),
    ...chart("threads", t("threads"), count, 10, [[t("threads"), col("ops/threads:threads")]]),
    ...(r.periods ? chart("throttled", t("throttled"), percent, 0.05, [[t("throttled"), withoutFirst(r.columns.get("ops/throttled:share"))]]) : []),
    ...r.pools.flatMap((p, n) => [
      ...chart(`pool-${n}`, t("pool", { name: p.name }), count, 2, [[t("pool.inUse"), p.columns.get("in_use")], [t("pool.idle"), p.columns.get("idle")], [t("waiters"), p.columns.get("waiting")?.some((v) => v >= 0) ? atLeastZero(p.columns.get("waiting")) : undefined]], limit(t("pool.max"), p.maxOpen)),
      ...chart(`waits-${n}`, t("pool.waits", { name: p.name }), perSecond, 1, [[t("pool.waits", { name: p.name }), rate(r.seconds, p.columns.get("wait_count"))]]),
    ]),
  ];
}
