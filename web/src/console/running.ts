// A call while it runs, and what is left of it afterwards.
import { onScopeDispose, ref, shallowRef, triggerRef } from "vue";
import { isAbort, problem, type Problem } from "../api/errors";
import { seconds } from "../api/convert";
import { values, type CallWish, type ConsoleApi } from "./api";
import { blankAnswer, take, type Answer } from "./model";

/** Drawing more often than this shows nobody more. */
const drawEveryMs = 50;

export function useRunning(api: ConsoleApi) {
  const answers = shallowRef(new Map<string, Answer>());
  const running = ref(false);
  const failed = shallowRef<Problem | null>(null);
  const started = shallowRef<{ id: string; audit: string; replayed: boolean } | null>(null);
  const paused = ref(false);
  let control: AbortController | undefined;
  let due = 0;

  // Ten thousand messages are ten thousand events: the page is told at its own pace.
  function draw(now = false): void {
    if (paused.value && !now) return;
    if (now) {
      clearTimeout(due);
      due = 0;
      triggerRef(answers);
    } else if (!due)
      due = window.setTimeout(() => {
        due = 0;
        if (!paused.value) triggerRef(answers);
      }, drawEveryMs);
  }

  async function call(wish: CallWish): Promise<void> {
    control?.abort();
    const mine = (control = new AbortController());
    answers.value = new Map(wish.instances.map((i) => [i, blankAnswer(i)]));
    failed.value = started.value = null;
    paused.value = false;
    running.value = true;
    try {
      for await (const e of api.call(wish, mine.signal)) {
        if (mine !== control) return;
        const { event } = e;
        if (event.case === "started") {
          started.value = { id: event.value.callId, audit: event.value.auditId, replayed: event.value.replayed };
          continue;
        }
        let a = answers.value.get(e.instanceId);
        if (!a) answers.value.set(e.instanceId, (a = blankAnswer(e.instanceId)));
        switch (event.case) {
          case "header":
            a.header = values(event.value.metadata);
            break;
          case "sent":
            a.sent++;
            break;
          case "received":
            take(a, { index: event.value.index, bytes: Number(event.value.wireBytes), json: event.value.json, cut: event.value.cut });
            break;
          case "end":
            a.trailer = values(event.value.trailer);
            a.end = { code: event.value.code, message: event.value.message, details: [...event.value.details], seconds: seconds(event.value.duration) };
            break;
          case "failed":
            a.failed = event.value;
            break;
          case "skipped":
            a.skipped = true;
        }
        draw();
      }
    } catch (err) {
      if (mine !== control) return;
      if (!isAbort(err)) failed.value = problem(err);
      else for (const a of answers.value.values()) if (!a.end && !a.failed && !a.skipped) a.end = { code: "Canceled", message: "", details: [], seconds: 0 };
    }
    running.value = false;
    draw(true);
  }

  function clear(): void {
    for (const a of answers.value.values()) a.messages = [];
    draw(true);
  }

  onScopeDispose(() => {
    control?.abort();
    clearTimeout(due);
  });
  return {
    answers, running, failed, started, paused, call, clear,
    cancel: () => control?.abort(),
    pause(on: boolean) {
      paused.value = on;
      draw(true);
    },
  };
}

export type Running = ReturnType<typeof useRunning>;
