// What the command palette offers, in order: what is meant most likely first.
import { fuzzy } from "./fuzzy";

export const entryKinds = ["command", "page", "service", "instance", "capture", "guide"] as const;
export type EntryKind = (typeof entryKinds)[number];

export interface Entry {
  /** The same in every session: what was used before is known by it. */
  id: string;
  kind: EntryKind;
  title: string;
  /** What else tells it apart; it is searched, too. */
  hint: string;
  /** The keys that do the same. */
  keys: string;
  /** There without a query. */
  offered: boolean;
}

export interface Ranked<E extends Entry> {
  entry: E;
  /** Places of the query's letters in the title. */
  at: number[];
  recent: boolean;
  /** See fuzzy. */
  sure: boolean;
}

const most = 60;
const recents = 8;

/** Entries for a query: used ones first where it is empty, else the best, of equally good ones those that were used. */
export function rank<E extends Entry>(entries: readonly E[], query: string, used: readonly string[]): Ranked<E>[] {
  const order = new Map(used.map((id, n) => [id, n]));
  if (!query.trim()) {
    const before = entries.filter((e) => order.has(e.id)).sort((a, b) => order.get(a.id)! - order.get(b.id)!).slice(0, recents);
    const seen = new Set(before);
    return [...before, ...entries.filter((e) => e.offered && !seen.has(e))].slice(0, most).map((entry) => ({ entry, at: [], recent: seen.has(entry), sure: true }));
  }
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = search(entries, query, words, order);
  // Where nothing has all of the words, what has most of them is better than nothing.
  if (found.length || words.length < 2) return found;
  const best = new Map<E, { hit: Ranked<E>; words: number }>();
  for (const w of words) {
    for (const hit of search(entries, w, [w], order)) {
      if (!hit.sure) continue;
      const was = best.get(hit.entry);
      if (was) was.words++;
      else best.set(hit.entry, { hit, words: 1 });
    }
  }
  return [...best.values()].sort((a, b) => b.words - a.words).slice(0, most).map((b) => b.hit);
}

function search<E extends Entry>(entries: readonly E[], query: string, words: readonly string[], order: ReadonlyMap<string, number>): Ranked<E>[] {
  const found = entries
    .flatMap((entry, n) => {
      const inTitle = fuzzy(query, entry.title);
      const all = `${entry.title} ${entry.hint}`;
      const m = inTitle ?? (words.every((w) => all.toLowerCase().includes(w)) ? fuzzy(query, all) : null);
      if (!m) return [];
      const use = order.get(entry.id);
      // A hint is the lesser place, a use the last ten times some letters' worth.
      const score = m.score - (inTitle ? 0 : 60) + (use === undefined ? 0 : Math.max(5, 25 - use * 2)) - entryKinds.indexOf(entry.kind);
      return [{ entry, at: m.at.filter((i) => i < entry.title.length), recent: use !== undefined, sure: m.sure, score, n }];
    })
    .sort((a, b) => b.score - a.score || a.n - b.n);
  // Letters strewn over a title are a guess, for when nothing else is there.
  const sure = found.filter((r) => r.sure);
  return (sure.length ? sure : found).slice(0, most).map(({ entry, at, recent, sure }) => ({ entry, at, recent, sure }));
}

/** The ids that were used, the newest first, with one more. */
export const remember = (used: readonly string[], id: string): string[] => [id, ...used.filter((x) => x !== id)].slice(0, 30);
