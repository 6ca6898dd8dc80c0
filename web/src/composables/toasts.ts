// Short messages at the edge of the page.
import { shallowReactive } from "vue";
import { isAbort, problem } from "../api/errors";

export interface Toast {
  id: number;
  level: "good" | "bad";
  title: string;
  detail: string;
  /** Somewhere to go. */
  link: { label: string; to: string } | null;
}

const list = shallowReactive<Toast[]>([]);
let last = 0;

export const toasts: readonly Toast[] = list;

export function toast(title: string, more: Partial<Omit<Toast, "id" | "title">> = {}): void {
  list.push({ id: ++last, level: "good", title, detail: "", link: null, ...more });
  if (list.length > 4) list.shift();
}

/** Says what went wrong, unless it is only that the page gave up. */
export function toastProblem(err: unknown): void {
  if (isAbort(err)) return;
  const p = problem(err);
  toast(p.title, { level: "bad", detail: p.detail });
}

export function dismiss(id: number): void {
  const at = list.findIndex((t) => t.id === id);
  if (at >= 0) list.splice(at, 1);
}
