// Captures as the page speaks of them. Times are milliseconds since the epoch,
// 0 = unknown.
import type { Instance } from "./instance";

export const captureStates = ["requested", "collecting", "committing", "done", "partial", "failed", "cancelled"] as const;
export type CaptureState = (typeof captureStates)[number];

export const kinds = ["cpu", "heap", "allocs", "goroutine", "block", "mutex", "trace", "runtime", "goroutine-dump", "goroutineleak"] as const;
export type Kind = (typeof kinds)[number];

export interface CaptureSpec {
  durationSeconds: number;
  /** Empty = the full set. */
  kinds: string[];
  fidelity: string;
  traceWindowSeconds: number;
  traceMaxBytes: number;
  skipGc: boolean;
  /** So many seconds that are over, out of the flight recorders, instead of a window to come; 0 = a window. */
  lastSeconds: number;
}

export interface Loss {
  kind: string;
  reason: string;
  message: string;
}

export interface Artifact {
  name: string;
  kind: string;
  phase: string;
  takenAt: number;
  windowStart: number;
  windowEnd: number;
  sizeBytes: number;
  sha256: string;
  losses: Loss[];
  partial: boolean;
  derived: boolean;
}

export interface Progress {
  elapsedSeconds: number;
  durationSeconds: number;
  activity: string;
}

export interface Target {
  instance: Instance;
  state: CaptureState;
  reason: string;
  windowStart: number;
  windowEnd: number;
  stoppedEarly: boolean;
  losses: Loss[];
  artifacts: Artifact[];
  progress: Progress | null;
  receivedBytes: number;
}

/** What the rules said of a capture, in a line. */
export interface Headline {
  /** Of the worst finding; "" = nothing was found. */
  severity: "critical" | "warning" | "notice" | "";
  rule: string;
  /** Its title by language. */
  title: Record<string, string>;
  critical: number;
  warning: number;
  notice: number;
  /** Checks that lacked data. */
  unchecked: number;
}

export interface Capture {
  id: string;
  project: string;
  service: string;
  spec: CaptureSpec;
  state: CaptureState;
  reason: string;
  actor: string;
  note: string;
  created: number;
  finished: number;
  pinned: boolean;
  sizeBytes: number;
  targets: Target[];
  imported: boolean;
  /** null = nothing was said yet. */
  headline: Headline | null;
  expires: number;
}

export interface CaptureChange {
  reset: boolean;
  captures: Capture[];
  removedIds: string[];
}

/** Merges a change into known, in place. */
export function applyCaptures(known: Map<string, Capture>, change: CaptureChange): void {
  if (change.reset) known.clear();
  for (const c of change.captures) known.set(c.id, c);
  for (const id of change.removedIds) known.delete(id);
}

export const ended = (s: CaptureState): boolean => s === "done" || s === "partial" || s === "failed" || s === "cancelled";

/**
 * What is known of a capture from a full read and from the stream, whose
 * captures come without artifacts: the stream's word on everything that moves,
 * the read's artifacts until the next read. The stream alone cannot bring a
 * capture that has ended back to life.
 */
export function mergeCapture(read: Capture, live: Capture | undefined): Capture {
  if (!live) return read;
  if (ended(read.state) && !ended(live.state)) return { ...read, pinned: live.pinned };
  const full = new Map(read.targets.map((t) => [t.instance.id, t]));
  return {
    ...live,
    sizeBytes: Math.max(read.sizeBytes, live.sizeBytes),
    targets: live.targets.map((t) => {
      const f = full.get(t.instance.id);
      return f && f.artifacts.length > t.artifacts.length ? { ...t, artifacts: f.artifacts, losses: t.losses.length >= f.losses.length ? t.losses : f.losses } : t;
    }),
  };
}

/**
 * A page of the list with what the stream knows merged in: fresher states for
 * those on it, newer captures in front where the page is the first, and without
 * those that were deleted.
 */
export function mergeList(page: Capture[], live: Iterable<Capture>, removed: ReadonlySet<string>, firstPage: boolean, matches: (c: Capture) => boolean): Capture[] {
  const byId = new Map<string, Capture>();
  for (const c of live) byId.set(c.id, c);
  const on = new Set(page.map((c) => c.id));
  const list = page.filter((c) => !removed.has(c.id)).map((c) => mergeCapture(c, byId.get(c.id)));
  if (!firstPage) return list;
  const newest = page[0]?.id ?? "";
  const fresh = [...byId.values()].filter((c) => !on.has(c.id) && !removed.has(c.id) && c.id > newest && matches(c));
  return [...fresh, ...list].sort((a, b) => (a.id < b.id ? 1 : a.id > b.id ? -1 : 0));
}

/** Progress of a running capture from 0 to 1: the mean of its targets. */
export function progressOf(c: Capture): number {
  if (ended(c.state)) return 1;
  if (!c.targets.length) return 0;
  return c.targets.reduce((s, t) => s + targetProgress(t, c.spec.durationSeconds), 0) / c.targets.length;
}

/** Progress of one target from 0 to 1. The transfer after the window is the last twentieth. */
export function targetProgress(t: Target, durationSeconds: number): number {
  if (ended(t.state)) return 1;
  if (t.state === "committing") return 0.97;
  const of = t.progress?.durationSeconds || durationSeconds;
  if (!t.progress || !of) return 0;
  return Math.min(0.95, (t.progress.elapsedSeconds / of) * 0.95);
}

/** A gap below this share of the window changes no figure that anybody would read. */
const smallGap = 0.01;

/**
 * Whether a loss is worth a note only: a gap between two segments that is short beside the window (in seconds), or a
 * kind of file that this Go cannot make, which every capture of it lacks.
 */
export function isNote(l: Loss, window: number): boolean {
  if (l.reason === "unsupported" && l.kind) return true;
  if (l.reason !== "gap") return false;
  const gap = /((?:[\d.]+(?:h|ms|m|ns|µs|s))+)(?= between)/.exec(l.message)?.[1];
  if (!gap) return false;
  const units = { h: 3600, m: 60, s: 1, ms: 1e-3, µs: 1e-6, ns: 1e-9 };
  const seconds = [...gap.matchAll(/([\d.]+)(h|ms|m|ns|µs|s)/g)].reduce((sum, [, n, unit]) => sum + Number(n) * units[unit as keyof typeof units], 0);
  return seconds < smallGap * window;
}

/** Every loss of a target: its own, then its artifacts', each once. */
export function lossesOf(t: Target): { artifact: string; loss: Loss }[] {
  const out: { artifact: string; loss: Loss }[] = [];
  const seen = new Set<string>();
  const add = (artifact: string, loss: Loss) => {
    const key = `${loss.kind}\0${loss.reason}\0${loss.message}`;
    if (seen.has(key)) return;
    seen.add(key);
    out.push({ artifact, loss });
  };
  for (const a of t.artifacts) for (const l of a.losses) add(a.name, l);
  for (const l of t.losses) add("", l);
  return out;
}

/** Whether pprof can open the artifact. */
export const isProfile = (a: { name: string; kind: string }): boolean => a.name.endsWith(".pprof") && a.kind !== "trace" && a.kind !== "runtime";

export const isTrace = (a: { kind: string }): boolean => a.kind === "trace";

export const holdsGoroutines = (a: { kind: string }): boolean => a.kind === "goroutine" || a.kind === "goroutine-dump" || a.kind === "goroutineleak";

/** Whether the artifact is the runtime series of a window, or what there is of them. */
export const isRuntime = (a: { kind: string }): boolean => a.kind === "runtime";

/** An artifact with the snapshots of its two ends, where the target has them. */
export interface ArtifactRow {
  artifact: Artifact;
  /** The raw ends that a diff of this kind compares; null = there is no pair. */
  pair: { before: Artifact; after: Artifact } | null;
  /** Raw ends are shown under the file that people want. */
  raw: boolean;
}

/**
 * The artifacts of a target as rows: in the order of kinds, the file that
 * carries the plain name first, its raw ends after it.
 */
export function artifactRows(artifacts: Artifact[]): ArtifactRow[] {
  const names = new Map(artifacts.map((a) => [a.name, a]));
  const order = (k: string) => {
    const n = (kinds as readonly string[]).indexOf(k);
    return n < 0 ? kinds.length : n;
  };
  const isRaw = (a: Artifact) => /\.(before|after)\.[a-z]+$/.test(a.name);
  const rank = (a: Artifact) => (!isRaw(a) ? 0 : a.name.includes(".before.") ? 1 : 2);
  return [...artifacts]
    .sort((a, b) => order(a.kind) - order(b.kind) || rank(a) - rank(b) || (a.name < b.name ? -1 : 1))
    .map((artifact) => {
      const raw = isRaw(artifact);
      const before = names.get(artifact.name.replace(/\.pprof$/, ".before.pprof"));
      // Where the plain name is the window's delta, the other end is kept as "after".
      const after = names.get(artifact.name.replace(/\.pprof$/, ".after.pprof")) ?? artifact;
      return { artifact, raw, pair: !raw && before && isProfile(artifact) ? { before, after } : null };
    });
}

/** The latest capture with a verdict of each "project/service", none older than since. */
export function lastVerdicts(captures: Iterable<Capture>, since: number): Map<string, Capture> {
  const out = new Map<string, Capture>();
  for (const c of captures) {
    const of = `${c.project}/${c.service}`;
    if (c.headline && !c.imported && c.created >= since && c.created >= (out.get(of)?.created ?? 0)) out.set(of, c);
  }
  return out;
}

/** A title where code cannot be shown as code. */
export const plain = (title: string) => title.replaceAll("`", "");

/** A verdict's line of code apart from its words, which say it last: "… (room.go:105)". */
export function placeFirst(title: string): { place: string; text: string } {
  const m = /\s*[(（]([^\s()（）]+\.(?:go|s|c):\d+)[)）]/.exec(title);
  return m ? { place: m[1]!, text: title.slice(0, m.index) + title.slice(m.index + m[0].length) } : { place: "", text: title };
}
