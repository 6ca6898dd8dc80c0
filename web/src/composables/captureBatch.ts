// Captures of several services that were started at once: they are one errand,
// which stays in sight, over every page and a reload, until somebody has read it.
import { shallowRef } from "vue";
import { captureIds } from "../model/url";

const key = "ops.batch";

/** Their ids; empty = there is none. */
export const captureBatch = shallowRef<readonly string[]>(captureIds(sessionStorage.getItem(key) ?? ""));

export function startBatch(ids: readonly string[]): void {
  captureBatch.value = ids;
  sessionStorage.setItem(key, ids.join());
}

export function endBatch(): void {
  captureBatch.value = [];
  sessionStorage.removeItem(key);
}
