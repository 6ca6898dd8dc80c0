// What should be there and is not: services with too few instances, and targets
// that a source lists in vain.

export interface Lack {
  project: string;
  service: string;
  /** Of a target alone; "" = it is a whole service. */
  address: string;
  expected: number;
  up: number;
  since: number;
  /** Who says that it should be there. */
  says: string;
  /** Why it is away, as far as is known. */
  problem: string;
  /** It has lasted. */
  alarm: boolean;
  /** Since when nobody can say whether so many are still expected; 0 = they are. */
  staleSince: number;
}

/** Those of a project, services before single targets, what is worst and longest first. */
export function lacksOf(all: readonly Lack[], project: string): Lack[] {
  const rank = (l: Lack) => (l.address ? 2 : l.up === 0 ? 0 : 1);
  return all.filter((l) => !project || l.project === project).sort((a, b) => rank(a) - rank(b) || a.since - b.since);
}
