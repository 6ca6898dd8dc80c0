// Two sides of a comparison: what the rules say of each, and which profiles both
// have.
import { byWeight, worstFirst, type Diagnosis, type DiagnosisSet, type Finding } from "./diagnosis";
import { isProfile, kinds as kindOrder, type Artifact, type Capture } from "./capture";
import type { Side } from "./flame/state";

export interface FindingPair {
  before: Finding;
  after: Finding;
}

export interface FindingChanges {
  appeared: Finding[];
  vanished: Finding[];
  stayed: FindingPair[];
}

/** The diagnoses of a side: of the instances that it names, or of all. */
export function diagnosesOf(d: DiagnosisSet, side: Side): Diagnosis[] {
  const own = side.instances.length ? d.instances.filter((x) => side.instances.includes(x.instance.id)) : d.instances;
  // A document that does not say whose it is speaks of the only instance there is.
  return own.length || d.instances.length > 1 ? own : d.instances;
}

/** Findings by their id, which names rule and place: of several instances the heaviest counts. */
export function compareFindings(before: readonly Diagnosis[], after: readonly Diagnosis[]): FindingChanges {
  const heaviest = (all: readonly Diagnosis[]) => {
    const m = new Map<string, Finding>();
    for (const f of all.flatMap((d) => d.findings)) {
      const have = m.get(f.id);
      if (!have || byWeight(f, have) < 0) m.set(f.id, f);
    }
    return m;
  };
  const [b, a] = [heaviest(before), heaviest(after)];
  return {
    appeared: [...a.values()].filter((f) => !b.has(f.id)).sort(byWeight),
    vanished: [...b.values()].filter((f) => !a.has(f.id)).sort(byWeight),
    stayed: [...a.values()].filter((f) => b.has(f.id)).sort(byWeight).map((after) => ({ before: b.get(after.id)!, after })),
  };
}

/** The instances of a side that have an artifact. */
const having = (c: Capture, s: Side, name: string): number => c.targets.filter((x) => (!s.instances.length || s.instances.includes(x.instance.id)) && x.artifacts.some((a) => a.name === name)).length;

const plain = (c: Capture, s: Side): Artifact[] => {
  const seen = new Map<string, Artifact>();
  for (const x of c.targets) if (!s.instances.length || s.instances.includes(x.instance.id)) for (const a of x.artifacts) if (isProfile(a) && !/\.(before|after)\.pprof$/.test(a.name)) seen.set(a.kind, seen.get(a.kind) ?? a);
  const rank = (kind: string) => (kindOrder as readonly string[]).indexOf(kind) >>> 0;
  return [...seen.values()].sort((a, b) => rank(a.kind) - rank(b.kind));
};

export interface ProfilePair {
  kind: string;
  before: string;
  after: string;
}

/**
 * The profiles that both sides have, with the files to compare: of a side that
 * means the window's start, the snapshot of then; and across from it, where a
 * kind's plain file is what the window added, the snapshot of the end.
 */
export function profilePairs(a: { capture: Capture; side: Side }, b: { capture: Capture; side: Side }): ProfilePair[] {
  const out: ProfilePair[] = [];
  const after = plain(b.capture, b.side);
  for (const x of plain(a.capture, a.side)) {
    const y = after.find((o) => o.kind === x.kind);
    if (!y) continue;
    const name = (of: { capture: Capture; side: Side }, file: Artifact, across: Side): string => {
      const stem = file.name.replace(/\.pprof$/, "");
      if (of.side.before) return `${stem}.before.pprof`;
      const end = `${stem}.after.pprof`;
      return across.before && having(of.capture, of.side, end) ? end : file.name;
    };
    const pair = { kind: x.kind, before: name(a, x, b.side), after: name(b, y, a.side) };
    if (having(a.capture, a.side, pair.before) && having(b.capture, b.side, pair.after)) out.push(pair);
  }
  return out;
}

/** How many instances a side is. */
export const sizeOf = (c: Capture, s: Side): number => s.instances.length || c.targets.length;

/** Of different numbers of instances, or windows of different lengths, only shares can be compared. */
export function comparable(a: { capture: Capture; side: Side }, b: { capture: Capture; side: Side }): boolean {
  const seconds = (c: Capture) => c.spec.durationSeconds || 0;
  return sizeOf(a.capture, a.side) === sizeOf(b.capture, b.side) && Math.abs(seconds(a.capture) - seconds(b.capture)) <= 0.2 * Math.max(seconds(a.capture), seconds(b.capture));
}

/** One instance against the others of its capture; null where it has none. */
export function againstOthers(c: Capture, instance: string): { before: Side; after: Side } | null {
  const others = c.targets.map((x) => x.instance.id).filter((id) => id !== instance);
  return others.length && others.length < c.targets.length ? { before: { capture: c.id, instances: others, before: false }, after: { capture: c.id, instances: [instance], before: false } } : null;
}

/** The worst instance first, as the page of the capture has it. */
export const worstInstance = (d: DiagnosisSet): string => worstFirst(d.instances)[0]?.diagnosis.instance.id ?? "";

/**
 * What chosen instances are compared with, by the captures that there are, the newest
 * first: two with one another, any other number with the rest of their latest capture;
 * one that is always captured alone, with itself before. null = there is no capture
 * that tells.
 */
export function comparisonOf(captures: readonly Capture[], ids: readonly string[]): { before: Side; after: Side } | null {
  const side = (c: Capture, instances: readonly string[]): Side => ({ capture: c.id, instances: [...instances], before: false });
  const idsOf = (c: Capture) => c.targets.filter((x) => x.artifacts.length).map((x) => x.instance.id);
  const told = captures.filter((c) => c.state === "done" || c.state === "partial");
  const of = (...wanted: string[]) => told.filter((c) => wanted.every((id) => idsOf(c).includes(id)));
  if (ids.length === 2) {
    const [a = "", b = ""] = ids;
    const both = of(a, b)[0];
    const [ca, cb] = [both ?? of(a)[0], both ?? of(b)[0]];
    return ca && cb ? { before: side(ca, [a]), after: side(cb, [b]) } : null;
  }
  if (!ids.length) return null;
  for (const c of of(...ids)) {
    const others = idsOf(c).filter((id) => !ids.includes(id));
    if (others.length) return { before: side(c, others), after: side(c, ids) };
  }
  const [now, before] = of(...ids);
  return now && before ? { before: side(before, ids), after: side(now, ids) } : null;
}
