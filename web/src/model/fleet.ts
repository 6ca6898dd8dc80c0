// The fleet as rows: merging what the stream says, filtering, grouping, sorting.
// Pure, so that 5,000 instances are a test and not a demonstration.
import { cpuShare, goVersionOf, memoryShare, serviceKey, versionOf, type Instance, type InstanceState } from "./instance";

export interface FleetChange {
  /** The complete list: forget every other instance. */
  reset: boolean;
  instances: Instance[];
  removedIds: string[];
}

/** Merges a change into fleet, in place. */
export function applyFleet(fleet: Map<string, Instance>, change: FleetChange): void {
  if (change.reset) fleet.clear();
  for (const i of change.instances) fleet.set(i.id, i);
  for (const id of change.removedIds) fleet.delete(id);
}

/** Tombstones older than this are shown only when asked for. */
export const recentlyGoneMs = 60 * 60 * 1000;

export const groupings = ["service", "project", "version", "go", "state", "none"] as const;
export type Grouping = (typeof groupings)[number];

export const sortKeys = ["name", "state", "version", "go", "cpu", "goroutines", "heap", "memory", "gc", "sched", "waiters"] as const;
export type SortKey = (typeof sortKeys)[number];

export interface FleetView {
  /** Words that must all occur in the id, address, service, version or a label ("zone=a"). */
  text: string;
  project: string;
  service: string;
  version: string;
  /** "" = up, suspect and recently gone. */
  state: InstanceState | "";
  group: Grouping;
  sort: SortKey;
  desc: boolean;
}

export const defaultView: FleetView = { text: "", project: "", service: "", version: "", state: "", group: "service", sort: "name", desc: false };

function haystack(i: Instance): string {
  const labels = Object.entries(i.labels).map(([k, v]) => `${k}=${v}`);
  return [i.id, i.address, i.project, i.service, versionOf(i), i.build?.goVersion ?? "", i.source, ...labels].join(" ").toLowerCase();
}

/** What of the fleet the view shows, in no particular order, and how many old tombstones it leaves out. */
export function filterFleet(all: Iterable<Instance>, v: FleetView, now: number): { shown: Instance[]; hiddenGone: number } {
  const words = v.text.toLowerCase().split(/\s+/).filter(Boolean);
  const shown: Instance[] = [];
  let hiddenGone = 0;
  for (const i of all) {
    if (v.project && i.project !== v.project) continue;
    if (v.service && i.service !== v.service) continue;
    if (v.version && versionOf(i) !== v.version) continue;
    if (v.state && i.state !== v.state) continue;
    if (words.length) {
      const h = haystack(i);
      if (!words.every((w) => h.includes(w))) continue;
    }
    if (!v.state && i.state === "gone" && now - i.stateSince > recentlyGoneMs) {
      hiddenGone++;
      continue;
    }
    shown.push(i);
  }
  return { shown, hiddenGone };
}

/** Counts by state of all that the view's other filters let through, old tombstones included. */
export function countStates(all: Iterable<Instance>, v: FleetView, now: number): Record<InstanceState, number> {
  const n = { up: 0, suspect: 0, gone: 0 };
  for (const state of ["up", "suspect", "gone"] as const) n[state] = filterFleet(all, { ...v, state }, now).shown.length;
  return n;
}

const stateOrder: Record<InstanceState, number> = { up: 0, suspect: 1, gone: 2 };

// What a column sorts by; null sorts last in either direction.
const sortValue: Record<SortKey, (i: Instance) => number | string | null> = {
  name: (i) => i.address || i.id,
  state: (i) => stateOrder[i.state],
  version: versionOf,
  go: goVersionOf,
  cpu: (i) => cpuShare(i.heartbeat),
  goroutines: (i) => i.heartbeat?.goroutines ?? null,
  heap: (i) => i.heartbeat?.liveHeapBytes ?? null,
  memory: (i) => memoryShare(i.heartbeat) ?? i.heartbeat?.rssBytes ?? null,
  gc: (i) => i.heartbeat?.gcCpuFraction ?? null,
  sched: (i) => i.heartbeat?.schedLatencyP99Seconds ?? null,
  waiters: (i) => i.heartbeat?.poolWaiters ?? null,
};

const collator = new Intl.Collator("en", { numeric: true });

function compare(a: number | string | null, b: number | string | null, desc: boolean): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  const d = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
  return desc ? -d : d;
}

/** Sorts in place; tombstones stay behind the living, and equals keep a fixed order. */
export function sortInstances(list: Instance[], key: SortKey, desc: boolean): Instance[] {
  const of = sortValue[key];
  const keyed = list.map((i) => ({ i, k: of(i), gone: i.state === "gone" ? 1 : 0 }));
  keyed.sort((a, b) => (key === "state" ? 0 : a.gone - b.gone) || compare(a.k, b.k, desc) || collator.compare(a.i.address, b.i.address) || (a.i.id < b.i.id ? -1 : 1));
  keyed.forEach((x, n) => (list[n] = x.i));
  return list;
}

/** What a group of instances adds up to. Gone instances count only as gone. */
export interface Totals {
  up: number;
  suspect: number;
  gone: number;
  cpuCores: number;
  cpuQuotaCores: number;
  goroutines: number;
  liveHeapBytes: number;
  rssBytes: number;
  /** Means and worst cases are over those with a heartbeat; null = nobody has one. */
  gcMean: number | null;
  schedMax: number | null;
  waiters: number;
}

export function totals(list: Instance[]): Totals {
  const t: Totals = { up: 0, suspect: 0, gone: 0, cpuCores: 0, cpuQuotaCores: 0, goroutines: 0, liveHeapBytes: 0, rssBytes: 0, gcMean: null, schedMax: null, waiters: 0 };
  let n = 0;
  let gc = 0;
  for (const i of list) {
    t[i.state]++;
    const h = i.heartbeat;
    if (i.state === "gone" || !h) continue;
    n++;
    gc += h.gcCpuFraction;
    t.cpuCores += h.cpuCores;
    t.cpuQuotaCores += h.cpuQuotaCores || h.gomaxprocs;
    t.goroutines += h.goroutines;
    t.liveHeapBytes += h.liveHeapBytes;
    t.rssBytes += h.rssBytes;
    t.waiters += Math.max(0, h.poolWaiters);
    t.schedMax = Math.max(t.schedMax ?? 0, h.schedLatencyP99Seconds);
  }
  if (n) t.gcMean = gc / n;
  return t;
}

export interface GroupRow {
  type: "group";
  /** Unique among groups, and stable. */
  id: string;
  /** Set where the group is a service: it can be captured as a whole. */
  project: string;
  service: string;
  title: string;
  open: boolean;
  members: Instance[];
  totals: Totals;
}

export interface InstanceRow {
  type: "instance";
  id: string;
  instance: Instance;
}

export type Row = GroupRow | InstanceRow;

const groupOf: Record<Exclude<Grouping, "none">, (i: Instance) => string> = {
  service: serviceKey,
  project: (i) => i.project,
  version: (i) => versionOf(i) || "?",
  go: (i) => goVersionOf(i) || "?",
  state: (i) => i.state,
};

/** The rows to show, group headers included; closed holds the ids of collapsed groups. */
export function rowsOf(shown: Instance[], v: Pick<FleetView, "group" | "sort" | "desc">, closed: ReadonlySet<string>): Row[] {
  if (v.group === "none") return sortInstances([...shown], v.sort, v.desc).map((i) => ({ type: "instance", id: i.id, instance: i }));
  const of = groupOf[v.group];
  const groups = new Map<string, Instance[]>();
  for (const i of shown) {
    const k = of(i);
    const g = groups.get(k);
    if (g) g.push(i);
    else groups.set(k, [i]);
  }
  const rows: Row[] = [];
  for (const key of [...groups.keys()].sort(collator.compare)) {
    const members = sortInstances(groups.get(key)!, v.sort, v.desc);
    const first = members[0]!;
    const open = !closed.has(key);
    rows.push({
      type: "group", id: key, open, members, totals: totals(members), title: key,
      project: v.group === "service" || v.group === "project" ? first.project : "",
      service: v.group === "service" ? first.service : "",
    });
    if (open) for (const i of members) rows.push({ type: "instance", id: i.id, instance: i });
  }
  return rows;
}

/** The distinct values that filters offer, in order. */
export function facets(all: Iterable<Instance>): { projects: string[]; services: { project: string; service: string }[]; versions: string[] } {
  const projects = new Set<string>();
  const services = new Map<string, { project: string; service: string }>();
  const versions = new Set<string>();
  for (const i of all) {
    projects.add(i.project);
    services.set(serviceKey(i), { project: i.project, service: i.service });
    const v = versionOf(i);
    if (v) versions.add(v);
  }
  return {
    projects: [...projects].sort(collator.compare),
    services: [...services.entries()].sort((a, b) => collator.compare(a[0], b[0])).map((e) => e[1]),
    versions: [...versions].sort(collator.compare),
  };
}

/** What a capture of these instances would be: one for each service, only what can be captured. */
export interface Scope {
  project: string;
  service: string;
  instances: Instance[];
}

export function scopesOf(list: Iterable<Instance>): Scope[] {
  const scopes = new Map<string, Scope>();
  for (const i of list) {
    if (i.state === "gone") continue;
    const k = serviceKey(i);
    const s = scopes.get(k);
    if (s) s.instances.push(i);
    else scopes.set(k, { project: i.project, service: i.service, instances: [i] });
  }
  return [...scopes.values()].sort((a, b) => collator.compare(serviceKey(a), serviceKey(b)));
}
