// A run while it goes on, and what is left of it afterwards.
import { onScopeDispose, ref, shallowRef } from "vue";
import { isAbort, problem, type Problem } from "../api/errors";
import type { Consent, ControlApi, Wish } from "./api";
import { settle, step, type Run } from "./model";

/** A run that nobody listens to any more ends when what has begun has: the record is asked until it says so. */
const askEveryMs = 500;
const askAtMost = 40;

export function useControlRun(api: ControlApi) {
  const run = shallowRef<Run | null>(null);
  const running = ref(false);
  const failed = shallowRef<Problem | null>(null);
  /** What the last run was asked to do. */
  const asked = shallowRef<Wish | null>(null);
  let current: AbortController | undefined;
  let gone = false;

  /** True when it came to an end that is known. */
  async function start(wish: Wish, consent: Consent): Promise<boolean> {
    const mine = (current = new AbortController());
    run.value = failed.value = null;
    asked.value = wish;
    running.value = true;
    let broken: unknown = null;
    try {
      for await (const e of api.invoke(wish, consent, mine.signal)) run.value = step(run.value, e);
    } catch (err) {
      broken = err;
    }
    const begun: Run | null = run.value;
    if (begun && !begun.finished) await ask(begun.audit);
    else if (!begun && broken && !isAbort(broken)) failed.value = problem(broken);
    running.value = false;
    return !!(run.value as Run | null)?.finished;
  }

  async function ask(audit: string): Promise<void> {
    for (let n = 0; n < askAtMost && audit && !gone; n++) {
      try {
        const e = await api.outcome(audit);
        if (e && e.result !== "running" && run.value) {
          run.value = settle(run.value, e);
          failed.value = null;
          return;
        }
      } catch (err) {
        failed.value = problem(err); // the next try may do better
      }
      await new Promise((r) => setTimeout(r, askEveryMs));
    }
  }

  onScopeDispose(() => {
    gone = true;
    current?.abort();
  });
  return {
    run, running, failed, asked, start,
    cancel: () => current?.abort(),
    clear() {
      if (!running.value) run.value = failed.value = null;
    },
  };
}

export type ControlRun = ReturnType<typeof useControlRun>;
