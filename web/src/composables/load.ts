// One read from the centre, as a page shows it: loading, a problem, or the answer.
import { onScopeDispose, ref, shallowRef, watch, type Ref, type ShallowRef, type WatchSource } from "vue";
import { isAbort, problem, type Problem } from "../api/errors";

export interface Loaded<T> {
  /** The last answer; it stays while a newer one is on its way. */
  data: Readonly<ShallowRef<T | null>>;
  loading: Readonly<Ref<boolean>>;
  problem: Readonly<ShallowRef<Problem | null>>;
  reload: () => Promise<void>;
}

/**
 * Reads now and whenever sources change; an older read that is still under way
 * is aborted, and so is the last one when the scope ends. With sources, the old
 * answer is forgotten: it is another thing's.
 */
export function useLoad<T>(read: (signal: AbortSignal) => Promise<T>, sources: WatchSource[] = []): Loaded<T> {
  const data = shallowRef<T | null>(null);
  const loading = ref(true);
  const failed = shallowRef<Problem | null>(null);
  let current: AbortController | undefined;
  async function reload() {
    current?.abort();
    const mine = (current = new AbortController());
    loading.value = true;
    try {
      const answer = await read(mine.signal);
      if (mine !== current) return;
      data.value = answer;
      failed.value = null;
    } catch (err) {
      if (mine !== current || isAbort(err)) return;
      failed.value = problem(err);
    }
    loading.value = false;
  }
  if (sources.length)
    watch(sources, () => {
      data.value = null;
      failed.value = null;
      void reload();
    });
  void reload();
  onScopeDispose(() => current?.abort());
  return { data, loading, problem: failed, reload };
}
