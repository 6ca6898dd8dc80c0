// What the capture dialog asks for: its defaults, its limits and what instances
// can do. The limits are the centre's; it checks them again.
import { kinds, type CaptureSpec } from "./capture";
import type { Instance } from "./instance";

export const minSeconds = 1;
export const maxSeconds = 600;
export const maxTraceSeconds = 30;
export const maxLastSeconds = 60;
/** What can be had of the past: the trace, and how the process is now that it is over. */
export const pastKinds: readonly string[] = ["trace", "goroutine", "heap", "runtime"];
export const presets = [5, 10, 30, 60, 120] as const;

/**
 * What the dialog begins with. Ten seconds hold some thousand requests of a busy
 * service, which is what the rules need, and nobody likes to wait; the centre's own
 * default, for who does not say, is longer.
 */
export const defaultSpec = (): CaptureSpec => ({ durationSeconds: 10, kinds: [], fidelity: "full", traceWindowSeconds: 5, traceMaxBytes: 0, skipGc: false, lastSeconds: 0 });

/** What is wrong with a spec, by field. */
export interface SpecProblems {
  duration: boolean;
  traceWindow: boolean;
  kinds: boolean;
  last: boolean;
}

/** Judges what was typed; a field that the browser could not read is NaN or "". */
export function judge(s: CaptureSpec, chosen: readonly string[]): SpecProblems {
  const inRange = (v: unknown, max: number) => typeof v === "number" && Number.isFinite(v) && v >= 1 && v <= max;
  return {
    duration: !s.lastSeconds && !inRange(s.durationSeconds, maxSeconds),
    last: s.lastSeconds !== 0 && !inRange(s.lastSeconds, maxLastSeconds),
    traceWindow: !s.lastSeconds && chosen.includes("trace") && !inRange(s.traceWindowSeconds, maxTraceSeconds),
    kinds: chosen.length === 0,
  };
}

/** The kinds that nobody of total can collect. */
export const beyond = (n: ReadonlyMap<string, number>, total: number, full: readonly string[]): string[] => (total ? full.filter((k) => !n.get(k)) : []);

/** How many of the instances can collect each kind. An instance that does not say can do all. */
export function support(instances: readonly Instance[], full: readonly string[] = kinds): Map<string, number> {
  const n = new Map<string, number>(full.map((k) => [k, 0]));
  for (const i of instances) for (const k of i.kinds.length ? i.kinds : full) n.set(k, (n.get(k) ?? 0) + 1);
  return n;
}
