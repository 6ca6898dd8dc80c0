// The sparklines' past: asked for only for the rows on screen, a few at a time,
// newest wish first, because a fleet is large and a browser's connections few.
import { onScopeDispose, ref, watch, type Ref } from "vue";
import { sparkPoints, sparkStepMs } from "../model/history";
import type { Centre } from "./centre";

const atOnce = 2;

/** Fills the history of the instances in ids; returns a counter that grows with every answer. */
export function useBackfill(centre: Centre, ids: Readonly<Ref<string[]>>): Readonly<Ref<number>> {
  const version = ref(0);
  const asked = new Set<string>();
  const stop = new AbortController();
  let running = 0;

  function next(): void {
    while (running < atOnce && !stop.signal.aborted) {
      const id = ids.value.find((i) => !asked.has(i));
      if (id === undefined) return;
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
      version.value++;
    } catch {
      // A row without a past is a row that has only just begun: nothing to tell anybody.
    }
  }

  watch(ids, next, { immediate: true });
  onScopeDispose(() => stop.abort());
  return version;
}
