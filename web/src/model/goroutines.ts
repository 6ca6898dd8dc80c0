// Goroutines as the page speaks of them: groups at one place, what they wait in,
// and how many more there are than in another snapshot.
import { clean, one, oneOf, type Query } from "./url";

export type Origin = "own" | "library" | "std" | "runtime" | "observer";

export interface CodeFrame {
  function: string;
  file: string;
  /** 0 = unknown. */
  line: number;
  pkg: string;
  origin: Origin;
}

export interface GoroutineGroup {
  id: string;
  count: number;
  /** How many there were in the other snapshot. */
  against: number;
  state: string;
  /** Nothing can ever end the wait. */
  forever: boolean;
  /** What they wait in, where it is known by name. */
  wait: { class: string; library: string; function: string } | null;
  /** From the leaf to the root. */
  stack: CodeFrame[];
  createdBy: CodeFrame | null;
  /** How many have an age, and the span of their ages in seconds. */
  aged: number;
  youngest: number;
  oldest: number;
  ids: string[];
  /** Ages and ids are those of a dump that saw so many here; 0 = they are the snapshot's own. */
  dumped: number;
  locked: number;
  labels: { count: number; labels: Record<string, string> }[];
}

export interface Census {
  format: string;
  taken: number;
  againstTaken: number;
  total: number;
  againstTotal: number;
  compared: boolean;
  loss: string;
  states: { state: string; count: number; against: number }[];
  groups: GoroutineGroup[];
  omittedGroups: number;
  omittedGoroutines: number;
}

/** The frame to show first: the program's own, or else a library's; where there is neither, what the goroutine was started with says most. */
export function headOf(g: GoroutineGroup): CodeFrame | undefined {
  return g.stack.find((f) => f.origin === "own") ?? g.stack.find((f) => f.origin === "library") ?? g.stack.findLast((f) => f.origin === "std") ?? g.stack.at(-1);
}

/**
 * The agent, the profilers and the tracer: they are there because somebody looks.
 * A request that only came through the agent's middleware is the program's own.
 */
export const isObserver = (g: GoroutineGroup): boolean => g.createdBy?.origin === "observer" || g.stack.find((f) => f.origin === "own" || f.origin === "observer")?.origin === "observer";

export const tones = ["running", "runnable", "syscall", "network", "sync", "channel", "gc", "idle"] as const;
export type Tone = (typeof tones)[number];

const toneOfState: Record<string, Tone> = {
  running: "running", runnable: "runnable", syscall: "syscall", file: "syscall",
  "net read": "network", "net write": "network", "net accept": "network", "net connect": "network", io: "network",
  mutex: "sync", "rwmutex read": "sync", "rwmutex write": "sync", once: "sync", waitgroup: "sync", cond: "sync", semaphore: "sync",
  "chan send": "channel", "chan receive": "channel", chan: "channel", select: "channel", gc: "gc",
};

/** The colour of a state, the same as in every other view. */
export const toneOf = (state: string): Tone => toneOfState[state] ?? "idle";

export const changes = ["grew", "shrank", "new", "gone"] as const;
export type Change = (typeof changes)[number] | "same";

export function changeOf(g: GoroutineGroup): Change {
  if (g.count === g.against) return "same";
  if (!g.against) return "new";
  if (!g.count) return "gone";
  return g.count > g.against ? "grew" : "shrank";
}

export const goroutineSorts = ["count", "growth", "age", "state", "place"] as const;
export type GoroutineSort = (typeof goroutineSorts)[number];

/** What the goroutines tab shows; all of it is in the address. */
export interface GoroutinesState {
  /** The snapshot's file; "" = the end of the window. */
  snapshot: string;
  /** What it is compared with: "" = the start of the window where there is one, "none", "other" = the capture that is compared with. */
  against: "" | "none" | "other";
  text: string;
  states: string[];
  pkg: string;
  change: "" | (typeof changes)[number];
  /** Places that somebody pointed at, "function" or "function:line", with | between them. */
  at: string;
  sort: GoroutineSort;
  /** The group whose stack is shown. */
  group: string;
}

export function parseGoroutines(q: Query): GoroutinesState {
  return {
    snapshot: one(q, "snap"), against: oneOf(["", "none", "other"] as const, one(q, "base"), ""),
    text: one(q, "q"), states: one(q, "state").split(",").filter(Boolean), pkg: one(q, "pkg"), change: oneOf(["", ...changes] as const, one(q, "change"), ""),
    at: one(q, "at"), sort: oneOf(goroutineSorts, one(q, "sort"), "count"), group: one(q, "group"),
  };
}

export function formatGoroutines(s: GoroutinesState): Record<string, string> {
  return clean({ snap: s.snapshot, base: s.against, q: s.text, state: s.states.join(","), pkg: s.pkg, change: s.change, at: s.at, sort: s.sort === "count" ? "" : s.sort, group: s.group });
}

/** Whether a frame is at the place: rules may leave out the path of a package, stacks do not. */
function isAt(f: CodeFrame, fn: string, line: number): boolean {
  return (f.function === fn || f.function.endsWith(`/${fn}`)) && (!line || f.line === line);
}

/** Whether the group is at one of the places, by the number of the first that it is at; −1 = at none. */
export function atPlace(g: GoroutineGroup, at: string): number {
  const frames = [...g.stack, ...(g.createdBy ? [g.createdBy] : [])];
  return at.split("|").findIndex((place) => {
    const [, fn = place, line = ""] = /^(.*):(\d+)$/.exec(place) ?? [];
    return frames.some((f) => isAt(f, fn, Number(line)));
  });
}

/** The group that somebody who points at places means: the largest at the first of them. */
export const meantBy = (groups: readonly GoroutineGroup[], at: string): GoroutineGroup | undefined =>
  at ? [...groups].sort((a, b) => atPlace(a, at) - atPlace(b, at) || b.count - a.count)[0] : undefined;

/** What a text is looked for in. */
const words = (g: GoroutineGroup): string =>
  [...g.stack, ...(g.createdBy ? [g.createdBy] : [])].map((f) => `${f.function} ${f.file}:${f.line}`).concat(g.labels.flatMap((l) => Object.entries(l.labels).flat()), g.ids).join("\n").toLowerCase();

/** The groups that pass the filter, in order. */
export function chosen(groups: readonly GoroutineGroup[], s: GoroutinesState): GoroutineGroup[] {
  const text = s.text.trim().toLowerCase();
  const keep = groups.filter((g) =>
    (!s.states.length || s.states.includes(toneOf(g.state))) && (!s.pkg || headOf(g)?.pkg === s.pkg) && (!s.change || changeOf(g) === s.change) && (!s.at || atPlace(g, s.at) >= 0) && (!text || words(g).includes(text)));
  const by: Record<GoroutineSort, (a: GoroutineGroup, b: GoroutineGroup) => number> = {
    count: (a, b) => b.count - a.count || b.against - a.against,
    growth: (a, b) => Math.abs(b.count - b.against) - Math.abs(a.count - a.against) || b.count - a.count,
    age: (a, b) => b.oldest - a.oldest || b.count - a.count,
    state: (a, b) => tones.indexOf(toneOf(a.state)) - tones.indexOf(toneOf(b.state)) || (a.state < b.state ? -1 : a.state > b.state ? 1 : b.count - a.count),
    place: (a, b) => {
      const [x, y] = [headOf(a)?.function ?? "", headOf(b)?.function ?? ""];
      return x < y ? -1 : x > y ? 1 : b.count - a.count;
    },
  };
  return keep.sort(by[s.sort]);
}

/** The packages that groups are in, by their first frame, with how many goroutines; the program's own come first. */
export function packagesOf(groups: readonly GoroutineGroup[]): { pkg: string; count: number; own: boolean }[] {
  const all = new Map<string, { pkg: string; count: number; own: boolean }>();
  for (const g of groups) {
    const f = headOf(g);
    if (!f?.pkg) continue;
    const p = all.get(f.pkg) ?? { pkg: f.pkg, count: 0, own: f.origin === "own" };
    all.set(f.pkg, p);
    p.count += g.count;
  }
  return [...all.values()].sort((a, b) => Number(b.own) - Number(a.own) || b.count - a.count || (a.pkg < b.pkg ? -1 : 1));
}

/** How many goroutines there are by colour, in the order of the palette. */
export function sharesOf(states: Census["states"]): { tone: Tone; count: number; against: number; states: string[] }[] {
  return tones.flatMap((tone) => {
    const of = states.filter((s) => toneOf(s.state) === tone);
    const sum = (key: "count" | "against") => of.reduce((n, s) => n + s[key], 0);
    return of.length ? [{ tone, count: sum("count"), against: sum("against"), states: of.map((s) => s.state) }] : [];
  });
}

/** A run of frames of a stack; runs of the runtime and the standard library can be folded. */
export interface FrameRun {
  foldable: boolean;
  frames: CodeFrame[];
}

/** A stack in runs: two or more frames that nobody can change make a run that folds, unless there is nothing else. */
export function runsOf(stack: readonly CodeFrame[]): FrameRun[] {
  const plain = (f: CodeFrame) => f.origin === "runtime" || f.origin === "std";
  if (stack.every(plain)) return stack.length ? [{ foldable: false, frames: [...stack] }] : [];
  const out: FrameRun[] = [];
  for (const f of stack) {
    const last = out.at(-1);
    if (last && last.foldable === plain(f)) last.frames.push(f);
    else out.push({ foldable: plain(f), frames: [f] });
  }
  return out.map((r) => (r.frames.length < 2 ? { ...r, foldable: false } : r));
}

/** A stack as people paste it into a report. */
export const stackText = (g: GoroutineGroup): string =>
  [`${g.count} [${g.state}]:`, ...g.stack.map((f) => `${f.function}\n\t${f.file}:${f.line}`), ...(g.createdBy ? [`created by ${g.createdBy.function}\n\t${g.createdBy.file}:${g.createdBy.line}`] : [])].join("\n");

/** The end of a file's path, as lines of code are spoken of. */
export const fileLine = (f: CodeFrame): string => (f.file ? `${f.file.slice(f.file.search(/[^/\\]*$/))}${f.line ? `:${f.line}` : ""}` : "");
