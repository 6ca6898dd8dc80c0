// Which profiles a capture has, and which of them is worth looking at first.
import { fileOf, worstFirst, type DiagnosisSet } from "../model/diagnosis";
import { isProfile, kinds as kindOrder, type Artifact, type Capture } from "../model/capture";

/** The kinds of profiles that a capture has, in the order of kinds. */
export function profileKinds(c: Capture): string[] {
  const there = new Set(c.targets.flatMap((x) => x.artifacts.filter(isProfile).map((a) => a.kind)));
  const rank = (k: string) => (kindOrder as readonly string[]).indexOf(k) >>> 0;
  return [...there].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** The file of a kind that an instance has. */
export function profileOf(c: Capture, instance: string, kind: string): Artifact | undefined {
  const file = fileOf(c.targets.find((x) => x.instance.id === instance)?.artifacts ?? [], kind);
  return file && isProfile(file) ? file : undefined;
}

/** The name that a kind's file has in this capture. */
export function profileName(c: Capture, kind: string): string {
  for (const x of c.targets) {
    const a = profileOf(c, x.instance.id, kind);
    if (a) return a.name;
  }
  return `${kind}.pprof`;
}

/** The module of the program that was captured. */
export const moduleOf = (c: Capture): string => c.targets.find((x) => x.instance.build?.modulePath)?.instance.build?.modulePath ?? "";

export interface FirstLook {
  kind: string;
  instance: string;
}

/**
 * What to show when nobody said: the profile that the heaviest finding was read
 * from, else CPU; and of the instances the one with that finding, else the one
 * with the largest file, which says most.
 */
export function firstLook(c: Capture, d: DiagnosisSet | null, kind: string, instance: string): FirstLook {
  const kinds = profileKinds(c);
  for (const row of worstFirst(d?.instances ?? [])) {
    const id = c.targets.length === 1 ? c.targets[0]!.instance.id : row.diagnosis.instance.id;
    if (instance && id !== instance) continue;
    for (const cause of row.causes)
      for (const p of cause.finding.evidence) {
        if (kind && p.artifact !== kind) continue;
        if (kinds.includes(p.artifact) && profileOf(c, id, p.artifact)) return { kind: p.artifact, instance: id };
      }
  }
  const wanted = kind || (kinds.includes("cpu") ? "cpu" : (kinds[0] ?? ""));
  if (instance) return { kind: wanted, instance };
  const size = (id: string) => profileOf(c, id, wanted)?.sizeBytes ?? -1;
  const largest = [...c.targets].sort((a, b) => size(b.instance.id) - size(a.instance.id))[0];
  return { kind: wanted, instance: largest?.instance.id ?? "" };
}
