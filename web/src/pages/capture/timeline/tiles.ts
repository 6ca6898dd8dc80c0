// Fetches the tiles that a view needs, what is seen first, and forgets about those
// that nobody sees any more.
import { onScopeDispose, ref, type Ref } from "vue";
import type { TimelineApi } from "../../../api/timeline";
import { isAbort, problem, type Problem } from "../../../api/errors";
import { keyOf, type Track } from "../../../model/timeline/rows";
import { TileCache } from "../../../model/timeline/tile";
import { levelFor, tileSpan, tilesOf, type Range } from "../../../model/timeline/window";

/** Bytes of decoded tiles: some hundred screens. */
const cacheBytes = 96 << 20;
/** Tracks of one request: its address must fit into a header. */
const atOnce = 48;
/** Requests at the same time: browsers open six connections. */
const lanes = 3;

interface Job {
  level: number;
  index: number;
  tracks: Track[];
  /** Of the time that is seen now, rather than beside it. */
  seen: boolean;
}

export interface Tiles {
  cache: TileCache;
  /** Says what is seen now: its missing tiles are fetched. */
  want: (range: Range, pixels: number, tracks: readonly Track[]) => void;
  busy: Readonly<Ref<boolean>>;
  problem: Readonly<Ref<Problem | null>>;
}

/** changed is called when there is something new to draw. */
export function useTiles(api: TimelineApi, duration: number, changed: () => void): Tiles {
  const cache = new TileCache(cacheBytes);
  const busy = ref(false);
  const failed = ref<Problem | null>(null);
  const under = new Map<string, AbortController>();
  let queue: Job[] = [];
  let level = -1;
  const name = (j: Job, t: Track) => `${j.level}/${j.index}/${keyOf(t)}`;

  function want(range: Range, pixels: number, tracks: readonly Track[]): void {
    const next = levelFor(range, pixels);
    // What another zoom wanted is not worth waiting for.
    if (next !== level) for (const c of new Set(under.values())) c.abort();
    level = next;
    const seen = tilesOf(range, level, duration);
    const beside = [seen[0]! - 1, seen.at(-1)! + 1].filter((i) => i >= 0 && i * tileSpan(level) < duration);
    queue = [];
    for (const [indexes, now] of [[seen, true], [beside, false]] as const)
      for (const index of indexes) {
        const job: Job = { level, index, tracks: [], seen: now };
        job.tracks = tracks.filter((t) => !cache.get(keyOf(t), level, index) && !under.has(name(job, t)));
        for (let n = 0; n < job.tracks.length; n += atOnce) queue.push({ ...job, tracks: job.tracks.slice(n, n + atOnce) });
      }
    next === level && run();
  }

  function run(): void {
    while (queue.length && new Set(under.values()).size < lanes) void fetch(queue.shift()!);
    busy.value = [...under.keys()].length > 0 && (queue.some((j) => j.seen) || under.size > 0);
  }

  async function fetch(job: Job): Promise<void> {
    const c = new AbortController();
    for (const t of job.tracks) under.set(name(job, t), c);
    try {
      const rows = await api.tiles(job.tracks, job.level, job.index, { signal: c.signal });
      rows.forEach((row, n) => cache.put(keyOf(job.tracks[n]!), job.level, job.index, row));
      failed.value = null;
      changed();
    } catch (err) {
      if (!isAbort(err)) {
        failed.value = problem(err);
        queue = []; // asking on would fail as often as somebody looks
      }
    }
    for (const t of job.tracks) if (under.get(name(job, t)) === c) under.delete(name(job, t));
    run();
  }

  onScopeDispose(() => {
    queue = [];
    for (const c of new Set(under.values())) c.abort();
  });
  return { cache, want, busy, problem: failed };
}
