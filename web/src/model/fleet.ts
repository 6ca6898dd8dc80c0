// The fleet as rows: merging what the stream says, filtering, grouping, sorting.
// Pure, so that 5,000 instances are a test and not a demonstration.
import { columnKeys } from "./columns";
import { conditionOf, conditions, weight, type Condition } from "./health";
import { cpuShare, goVersionOf, madeOf, memoryShare, serviceKey, unversioned, versionOf, type Health, type Heartbeat, type Instance } from "./instance";

export interface FleetChange {
  /** The complete list: forget every other instance. */
  reset: boolean;
  instances: Instance[];
  removedIds: string[];
  /** As the centre tells them. */
  beats?: Beat[];
  /** As a hub tells its pages. */
  packed?: PackedBeats;
}

/** A heartbeat of an instance that is known. */
export interface Beat {
  id: string;
  lastSeen: number;
  heartbeat: Heartbeat;
  health: Health | null;
}

/**
 * Heartbeats as columns: those of a whole fleet cross from the worker to the
 * page as two blocks of numbers.
 */
export interface PackedBeats {
  /** The slots of the instances. */
  slots: Uint32Array;
  /** For each slot a row: when it was last seen, then beatFields. */
  numbers: Float64Array;
  /** Those whose health is not simply fine, by their place in slots. */
  health: [at: number, health: Health | null][];
}

/** The instances by their slots; 0 is nobody's. */
export type Slots = (Instance | undefined)[];

/** What a row of numbers holds: when it was last seen, then its heartbeat. */
export const beatFields = [
  "at", "cpuCores", "goroutines", "goroutinesRunning", "goroutinesRunnable", "goroutinesWaiting", "goroutinesSyscall", "liveHeapBytes", "heapObjects", "rssBytes", "memoryLimitBytes",
  "gcCpuFraction", "gcCycles", "schedLatencyP99Seconds", "throttledFraction", "poolWaiters", "mutexWaitRate", "cpuQuotaCores", "gomaxprocs", "threads",
] as const satisfies readonly (keyof Heartbeat)[];
export const beatWidth = beatFields.length + 1;

/** Packs heartbeats for the way to the page; of who has no slot nothing is told. */
export function packBeats(fleet: ReadonlyMap<string, Instance>, beats: Beat[]): PackedBeats {
  const known = beats.filter((b) => fleet.get(b.id)?.slot);
  const out: PackedBeats = { slots: new Uint32Array(known.length), numbers: new Float64Array(known.length * beatWidth), health: [] };
  known.forEach((b, n) => {
    out.slots[n] = fleet.get(b.id)!.slot;
    out.numbers[n * beatWidth] = b.lastSeen;
    beatFields.forEach((f, k) => (out.numbers[n * beatWidth + 1 + k] = b.heartbeat[f]));
    if (b.health?.level !== "ok" || b.health.issues.length) out.health.push([n, b.health]);
  });
  return out;
}

const fine: Health = { level: "ok", issues: [] };

/**
 * A heartbeat where it came: a row of a block of numbers, so that the beats of a
 * fleet cost two writes each and not twenty. The next one takes its place: who
 * keeps a heartbeat copies it.
 */
class PackedBeat {
  constructor(public block: Float64Array, public row: number) {}
}
beatFields.forEach((f, k) => Object.defineProperty(PackedBeat.prototype, f, { get(this: PackedBeat) { return this.block[this.row + k]; } }));

/** A heartbeat that stays what it is. */
export const copyBeat = (h: Heartbeat): Heartbeat => Object.fromEntries(beatFields.map((f) => [f, h[f]])) as unknown as Heartbeat;

// Says whether anybody's condition is another one now.
function applyPacked(slots: Slots, b: PackedBeats): boolean {
  const judged = new Map(b.health);
  let changed = false;
  for (let n = 0; n < b.slots.length; n++) {
    const i = slots[b.slots[n]!];
    if (!i) continue;
    const at = n * beatWidth;
    const h = i.heartbeat;
    if (h instanceof PackedBeat) {
      h.block = b.numbers;
      h.row = at + 1;
    } else i.heartbeat = new PackedBeat(b.numbers, at + 1) as unknown as Heartbeat;
    i.lastSeen = b.numbers[at]!;
    const now = judged.get(n);
    const health = now === undefined ? fine : now;
    changed ||= i.health !== health && i.health?.level !== health?.level;
    i.health = health;
  }
  return changed;
}

/** Calls on for every instance that a change says something new of. */
export function eachChanged(fleet: ReadonlyMap<string, Instance>, slots: Slots, c: FleetChange, on: (i: Instance) => void): void {
  for (const i of c.instances) on(i);
  for (const b of c.beats ?? []) {
    const i = fleet.get(b.id);
    if (i) on(i);
  }
  for (const s of c.packed?.slots ?? []) {
    const i = slots[s];
    if (i) on(i);
  }
}

/**
 * Merges a change into fleet, in place, and into slots where instances have them.
 * Says whether anybody's condition may be another one now: while it is not, what
 * was filtered, grouped and counted by condition stays as it is.
 */
export function applyFleet(fleet: Map<string, Instance>, change: FleetChange, slots: Slots = []): boolean {
  let changed = changesNames(change);
  if (change.reset) {
    fleet.clear();
    slots.length = 0;
  }
  for (const i of change.instances) {
    fleet.set(i.id, i);
    if (i.slot) slots[i.slot] = i;
  }
  for (const b of change.beats ?? []) {
    const i = fleet.get(b.id);
    if (!i) continue;
    changed ||= i.health?.level !== b.health?.level;
    Object.assign(i, { lastSeen: b.lastSeen, heartbeat: b.heartbeat, health: b.health });
  }
  if (change.packed && applyPacked(slots, change.packed)) changed = true;
  for (const id of change.removedIds) {
    const i = fleet.get(id);
    if (i?.slot) slots[i.slot] = undefined;
    fleet.delete(id);
  }
  return changed;
}

/** Whether a change says more than heartbeats: who there is, and what they are called. */
export const changesNames = (c: FleetChange): boolean => c.reset || c.instances.length > 0 || c.removedIds.length > 0;

/** Tombstones older than this are shown only when asked for. */
export const recentlyGoneMs = 60 * 60 * 1000;

export const groupings = ["service", "project", "release", "version", "go", "state", "none"] as const;
export type Grouping = (typeof groupings)[number];

export const sortKeys = columnKeys;
export type SortKey = (typeof sortKeys)[number];

export interface FleetView {
  /** Words that must all occur in the id, address, service, version or a label ("zone=a"). */
  text: string;
  project: string;
  service: string;
  version: string;
  /** "" = the living and the recently gone; "trouble" = all that need somebody. */
  state: Condition | "trouble" | "";
  group: Grouping;
  sort: SortKey;
  desc: boolean;
}

export const defaultView: FleetView = { text: "", project: "", service: "", version: "", state: "", group: "service", sort: "name", desc: false };

// Heartbeats make new instances every second; their labels stay the same object as long as nothing else changes.
const haystacks = new WeakMap<object, string>();

function haystack(i: Instance): string {
  let h = haystacks.get(i.labels);
  if (h === undefined) haystacks.set(i.labels, (h = makeHaystack(i)));
  return h;
}

function makeHaystack(i: Instance): string {
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
    if (v.state && !isIn(conditionOf(i), v.state)) continue;
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

const isIn = (c: Condition, state: Condition | "trouble"): boolean => (state === "trouble" ? c === "critical" || c === "warning" || c === "suspect" : c === state);

/** Counts by condition of all that the view's other filters let through, old tombstones included. */
export function countStates(all: Iterable<Instance>, v: FleetView): Record<Condition, number> {
  const n: Record<Condition, number> = { critical: 0, warning: 0, suspect: 0, ok: 0, gone: 0 };
  // So early that no tombstone is old yet.
  for (const i of filterFleet(all, { ...v, state: "" }, -Infinity).shown) n[conditionOf(i)]++;
  return n;
}

// What a column sorts by; null sorts last in either direction.
const sortValue: Record<SortKey, (i: Instance) => number | string | null> = {
  name: (i) => i.address || i.id,
  state: (i) => weight[conditionOf(i)],
  version: versionOf,
  go: goVersionOf,
  uptime: (i) => (i.process?.startTime ? -i.process.startTime : null),
  throttled: (i) => i.heartbeat?.throttledFraction ?? null,
  mutex: (i) => i.heartbeat?.mutexWaitRate ?? null,
  threads: (i) => i.heartbeat?.threads ?? null,
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

/**
 * The place of every instance by name. Comparing names is what sorting a fleet
 * costs; they change seldom, so that this is worked out once for many sortings.
 */
export function nameRanks(all: Iterable<Instance>): Map<string, number> {
  const list = [...all].map((i) => ({ id: i.id, name: i.address || i.id }));
  list.sort((a, b) => collator.compare(a.name, b.name) || (a.id < b.id ? -1 : 1));
  return new Map(list.map((x, n) => [x.id, n]));
}

/** Sorts in place; tombstones stay behind the living, and equals keep a fixed order. */
export function sortInstances(list: Instance[], key: SortKey, desc: boolean, ranks: ReadonlyMap<string, number> = nameRanks(list)): Instance[] {
  const rank = (i: Instance) => ranks.get(i.id) ?? Infinity;
  if (movesWithBeats(key)) return sortByNumber(list, sortValue[key] as (i: Instance) => number | null, desc, rank);
  const of = key === "name" ? rank : sortValue[key];
  const keyed = list.map((i) => ({ i, k: of(i), r: rank(i), gone: i.state === "gone" ? 1 : 0 }));
  keyed.sort((a, b) => a.gone - b.gone || compare(a.k, b.k, desc) || a.r - b.r || 0);
  keyed.forEach((x, n) => (list[n] = x.i));
  return list;
}

// What changes with every heartbeat is sorted once a second: the keys are columns of numbers.
function sortByNumber(list: Instance[], of: (i: Instance) => number | null, desc: boolean, rank: (i: Instance) => number): Instance[] {
  const was = [...list];
  const keys = new Float64Array(was.length);
  const ranks = new Float64Array(was.length);
  was.forEach((i, n) => {
    const v = of(i);
    // Behind all numbers who is unknown, and behind these the dead by the same order.
    keys[n] = v === null || Number.isNaN(v) ? Infinity : desc ? -v : v;
    ranks[n] = rank(i);
  });
  const order = Uint32Array.from(keys, (_, n) => n).sort((a, b) => {
    const gone = Number(was[a]!.state === "gone") - Number(was[b]!.state === "gone");
    return gone || (keys[a] === keys[b] ? 0 : keys[a]! - keys[b]!) || ranks[a]! - ranks[b]! || 0;
  });
  order.forEach((from, n) => (list[n] = was[from]!));
  return list;
}

/** What a group of instances adds up to. Gone instances count only as gone. */
export interface Totals extends Record<Condition, number> {
  cpuCores: number;
  cpuQuotaCores: number;
  goroutines: number;
  liveHeapBytes: number;
  rssBytes: number;
  /** Means and worst cases are over those with a heartbeat; null = nobody has one. */
  gcMean: number | null;
  schedMax: number | null;
  waiters: number;
  mutexWaitRate: number;
}

export function totals(list: Instance[]): Totals {
  const t: Totals = { critical: 0, warning: 0, suspect: 0, ok: 0, gone: 0, mutexWaitRate: 0, cpuCores: 0, cpuQuotaCores: 0, goroutines: 0, liveHeapBytes: 0, rssBytes: 0, gcMean: null, schedMax: null, waiters: 0 };
  let n = 0;
  let gc = 0;
  for (const i of list) {
    t[conditionOf(i)]++;
    const h = i.heartbeat;
    if (i.state === "gone" || !h) continue;
    n++;
    gc += h.gcCpuFraction;
    t.cpuCores += h.cpuCores;
    t.cpuQuotaCores += h.cpuQuotaCores || h.gomaxprocs;
    t.goroutines += h.goroutines;
    t.liveHeapBytes += h.liveHeapBytes;
    t.rssBytes += h.rssBytes;
    t.mutexWaitRate += h.mutexWaitRate;
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
  /** Set where the group is one version of a service. */
  release: string;
  title: string;
  open: boolean;
  members: Instance[];
  /** How many of the living run which version, the most frequent first: more than one while something is rolled out. */
  versions: [version: string, n: number][];
}

function versionsOf(list: Instance[]): [string, number][] {
  const n = new Map<string, number>();
  for (const i of list) if (i.state !== "gone") n.set(versionOf(i), (n.get(versionOf(i)) ?? 0) + 1);
  n.delete("");
  return [...n].sort((a, b) => b[1] - a[1] || collator.compare(a[0], b[0]));
}

/** A build that instances run. */
export interface Release {
  /** "" = nobody says. */
  version: string;
  /** The VCS's, with a "+" where the work tree was changed. */
  revision: string;
  n: number;
  /** When the first of those that live was started; 0 = unknown. */
  since: number;
}

const revisionDigits = 10;

/** "v1.5 (3f2a1b9c0d)": the version, and as much of the revision as tells two apart. */
export function releaseName(r: Pick<Release, "version" | "revision">): string {
  const revision = r.revision.slice(0, revisionDigits) + (r.revision.length > revisionDigits && r.revision.endsWith("+") ? "+" : "");
  const version = madeOf(r.version, r.revision) ? "" : r.version;
  return version && revision ? `${version} (${revision})` : version || revision;
}

/** What the living of a list run, by version and revision, the most frequent first: more than one while something is rolled out. */
export function releasesOf(list: Instance[]): Release[] {
  const all = new Map<string, Release>();
  for (const i of list) {
    if (i.state === "gone") continue;
    const b = i.build;
    const version = b && b.moduleVersion !== unversioned ? b.moduleVersion : "";
    const revision = b?.vcsRevision ? b.vcsRevision + (b.vcsModified ? "+" : "") : "";
    const began = i.process?.startTime || i.joined;
    const r = all.get(`${version} ${revision}`);
    if (!r) all.set(`${version} ${revision}`, { version, revision, n: 1, since: began });
    else {
      r.n++;
      if (began && (!r.since || began < r.since)) r.since = began;
    }
  }
  return [...all.values()].sort((a, b) => b.n - a.n || collator.compare(releaseName(a), releaseName(b)));
}

/** The worst condition among the living of a group; "" = nobody lives. */
export const worstOf = (t: Totals): Condition | "" => conditions.find((c) => c !== "gone" && t[c] > 0) ?? "";
export const livingOf = (t: Totals): number => t.critical + t.warning + t.suspect + t.ok;

export interface InstanceRow {
  type: "instance";
  id: string;
  instance: Instance;
}

export type Row = GroupRow | InstanceRow;

const groupOf: Record<Exclude<Grouping, "none">, (i: Instance) => string> = {
  service: serviceKey,
  project: (i) => i.project,
  release: (i) => `${serviceKey(i)} ${versionOf(i) || "?"}`,
  version: (i) => versionOf(i) || "?",
  go: (i) => goVersionOf(i) || "?",
  state: conditionOf,
};

// The same instance is the same row, however often its neighbours change places.
const rowOf = new WeakMap<Instance, InstanceRow>();
function instanceRow(i: Instance): InstanceRow {
  let r = rowOf.get(i);
  if (!r) rowOf.set(i, (r = { type: "instance", id: i.id, instance: i }));
  return r;
}

/** Whether every heartbeat may change the order. */
export const movesWithBeats = (key: SortKey): boolean => !["name", "state", "version", "go", "uptime"].includes(key);

type Worth = (list: Instance[]) => number | null;
const alive = (list: Instance[]): Heartbeat[] => list.flatMap((i) => (i.state !== "gone" && i.heartbeat ? [i.heartbeat] : []));
const sumOf = (of: (h: Heartbeat) => number): Worth => (list) => (alive(list).length ? alive(list).reduce((sum, h) => sum + of(h), 0) : null);
const mostOf = (of: (h: Heartbeat) => number | null): Worth => (list) => alive(list).reduce<number | null>((most, h) => (of(h) === null ? most : Math.max(most ?? 0, of(h)!)), null);

// By what a column sorts groups: what their rows show. Names sort them by name.
const groupWorth: Partial<Record<SortKey, Worth>> = {
  state: (list) => (list.length ? Math.max(...list.map((i) => weight[conditionOf(i)])) : null),
  throttled: mostOf((h) => h.throttledFraction),
  mutex: sumOf((h) => h.mutexWaitRate),
  threads: sumOf((h) => h.threads),
  cpu: mostOf(cpuShare),
  goroutines: sumOf((h) => h.goroutines),
  heap: sumOf((h) => h.liveHeapBytes),
  memory: sumOf((h) => h.rssBytes),
  gc: mostOf((h) => h.gcCpuFraction),
  sched: mostOf((h) => h.schedLatencyP99Seconds),
  waiters: sumOf((h) => Math.max(0, h.poolWaiters)),
};

const conditionOrder = new Map<string, number>(conditions.map((c, n) => [c, n]));

/** The rows to show, group headers included; closed holds the ids of collapsed groups. */
export function rowsOf(shown: Instance[], v: Pick<FleetView, "group" | "sort" | "desc">, closed: ReadonlySet<string>, ranks?: ReadonlyMap<string, number>): Row[] {
  if (v.group === "none") return sortInstances([...shown], v.sort, v.desc, ranks).map(instanceRow);
  const of = groupOf[v.group];
  const groups = new Map<string, Instance[]>();
  for (const i of shown) {
    const k = of(i);
    const g = groups.get(k);
    if (g) g.push(i);
    else groups.set(k, [i]);
  }
  const rows: Row[] = [];
  // A group has the place of what it is sorted by: its own sum, or the worst of it.
  const worth = groupWorth[v.sort];
  const keys = worth && new Map([...groups].map(([key, list]) => [key, worth(list)]));
  const byName = v.group === "state" ? (a: string, b: string) => conditionOrder.get(a)! - conditionOrder.get(b)! : collator.compare;
  const order = keys ? (a: string, b: string) => compare(keys.get(a)!, keys.get(b)!, v.desc) || byName(a, b) : byName;
  for (const key of [...groups.keys()].sort(order)) {
    const members = sortInstances(groups.get(key)!, v.sort, v.desc, ranks);
    const first = members[0]!;
    const open = !closed.has(key);
    let versions: GroupRow["versions"] | undefined;
    rows.push({
      type: "group", id: key, open, members, get versions() { return (versions ??= versionsOf(members)); }, title: v.group === "release" ? versionOf(first) || "?" : key,
      project: v.group === "service" || v.group === "project" || v.group === "release" ? first.project : "",
      service: v.group === "service" || v.group === "release" ? first.service : "",
      release: v.group === "release" ? versionOf(first) || "?" : "",
    });
    if (open) for (const i of members) rows.push(instanceRow(i));
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
