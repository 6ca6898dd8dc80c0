// The sparklines' past: asked for only for the rows on screen, a few at a time,
// newest wish first, because a fleet is large and a browser's connections few.
import { onScopeDispose, ref, watch, type Ref } from "vue";
import { sparkPoints, sparkStepMs } from "../model/history";
import type { Centre } from "./centre";

const atOnce = 2;
/** In a table sorted by a number rows come and go every second: who is on screen no longer than this is not asked about. */
const settleMs = 1500;
/** Answers that come within this time are told as one. */
const gatherMs = 200;

/** Fills the history of the instances in ids; returns a counter that grows with the answers. */
export function useBackfill(centre: Centre, ids: Readonly<Ref<string[]>>): Readonly<Ref<number>> {
  const version = ref(0);
  const asked = new Set<string>();
  const stop = new AbortController();
  // Since when who is on screen has been there; the first ones have always been.
  let since = new Map<string, number>();
  let running = 0;
  let settle: ReturnType<typeof setTimeout> | undefined;
  let gather: ReturnType<typeof setTimeout> | undefined;

  function seen(now: readonly string[]): void {
    const at = since.size ? Date.now() : 0;
    since = new Map(now.map((id) => [id, since.get(id) ?? at]));
    next();
  }

  function next(): void {
    clearTimeout(settle);
    const settled = Date.now() - settleMs;
    while (running < atOnce && !stop.signal.aborted) {
      const waiting = ids.value.filter((i) => !asked.has(i));
      const id = waiting.find((i) => (since.get(i) ?? 0) <= settled);
      if (id === undefined) {
        if (waiting.length) settle = setTimeout(next, settleMs);
        return;
      }
      asked.add(id);
      running++;
      void fill(id).finally(() => {
        running--;
        next();
      });
    }
  }

  async function fill(id: string): Promise<void> {
    const now = Date.now();
    try {
      const { points } = await centre.api.history(id, now - sparkPoints * sparkStepMs, now, { signal: stop.signal });
      for (const p of points) centre.history.push(id, p);
      gather ??= setTimeout(() => {
        gather = undefined;
        version.value++;
      }, gatherMs);
    } catch {
      // A row without a past is a row that has only just begun: nothing to tell anybody.
    }
  }

  watch(ids, seen, { immediate: true });
  onScopeDispose(() => {
    stop.abort();
    clearTimeout(settle);
    clearTimeout(gather);
  });
  return version;
}
