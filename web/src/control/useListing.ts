// What instances offer, kept fresh: after a run, when something goes back by
// itself, and now and then, for others act, too.
import { onScopeDispose, watch } from "vue";
import { useLoad } from "../composables/load";
import type { ControlApi, Selection } from "./api";
import { nextRevert } from "./model";
import type { ControlRun } from "./running";

/** Every call asks every instance. */
const againEveryMs = 20_000;

/** selection is null where there is nobody to ask. */
export function useListing(api: ControlApi, runner: ControlRun, selection: () => Selection | null) {
  const list = useLoad(
    async (signal) => {
      const s = selection();
      return s ? api.list(s, signal) : null;
    },
    [() => JSON.stringify(selection())],
  );
  let due: ReturnType<typeof setTimeout> | undefined;
  function later(): void {
    clearTimeout(due);
    const at = nextRevert(list.data.value?.controls ?? []);
    const wait = at ? Math.min(againEveryMs, Math.max(1000, at - Date.now() + 500)) : againEveryMs;
    due = setTimeout(() => {
      if (document.visibilityState === "visible" && selection() && !list.loading.value) void list.reload();
      later();
    }, wait);
  }
  watch(list.data, later, { immediate: true });
  watch(runner.running, (on) => !on && void list.reload());
  onScopeDispose(() => clearTimeout(due));
  return list;
}
