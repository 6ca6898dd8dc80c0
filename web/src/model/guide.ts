// The guide as data: which chapter tells of which trouble, what to capture for it,
// and where in a capture each step of reading leads.

export interface Step {
  /** What it says is the word "{chapter}.read.{n}". */
  n: number;
  tab: "diagnosis" | "flame" | "timeline" | "goroutines" | "metrics";
  query: Record<string, string>;
}

export interface Chapter {
  /** 0 is the healthy counter-example. */
  n: number;
  /** Kinds to capture; empty = everything. */
  kinds: string[];
  seconds: number;
  /** How many sentences say what it is not, and what to do. */
  nots: number;
  fixes: number;
  steps: Step[];
  /** The rule that takes the capture, where nobody can click in time; "" = somebody can. */
  rule?: string;
}

export const chapters: readonly Chapter[] = [
  { n: 1, kinds: ["cpu", "goroutine", "trace", "runtime"], seconds: 10, nots: 2, fixes: 4, steps: [{ n: 1, tab: "flame", query: { profile: "cpu" } }, { n: 2, tab: "metrics", query: {} }, { n: 3, tab: "diagnosis", query: {} }] },
  { n: 2, kinds: ["cpu", "goroutine", "block", "trace", "runtime"], seconds: 10, nots: 1, fixes: 4, steps: [
    { n: 1, tab: "flame", query: { profile: "cpu" } }, { n: 2, tab: "goroutines", query: { at: "record.(*Recorder).write|record.(*Recorder).work|record.(*Recorder).Record" } }, { n: 3, tab: "timeline", query: {} }, { n: 4, tab: "metrics", query: {} },
  ] },
  { n: 3, kinds: ["goroutine", "block", "trace", "runtime", "goroutine-dump"], seconds: 10, nots: 1, fixes: 3, steps: [
    { n: 1, tab: "flame", query: { profile: "block" } }, { n: 2, tab: "goroutines", query: { at: "ws.(*Hub).Broadcast|gateway.(*socket).Write" } }, { n: 3, tab: "goroutines", query: { at: "ws.(*Client).writeLoop" } },
  ] },
  { n: 4, kinds: ["cpu", "goroutine", "block", "mutex", "trace", "runtime"], seconds: 10, nots: 2, fixes: 3, steps: [
    { n: 1, tab: "flame", query: { profile: "mutex" } }, { n: 2, tab: "goroutines", query: { at: "game.SQLLimits.Remaining|game.(*Room).placeStrict" } }, { n: 3, tab: "timeline", query: {} },
  ] },
  { n: 5, kinds: [], seconds: 30, nots: 2, fixes: 3, steps: [{ n: 1, tab: "goroutines", query: { at: "gateway.(*Session).hold" } }, { n: 2, tab: "flame", query: { profile: "heap" } }, { n: 3, tab: "metrics", query: {} }] },
  { n: 6, kinds: ["trace", "goroutine", "runtime"], seconds: 10, nots: 3, fixes: 3, rule: "stall", steps: [{ n: 1, tab: "diagnosis", query: {} }, { n: 2, tab: "timeline", query: {} }, { n: 3, tab: "goroutines", query: {} }] },
];

export const healthy: Chapter = { n: 0, kinds: [], seconds: 10, nots: 0, fixes: 0, steps: [{ n: 1, tab: "diagnosis", query: { checked: "1" } }, { n: 2, tab: "goroutines", query: {} }, { n: 3, tab: "metrics", query: {} }] };

/** The rules that a chapter is about; all others have a page of their own. */
const chapterOf: Record<string, number> = { "cpu-password-hashing": 1, "downstream-wait": 2, "pool-exhausted": 2, "channel-backpressure": 3, "lock-held-across-io": 4, "lock-contention": 4, "goroutine-leak": 5, "heap-growth": 5, "slow-call": 6 };

/** Where the guide tells what a finding of the rule means. */
export function guideOf(rule: string): { name: string; params: Record<string, string> } {
  const n = chapterOf[rule];
  return n ? { name: "guide-chapter", params: { chapter: String(n) } } : { name: "guide-rule", params: { rule } };
}

export interface RulePage {
  rule: string;
  /** The chapter that tells of it; 0 = none. */
  scenario: number;
  name: string;
  means: string;
  evidence: string;
  thresholds: string;
  notThis: string;
  kinds: string[];
  related: string[];
}

/** What ops capture is asked on the command line. */
export const commandOf = (service: string, seconds: number, kinds: readonly string[]): string => `ops capture ${service} -d ${seconds}s${kinds.length ? ` --kinds ${kinds.join(",")}` : ""}`;
