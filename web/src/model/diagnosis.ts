// What the rules say of a capture, as the page speaks of it. The document is
// docs/formats/diagnosis.schema.json; a bundle may bring one from elsewhere, so
// whatever is not of the right type is taken as missing.
import { kinds as kindOrder, type Artifact, type CaptureSpec, type Loss } from "./capture";
import { defaultSpec, maxSeconds, maxTraceSeconds } from "./spec";

export const severities = ["critical", "warning", "notice"] as const;
export type Severity = (typeof severities)[number];
export type Confidence = "high" | "medium" | "low" | "";
export type Verdict = "found" | "ok" | "could_not_check" | "not_applicable";

export interface Place {
  role: string;
  function: string;
  file: string;
  /** 0 = unknown. */
  line: number;
}

export interface Proof {
  /** The kind of the artifact that it was read from. */
  artifact: string;
  /** Of the artifact's total, 0 to 1; 0 = it has none. */
  share: number;
  text: string;
  /** Where in the trace one sees it. */
  moment: Moment | null;
  /** Where in a profile or a snapshot: in the stacks that go through any of these; empty = in all of it. */
  at: Seen[];
  /** Of what the figure is: "s", "bytes", "cores". */
  unit: string;
}

/** A function, or a line of it; 0 = all of it. */
export interface Seen {
  function: string;
  line: number;
}

export interface Moment {
  /** Since the trace began. */
  fromSeconds: number;
  toSeconds: number;
  /** The one that shows it best first. */
  goroutines: number[];
}

export interface NextCapture {
  kinds: string[];
  /** 0 = as long as one likes. */
  seconds: number;
  /** "" = the usual. */
  fidelity: string;
  command: string;
  /** Where the one to capture is reached: a service's name or a host; "" = the same instance. */
  remote: string;
}

export interface Finding {
  id: string;
  rule: string;
  severity: Severity;
  score: number;
  confidence: Confidence;
  title: string;
  summary: string;
  explanation: string;
  remedies: string[];
  /** The line to change first is the first one. */
  where: Place[];
  evidence: Proof[];
  counterEvidence: Proof[];
  /** The id of the finding that this one is an effect of; "" = none. */
  causedBy: string;
  nextCapture: NextCapture | null;
}

export interface Check {
  rule: string;
  verdict: Verdict;
  reason: string;
  nextCapture: NextCapture | null;
}

export interface Diagnosis {
  rules: string;
  instance: { id: string; go: string; gomaxprocs: number };
  seconds: number;
  findings: Finding[];
  checked: Check[];
  losses: Loss[];
}

export interface Outlier {
  instance: string;
  metric: string;
  text: string;
}

export interface DiagnosisSet {
  instances: Diagnosis[];
  outliers: Outlier[];
}

type Fields = Record<string, unknown>;

const fields = (v: unknown): Fields => (v !== null && typeof v === "object" ? (v as Fields) : {});
const text = (v: unknown): string => (typeof v === "string" ? v : "");
const num = (v: unknown): number => (typeof v === "number" && Number.isFinite(v) ? v : 0);
const list = <T>(v: unknown, read: (f: Fields) => T): T[] => (Array.isArray(v) ? v.map((x) => read(fields(x))) : []);
const texts = (v: unknown): string[] => (Array.isArray(v) ? v.map(text).filter(Boolean) : []);
const oneOf = <T extends string>(values: readonly T[], v: unknown, otherwise: T): T => ((values as readonly unknown[]).includes(v) ? (v as T) : otherwise);

const place = (f: Fields): Place => ({ role: text(f["role"]), function: text(f["function"]), file: text(f["file"]), line: num(f["line"]) });
const proof = (f: Fields): Proof => ({ artifact: text(f["artifact"]), share: Math.min(1, Math.max(0, num(f["share"]))), text: text(f["text"]), moment: moment(f["moment"]), at: list(f["at"], (a) => ({ function: text(a["function"]), line: num(a["line"]) })).filter((a) => a.function), unit: text(f["unit"]) });

function moment(v: unknown): Moment | null {
  if (typeof v !== "object" || v === null) return null;
  const f = v as Fields;
  const [from, to] = [num(f["from_seconds"]), num(f["to_seconds"])];
  const ids = f["goroutines"];
  return to > from && from >= 0 ? { fromSeconds: from, toSeconds: to, goroutines: Array.isArray(ids) ? ids.filter((id): id is number => Number.isSafeInteger(id) && id > 0) : [] } : null;
}

function nextCapture(v: unknown): NextCapture | null {
  const f = fields(v);
  const kinds = texts(f["kinds"]);
  return kinds.length || text(f["command"]) ? { kinds, seconds: num(f["seconds"]), fidelity: text(f["fidelity"]), command: text(f["command"]), remote: text(f["remote"]) } : null;
}

const finding = (f: Fields): Finding => ({
  id: text(f["id"]), rule: text(f["rule"]), severity: oneOf(severities, f["severity"], "notice"), score: num(f["score"]), confidence: oneOf(["high", "medium", "low", ""] as const, f["confidence"], ""),
  title: text(f["title"]), summary: text(f["summary"]), explanation: text(f["explanation"]), remedies: texts(f["remedies"]),
  where: list(f["where"], place), evidence: list(f["evidence"], proof), counterEvidence: list(f["counter_evidence"], proof),
  causedBy: text(f["caused_by"]), nextCapture: nextCapture(f["next_capture"]),
});

// A verdict that this page does not know must not pass for "fine".
const check = (f: Fields): Check => ({ rule: text(f["rule"]), verdict: oneOf(["found", "ok", "not_applicable", "could_not_check"] as const, f["verdict"], "could_not_check"), reason: text(f["reason"]), nextCapture: nextCapture(f["next_capture"]) });

function diagnosis(f: Fields): Diagnosis {
  const i = fields(f["instance"]);
  return {
    rules: text(f["rules"]), instance: { id: text(i["id"]), go: text(i["go"]), gomaxprocs: num(i["gomaxprocs"]) }, seconds: num(fields(f["window"])["seconds"]),
    findings: list(f["findings"], finding), checked: list(f["checked"], check),
    losses: list(f["losses"], (l) => ({ kind: text(l["artifact"]), reason: text(l["reason"]), message: text(l["message"]) })),
  };
}

/** Reads one diagnosis or a set of them; throws a sentence for people. */
export function parseDiagnosis(json: string): DiagnosisSet {
  let f: Fields;
  try {
    f = fields(JSON.parse(json));
  } catch {
    throw new Error("the diagnosis is not JSON: reload the page, and if that does not help, look at the centre's log");
  }
  if (f["schema"] === "opscenter.diagnosis/v1") return { instances: [diagnosis(f)], outliers: [] };
  if (f["schema"] === "opscenter.diagnosis-set/v1")
    return { instances: list(f["instances"], diagnosis), outliers: list(f["fleet"], (o) => ({ instance: text(o["instance"]), metric: text(o["metric"]), text: text(o["text"]) })) };
  throw new Error(`the diagnosis is of a format that this page does not know (${text(f["schema"]) || "none"}): reload the page`);
}

/** The heaviest first; equal ones by id, so that the order is the same for everybody. */
export function byWeight(a: Finding, b: Finding): number {
  return severities.indexOf(a.severity) - severities.indexOf(b.severity) || b.score - a.score || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

export interface Cause {
  finding: Finding;
  /** What it leads to, and what that leads to. */
  effects: Finding[];
}

const heaviest = (c: Cause): Finding => [c.finding, ...c.effects].sort(byWeight)[0]!;

/**
 * Findings as causes, each with its effects. A cause weighs as much as the
 * heaviest of its effects. What names a cause that is not there, or leads back
 * to itself, stands for itself: no finding is ever left out.
 */
export function causesOf(findings: readonly Finding[]): Cause[] {
  const byId = new Map(findings.map((f) => [f.id, f]));
  const rootOf = (f: Finding): Finding => {
    const seen = new Set([f]);
    for (let at = f; ; ) {
      const up = byId.get(at.causedBy);
      if (!up) return at;
      if (seen.has(up)) return f;
      seen.add(up);
      at = up;
    }
  };
  const groups = new Map<Finding, Finding[]>();
  for (const f of findings) {
    const root = rootOf(f);
    const effects = groups.get(root) ?? [];
    groups.set(root, effects);
    if (f !== root) effects.push(f);
  }
  return [...groups].map(([finding, effects]) => ({ finding, effects: effects.sort(byWeight) })).sort((a, b) => byWeight(heaviest(a), heaviest(b)) || byWeight(a.finding, b.finding));
}

export interface Counts {
  /** Causes by severity; effects are counted apart. */
  critical: number;
  warning: number;
  notice: number;
  effects: number;
}

export function countsOf(causes: readonly Cause[]): Counts {
  const n: Counts = { critical: 0, warning: 0, notice: 0, effects: 0 };
  for (const c of causes) {
    n[c.finding.severity]++;
    n.effects += c.effects.length;
  }
  return n;
}

/** Rules that lack the same evidence, and the capture that would bring it. */
export interface Gap {
  next: NextCapture | null;
  checks: Check[];
}

export interface Ledger {
  ok: Check[];
  notApplicable: Check[];
  /** Found, but told as part of a finding of another rule. */
  elsewhere: Check[];
  gaps: Gap[];
  blind: number;
}

const rank = (kind: string): number => {
  const n = (kindOrder as readonly string[]).indexOf(kind);
  return n < 0 ? kindOrder.length : n;
};
const ordered = (kinds: Iterable<string>): string[] => [...new Set(kinds)].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));

/** What every rule came to, apart from the findings themselves. */
export function ledgerOf(d: Diagnosis): Ledger {
  const told = new Set(d.findings.map((f) => f.rule));
  const gaps = new Map<string, Gap>();
  const blind = d.checked.filter((c) => c.verdict === "could_not_check");
  for (const c of blind) {
    const n = c.nextCapture;
    const key = n ? [ordered(n.kinds).join(), n.seconds, n.fidelity].join("/") : "";
    const gap = gaps.get(key) ?? { next: n && { ...n, kinds: ordered(n.kinds) }, checks: [] };
    gaps.set(key, gap);
    gap.checks.push(c);
  }
  return {
    ok: d.checked.filter((c) => c.verdict === "ok"),
    notApplicable: d.checked.filter((c) => c.verdict === "not_applicable"),
    elsewhere: d.checked.filter((c) => c.verdict === "found" && !told.has(c.rule)),
    // What settles most questions first; what no capture can settle last.
    gaps: [...gaps.values()].sort((a, b) => Number(!a.next) - Number(!b.next) || b.checks.length - a.checks.length),
    blind: blind.length,
  };
}

/** The one capture that answers all of them; null where there are not two. */
export function mergeNext(gaps: readonly Gap[]): NextCapture | null {
  const all = gaps.flatMap((g) => (g.next ? [g.next] : []));
  if (all.length < 2) return null;
  const fidelities = new Set(all.map((n) => n.fidelity).filter(Boolean));
  return { kinds: ordered(all.flatMap((n) => n.kinds)), seconds: Math.max(...all.map((n) => n.seconds)), fidelity: fidelities.size > 1 ? "full" : ([...fidelities][0] ?? ""), command: "", remote: "" };
}

/** What the capture dialog is filled with for it; what it leaves open is as in the capture that raised the question. */
export function specFor(n: NextCapture, asked: CaptureSpec): CaptureSpec {
  const seconds = Math.min(maxSeconds, Math.max(1, Math.ceil(n.seconds || asked.durationSeconds || defaultSpec().durationSeconds)));
  return { ...defaultSpec(), kinds: n.kinds, durationSeconds: seconds, fidelity: n.fidelity || asked.fidelity || defaultSpec().fidelity, traceWindowSeconds: Math.min(maxTraceSeconds, asked.traceWindowSeconds || defaultSpec().traceWindowSeconds) };
}

/** The diagnoses of several instances, the worst first; equal ones keep their order. */
export function worstFirst(all: readonly Diagnosis[]): { diagnosis: Diagnosis; causes: Cause[] }[] {
  const rows = all.map((diagnosis) => ({ diagnosis, causes: causesOf(diagnosis.findings) }));
  const weight = (causes: Cause[]): [number, number] => {
    const top = causes[0] && heaviest(causes[0]);
    return top ? [severities.indexOf(top.severity), -top.score] : [severities.length, 0];
  };
  return rows.sort((a, b) => {
    const [x, y] = [weight(a.causes), weight(b.causes)];
    return x[0] - y[0] || x[1] - y[1];
  });
}

/**
 * What it comes to in a word. Where most rules lacked evidence, finding nothing
 * says little: that is not fine but unclear.
 */
export function verdictOf(d: Diagnosis, causes: readonly Cause[]): Severity | "fine" | "unclear" {
  if (causes[0]) return heaviest(causes[0]).severity;
  return ledgerOf(d).blind * 2 >= d.checked.length ? "unclear" : "fine";
}

/** In how many of the instances each finding is, by its id. */
export function spread(all: readonly Diagnosis[]): Map<string, number> {
  const n = new Map<string, number>();
  for (const d of all) for (const id of new Set(d.findings.map((f) => f.id))) n.set(id, (n.get(id) ?? 0) + 1);
  return n;
}

/** "room.go:24", or what is known of it. */
export const placeOf = (p: Place): string => (p.file ? (p.line ? `${p.file}:${p.line}` : p.file) : shortFunction(p.function));

/** A function without the path of its package: "game.(*Room).PlaceBet". */
export const shortFunction = (name: string): string => {
  // What stands in parentheses and brackets has paths of its own.
  const end = name.search(/[([]/);
  return name.slice(name.lastIndexOf("/", end < 0 ? name.length : end) + 1);
};

/** A sentence in pieces: what stands between backticks is code. A backtick without its other half is a backtick. */
export function pieces(s: string): { text: string; code: boolean }[] {
  const parts = s.split("`");
  if (parts.length % 2 === 0) {
    const rest = parts.pop()!;
    parts.push(`${parts.pop()!}\`${rest}`);
  }
  return parts.map((text, n) => ({ text, code: n % 2 === 1 })).filter((p) => p.text !== "");
}

/** The proofs of a finding by the artifact that they were read from and where in it one sees them, in the order of their first mention. */
export function bySight(proofs: readonly Proof[]): { key: string; kind: string; proofs: Proof[] }[] {
  const m = new Map<string, Proof[]>();
  for (const p of proofs) {
    const key = JSON.stringify([p.artifact, p.at, p.moment]);
    m.set(key, [...(m.get(key) ?? []), p]);
  }
  return [...m].map(([key, proofs]) => ({ key, kind: proofs[0]!.artifact, proofs }));
}

/** Whether a proof's share is one of the file that it was read from, rather than of cores or of a limit. */
export const ofFile = (p: Proof): boolean => ["s", "bytes", "B", "goroutines", "objects"].includes(p.unit);

/** The part of a timeline's address that shows what the proofs of a trace speak of: a moment with some room around it. */
export function momentQuery(proofs: readonly Proof[]): Record<string, string> {
  const m = proofs.find((p) => p.moment)?.moment;
  if (!m) return {};
  const room = Math.max((m.toSeconds - m.fromSeconds) * 0.3, 10e-6);
  const ms = (seconds: number) => String(Math.round(Math.max(0, seconds) * 1e9) / 1e6);
  const [first, ...others] = m.goroutines;
  return {
    t: `${ms(m.fromSeconds - room)}-${ms(m.toSeconds + room)}`,
    ...(first ? { g: String(first), at: ms((m.fromSeconds + m.toSeconds) / 2) } : {}),
    ...(others.length ? { pin: [first, ...others].join(",") } : {}),
  };
}

/** The file of a kind that people want: not one of its raw ends. */
export function fileOf(artifacts: readonly Artifact[], kind: string): Artifact | undefined {
  const all = artifacts.filter((a) => a.kind === kind);
  return all.find((a) => !/\.(before|after)\.[a-z]+$/.test(a.name)) ?? all.at(-1);
}

/** The expression by which pprof shows what went through any of the places; "" = everything. */
export function focusOf(at: readonly Seen[]): string {
  const names = [...new Set(at.map((p) => p.function).filter(Boolean))];
  // The rules may leave out the path of the package, profiles do not.
  return names.length ? `(^|/)(${names.map((n) => n.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|")})$` : "";
}

/** Places as the goroutines' address has them. */
export const placesQuery = (at: readonly Seen[]): string => at.map((p) => (p.line ? `${p.function}:${p.line}` : p.function)).join("|");
