// How a process did during a window: the document is
// docs/formats/runtime.schema.json. Whatever is not of the right type is taken as
// missing; what is missing is not known, which is not zero.

export interface Histogram {
  counts: number[];
  /** One more than counts; null = infinite. */
  bounds: (number | null)[];
}

export interface RuntimePool {
  name: string;
  kind: string;
  remote: string;
  /** 0 = no limit. */
  maxOpen: number;
  columns: Map<string, number[]>;
}

export interface RuntimeSeries {
  /** It has no series: the head that a process which died leaves behind. */
  head: boolean;
  /** Milliseconds; 0 = unknown. */
  start: number;
  durationSeconds: number;
  gomaxprocs: number;
  memoryLimitBytes: number;
  cpuQuotaCores: number;
  periods: number;
  throttledPeriods: number;
  throttledSeconds: number;
  memoryBytes: number;
  /** Since start. */
  seconds: number[];
  columns: Map<string, number[]>;
  histograms: Map<string, Histogram>;
  pools: RuntimePool[];
  /** Of an agentless instance: figures at the window's ends. */
  before: Map<string, number>;
  after: Map<string, number>;
}

type Fields = Record<string, unknown>;
const fields = (v: unknown): Fields => (v !== null && typeof v === "object" && !Array.isArray(v) ? (v as Fields) : {});
const num = (v: unknown): number => (typeof v === "number" && Number.isFinite(v) ? v : 0);
const text = (v: unknown): string => (typeof v === "string" ? v : "");
const numbers = (v: unknown): number[] => (Array.isArray(v) && v.every((x) => typeof x === "number" && Number.isFinite(x)) ? (v as number[]) : []);

function columnsOf(v: unknown, length: number): Map<string, number[]> {
  return new Map(Object.entries(fields(v)).flatMap(([name, c]) => (numbers(c).length === length && length ? [[name, numbers(c)] as const] : [])));
}
const figures = (v: unknown): Map<string, number> => new Map(Object.entries(fields(v)).flatMap(([name, x]) => (typeof x === "number" && Number.isFinite(x) ? [[name, x] as const] : [])));

function histogram(v: unknown): Histogram[] {
  const f = fields(v);
  const counts = numbers(f["counts"]);
  const bounds = Array.isArray(f["buckets"]) ? f["buckets"].map((b) => (typeof b === "number" && Number.isFinite(b) ? b : null)) : [];
  return counts.length && bounds.length === counts.length + 1 ? [{ counts, bounds }] : [];
}

/** Reads a runtime.json; throws a sentence for people. */
export function parseRuntime(json: string): RuntimeSeries {
  let f: Fields;
  try {
    f = fields(JSON.parse(json));
  } catch {
    throw new Error("the runtime metrics are not JSON: reload the page, and if that does not help, look at the centre's log");
  }
  if (f["schema"] !== "opscenter.runtime/v1") throw new Error(`the runtime metrics are of a format that this page does not know (${text(f["schema"]) || "none"}): reload the page`);
  const [w, p, c, s, m] = [fields(f["window"]), fields(f["process"]), fields(f["cgroup"]), fields(f["series"]), fields(f["memory"])];
  const seconds = numbers(s["seconds"]);
  const start = Date.parse(text(w["start"]));
  return {
    head: w["phase"] === "before", start: Number.isFinite(start) && start > 0 ? start : 0, durationSeconds: num(w["seconds"]),
    gomaxprocs: num(p["gomaxprocs"]), memoryLimitBytes: num(c["memory_limit_bytes"]), cpuQuotaCores: num(c["cpu_quota_cores"]),
    periods: num(c["periods"]), throttledPeriods: num(c["throttled_periods"]), throttledSeconds: num(c["throttled_seconds"]), memoryBytes: num(c["memory_bytes"]),
    seconds, columns: columnsOf(s["columns"], seconds.length),
    histograms: new Map(Object.entries(fields(f["histograms"])).flatMap(([name, h]) => histogram(h).map((x) => [name, x] as const))),
    pools: (Array.isArray(f["pools"]) ? f["pools"] : []).map(fields).map((x) => ({ name: text(x["name"]), kind: text(x["kind"]), remote: text(x["remote"]), maxOpen: num(x["max_open"]), columns: columnsOf(x["columns"], seconds.length) })),
    before: figures(m["before"]), after: figures(m["after"]),
  };
}

/** A column of totals as a rate per second; null where it is not known, at the first point always. */
export function rate(seconds: readonly number[], totals: readonly number[] | undefined): (number | null)[] | undefined {
  return totals?.map((v, n) => {
    const by = n ? seconds[n]! - seconds[n - 1]! : 0;
    return by > 0 && v >= totals[n - 1]! ? (v - totals[n - 1]!) / by : null;
  });
}

/** What a total gained over the window: by its series, else by the figures at the ends; null = not known. */
export function gain(r: RuntimeSeries, name: string): number | null {
  const c = r.columns.get(name);
  if (c?.length) return c.at(-1)! - c[0]!;
  const [a, b] = [r.before.get(name), r.after.get(name)];
  return a === undefined || b === undefined ? null : b - a;
}

/** The upper bound of the bucket that holds the q-th part, as the rules take it; null = nothing was counted. */
export function quantile(h: Histogram | undefined, q: number): number | null {
  const total = h?.counts.reduce((a, b) => a + b, 0) ?? 0;
  if (!h || !total) return null;
  const need = Math.ceil(q * total);
  let sum = 0;
  for (const [n, c] of h.counts.entries()) {
    sum += c;
    if (sum >= need && c > 0) return h.bounds[n + 1] ?? h.bounds[n] ?? 0;
  }
  return null;
}

/** How many times it happened. */
export const times = (h: Histogram | undefined): number => h?.counts.reduce((a, b) => a + b, 0) ?? 0;

export const cpuClasses = ["user", "assist", "background", "pause", "scavenge", "idle"] as const;
export type CpuClass = (typeof cpuClasses)[number];

const classNames: Record<CpuClass, string[]> = {
  user: ["/cpu/classes/user:cpu-seconds"], assist: ["/cpu/classes/gc/mark/assist:cpu-seconds"],
  background: ["/cpu/classes/gc/mark/dedicated:cpu-seconds", "/cpu/classes/gc/mark/idle:cpu-seconds"], pause: ["/cpu/classes/gc/pause:cpu-seconds"],
  scavenge: ["/cpu/classes/scavenge/total:cpu-seconds"], idle: ["/cpu/classes/idle:cpu-seconds"],
};

/** Where the processors' time went, by Go's own account, which it brings up to date at the end of each collection. */
export function classesOf(r: RuntimeSeries): { name: CpuClass; seconds: number; share: number }[] {
  const all = cpuClasses.flatMap((name) => {
    const parts = classNames[name].map((m) => gain(r, m));
    return parts.every((x) => x === null) ? [] : [{ name, seconds: parts.reduce<number>((a, b) => a + Math.max(0, b ?? 0), 0) }];
  });
  const total = all.reduce((a, b) => a + b.seconds, 0);
  return total > 0 ? all.map((c) => ({ ...c, share: c.seconds / total })) : [];
}
