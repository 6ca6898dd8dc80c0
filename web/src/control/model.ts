// Controls as the page thinks of them: what an argument may look like, what
// holds where, how far a run is. Nothing here knows the page or the wire.
import { bytes, latency } from "../model/format";
import { clean, one, type Query } from "../model/url";

export interface Param {
  name: string;
  description: string;
  /** string, int, float, bool, duration, size or enum. */
  type: string;
  required: boolean;
  defaultValue: string;
  min: string;
  max: string;
  choices: string[];
  secret: boolean;
}

/** What holds on one instance. */
export interface ControlState {
  instance: string;
  value: string;
  /** What a control set, and what was there before any did; both empty = none did. */
  setTo: string;
  original: string;
  /** In ms; 0 = it does not go back by itself. */
  revertsAt: number;
  /** Why it cannot be used there; empty = it can. */
  unavailable: string;
}

export interface Control {
  name: string;
  description: string;
  builtin: boolean;
  mutating: boolean;
  params: Param[];
  effect: string;
  undo: string;
  setting: boolean;
  dryRun: boolean;
  on: ControlState[];
  differs: boolean;
}

export interface Target {
  instance: string;
  address: string;
  state: string;
  /** Why it cannot take part; empty = it can. */
  problem: string;
}

export interface Listing {
  project: string;
  service: string;
  targets: Target[];
  controls: Control[];
}

/** Why an argument cannot be right; empty = it can. */
export type ArgProblem = "" | "missing" | "int" | "float" | "bool" | "duration" | "size" | "enum" | "range" | "long";

const durationUnits: Record<string, number> = { ns: 1e-9, us: 1e-6, µs: 1e-6, μs: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600 };

/** Seconds of a duration as Go writes it, "1m30s"; null = it is none. */
export function parseDuration(text: string): number | null {
  const m = /^([-+]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)$/.exec(text);
  if (!m) return null;
  let sum = 0;
  for (const [, n, unit] of m[2]!.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) sum += Number(n) * durationUnits[unit!]!;
  return m[1] === "-" ? -sum : sum;
}

const sizeUnits: Record<string, number> = { "": 1, b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 };

/** Bytes of a size such as "512MiB"; null = it is none. */
export function parseSize(text: string): number | null {
  const m = /^(\d+\.?\d*|\.\d+)\s*([a-z]*)$/i.exec(text.trim());
  const unit = m && sizeUnits[m[2]!.toLowerCase()];
  return m && unit ? Math.floor(Number(m[1]) * unit) : null;
}

const readers: Record<string, (text: string) => bigint | number | null> = {
  int: (s) => (/^[-+]?\d+$/.test(s) ? BigInt(s.replace("+", "")) : null),
  float: (s) => (s.trim() !== "" && Number.isFinite(Number(s)) ? Number(s) : null),
  duration: parseDuration,
  size: parseSize,
};

const longest = 4096;

/** Judges an argument as the instance will, so that a slip shows while one types. Empty is what was not given. */
export function checkArg(p: Param, text: string): ArgProblem {
  if (text === "") return p.required ? "missing" : "";
  if (new TextEncoder().encode(text).length > longest) return "long";
  if (p.choices.includes(text)) return "";
  if (p.type === "enum") return "enum";
  if (p.type === "bool") return text === "true" || text === "false" ? "" : "bool";
  const read = readers[p.type];
  if (!read) return "";
  const v = read(text);
  if (v === null) return p.type as ArgProblem;
  const low = p.min ? read(p.min) : null;
  const high = p.max ? read(p.max) : null;
  return (low !== null && v < low) || (high !== null && v > high) ? "range" : "";
}

/** The arguments as they are sent: what is empty was not given. */
export const argsOf = (params: readonly Param[], values: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(params.flatMap((p) => (values[p.name] ? [[p.name, values[p.name]!] as const] : [])));

/** "10 – 100000, off": what fits. */
export function rangeText(p: Param): string {
  const words = p.type === "enum" ? [] : p.choices;
  const span = p.min && p.max ? `${p.min} – ${p.max}` : p.min ? `≥ ${p.min}` : p.max ? `≤ ${p.max}` : "";
  return [span, ...words].filter(Boolean).join(", ");
}

export const isChanged = (s: ControlState): boolean => s.setTo !== "" || s.original !== "";

/** Seconds until it goes back, for a clock: "4:59", "1:04:59"; the instance's clock may be a little ahead. */
export function countdown(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  const h = Math.floor(s / 3600);
  return h ? `${h}:${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
}

/** The values of a control over its instances, the commonest first: [["100", 11], ["50", 1]]. */
export function valuesOf(c: Control, among?: ReadonlySet<string>): [value: string, n: number][] {
  const n = new Map<string, number>();
  for (const s of c.on) if (!s.unavailable && s.value && (!among || among.has(s.instance))) n.set(s.value, (n.get(s.value) ?? 0) + 1);
  return [...n].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

/** "100", or "100 ×11, 50" where they differ. */
export function valuesText(values: readonly [string, number][]): string {
  return values.length === 1 ? values[0]![0] : values.map(([v, n]) => (n > 1 ? `${v} ×${n}` : v)).join(", ");
}

/** When the next of these goes back by itself; 0 = none does. */
export const nextRevert = (controls: readonly Control[]): number => controls.flatMap((c) => c.on).reduce((first, s) => (s.revertsAt && (!first || s.revertsAt < first) ? s.revertsAt : first), 0);

export const groups = ["own", "settings", "actions", "looks"] as const;
export type Group = (typeof groups)[number];

/** The service's own first: they are why one comes. */
export const groupOf = (c: Control): Group => (!c.builtin ? "own" : !c.mutating ? "looks" : c.params.length ? "settings" : "actions");

export const grouped = (controls: readonly Control[]): [Group, Control[]][] => groups.map((g): [Group, Control[]] => [g, controls.filter((c) => groupOf(c) === g)]).filter(([, of]) => of.length > 0);

/** How long a changed setting stays; "" = until the process ends. */
export const ttls = ["5m", "1h", ""] as const;
export type Ttl = (typeof ttls)[number];
export const ttlSeconds: Record<Ttl, number> = { "5m": 300, "1h": 3600, "": 0 };

/** A number typed into a rollout's field, or null when it cannot be. */
export function wholeWithin(text: string, most: number): number | null {
  if (text.trim() === "") return 0;
  const n = Number(text);
  return Number.isInteger(n) && n >= 0 && n <= most ? n : null;
}

/** "1 → 5 → 5": the sizes of the batches; many are told by their number. */
export function wavesText(sizes: readonly number[]): string {
  return sizes.length <= 8 ? sizes.join(" → ") : `${sizes.slice(0, 4).join(" → ")} → … → ${sizes.at(-1)}`;
}

/** How it went, or goes, on one instance. */
export interface Result {
  instance: string;
  /** ok, failed, skipped, unknown; "" = its turn has not ended. */
  result: string;
  message: string;
  answer: string;
  before: string;
  after: string;
  revertsAt: number;
  seconds: number;
}

export interface Finished {
  /** ok, partial, failed, cancelled or unknown. */
  result: string;
  message: string;
  unrecorded: string;
}

export interface Run {
  audit: string;
  waves: number;
  replayed: boolean;
  results: Map<string, Result>;
  finished: Finished | null;
}

export type RunEvent =
  | { kind: "started"; audit: string; instances: string[]; waves: number; replayed: boolean }
  | { kind: "result"; result: Result }
  | ({ kind: "finished" } & Finished);

export const blankResult = (instance: string): Result => ({ instance, result: "", message: "", answer: "", before: "", after: "", revertsAt: 0, seconds: 0 });

/** The run with one more thing that happened in it. */
export function step(run: Run | null, e: RunEvent): Run {
  if (e.kind === "started") return { audit: e.audit, waves: e.waves, replayed: e.replayed, results: new Map(e.instances.map((i) => [i, blankResult(i)])), finished: null };
  const r = run ?? { audit: "", waves: 0, replayed: false, results: new Map<string, Result>(), finished: null };
  if (e.kind === "result") return { ...r, results: new Map(r.results).set(e.result.instance, e.result) };
  return { ...r, finished: { result: e.result, message: e.message, unrecorded: e.unrecorded } };
}

/** The run as the record tells it, for somebody who stopped listening: what the record does not name did not begin. */
export function settle(run: Run, entry: { result: string; message: string; steps: readonly { instance: string; result: string; message: string }[] }): Run {
  const told = new Map(entry.steps.map((s) => [s.instance, s]));
  const results = new Map([...run.results].map(([id, r]) => {
    const s = told.get(id);
    return [id, r.result ? r : { ...r, result: s?.result ?? "skipped", message: s?.message ?? "" }] as const;
  }));
  return { ...run, results, finished: { result: entry.result, message: entry.message, unrecorded: "" } };
}

export const doneOf = (run: Run): number => [...run.results.values()].filter((r) => r.result).length;

export type Tone = "good" | "bad" | "warn" | "accent" | "";

/** What a result looks like: unknown is the one that somebody has to look into. */
export const toneOf = (result: string): Tone => (({ ok: "good", failed: "bad", unknown: "bad", partial: "warn", refused: "warn", running: "accent" }) as Record<string, Tone>)[result] ?? "";

/** An answer as names and values where it is that simple; null = show the JSON. Numbers whose name tells their unit are written for people. */
export function factsOf(answer: string): [name: string, value: string, mono: boolean][] | null {
  let v: unknown;
  try {
    v = JSON.parse(answer);
  } catch {
    return null;
  }
  if (typeof v !== "object" || v === null || Array.isArray(v)) return null;
  const out: [string, string, boolean][] = [];
  for (const [k, x] of Object.entries(v)) {
    if (typeof x === "object" && x !== null) return null;
    const unit = typeof x === "number" ? /^(.*)_(bytes|seconds)$/.exec(k) : null;
    if (unit) out.push([unit[1]!.replaceAll("_", " "), unit[2] === "bytes" ? bytes(x as number) : latency(x as number), false]);
    else out.push([k, String(x), true]);
  }
  return out.length ? out : null;
}

export function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

/** What is in the address: which control, of whom. */
export interface ControlView {
  /** "project/service". */
  service: string;
  /** Empty = all of the service. */
  instances: string[];
  control: string;
}

export const parseView = (q: Query): ControlView => ({
  service: one(q, "service"),
  instances: one(q, "on").split(",").filter((s) => /^[0-9a-z-]{4,40}$/.test(s)),
  control: one(q, "control"),
});

export const formatView = (v: ControlView): Record<string, string> => clean({ service: v.service, on: v.instances.join(","), control: v.control });

/** "project/service" in two: a service's name has no slash. */
export const splitService = (key: string): { project: string; service: string } => ({ project: key.slice(0, Math.max(0, key.lastIndexOf("/"))), service: key.slice(key.lastIndexOf("/") + 1) });
