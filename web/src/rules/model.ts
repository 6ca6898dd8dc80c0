// The rules page without its looks: what stands in the address, and values and
// times as words.
export interface RulesView {
  /** Whose instances and history are shown; "" = all. */
  project: string;
  /** Whose instances and history are shown; empty = all. */
  rule: string;
  /** The file in the editor; empty = closed, "new" = one that is not there yet. */
  edit: string;
}

type Query = Record<string, unknown>;
const one = (v: unknown): string => (typeof v === "string" ? v : "");

export const parseRules = (q: Query): RulesView => ({ project: one(q["project"]), rule: one(q["rule"]), edit: one(q["edit"]) });

export function formatRules(v: RulesView): Record<string, string> {
  const out: Record<string, string> = {};
  if (v.project) out["project"] = v.project;
  if (v.rule) out["rule"] = v.rule;
  if (v.edit) out["edit"] = v.edit;
  return out;
}

/** A part of a reason, without its words; times are in seconds. */
export interface Reason {
  code: string;
  numbers: Record<string, number>;
  words: Record<string, string>;
}

/** What has to hold; times are in seconds, 0 = not asked for. */
export interface Condition {
  metric: string;
  below: boolean;
  level: number;
  timesUsual: number;
  hold: number;
  calls: string;
  longer: number;
  quantile: number;
  times: number;
  within: number;
}

export interface Step {
  kind: string;
  time: number;
  kinds: string[];
}

export interface Bounds {
  times: number;
  per: number;
  cooldown: number;
  stopAfter: number;
  maxMemory: number;
  maxCpu: number;
}

export interface Standing {
  instance: string;
  service: string;
  address: string;
  standing: string;
  reason: string;
  value: number;
  holdsSince: number;
  fired: number;
  refused: number;
  used: number;
  freeAt: number;
  reasons: Reason[];
}

export interface Rule {
  name: string;
  about: string;
  enabled: boolean;
  file: string;
  line: number;
  when: string;
  does: string[];
  limits: string;
  unit: string;
  budget: number;
  standings: Standing[];
  condition?: Condition | undefined;
  steps: Step[];
  bounds?: Bounds | undefined;
}

export interface RuleFile {
  name: string;
  text: string;
  error: string;
  rules: Rule[];
}

export interface Recorder {
  instance: string;
  service: string;
  keeps: number;
  maxBytes: number;
  since: number;
  wantedBy: string[];
  lastBytes: number;
  lastTook: number;
  refused: string;
}

export interface Entry {
  number: number;
  at: number;
  service: string;
  instance: string;
  rule: string;
  kind: string;
  reason: string;
  reasons: Reason[];
  capture: string;
  verdict: Record<string, string>;
  severity: string;
}

export interface Check {
  error: string;
  line: number;
  rules: { rule: Rule; matches: { instance: string; service: string; address: string; holds: boolean; problem: string; code: string }[] }[];
}

/** How often each state occurs, the one that needs a look first. */
export function tally(standings: Standing[]): { standing: string; n: number }[] {
  return ["refused", "acting", "throttled", "finished", "running", ""].map((standing) => ({ standing, n: standings.filter((s) => s.standing === standing).length })).filter((x) => x.n > 0);
}

const digits = (v: number, n = 3): string => String(Number(v.toPrecision(n)));

/** A value of a metric with its unit. */
export function quantity(v: number, unit: string): string {
  switch (unit) {
    case "share":
      return `${digits(100 * v)} %`;
    case "seconds":
      return v >= 1 ? `${digits(v)} s` : v >= 0.001 ? `${digits(1000 * v)} ms` : `${digits(1e6 * v)} µs`;
    case "bytes":
      return `${digits(v / 1048576, 4)} MiB`;
    case "bytes per second":
      return `${digits((v * 60) / 1048576)} MiB/min`;
  }
  return digits(v, 4);
}

/** A countdown: "1:05:09", "0:42". */
export function clock(ms: number): string {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  const two = (n: number) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
}

export const toneOf = (word: string): string => ({ fired: "busy", refused: "bad", dropped: "bad", acting: "busy", throttled: "warn", running: "good", diagnosed: "good" })[word] ?? "";

/** Whether something of a service, written "project/service", is of the project; "" = all are. */
export const inProject = (service: string, project: string): boolean => !project || service.startsWith(`${project}/`);

/** Whether a rule takes what the flight recorder holds, which is on for as long as the rule is. */
export const takesPast = (r: Pick<Rule, "steps">): boolean => r.steps.some((s) => s.kind === "flight");
