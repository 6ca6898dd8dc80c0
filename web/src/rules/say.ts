// Rules in the reader's language: what has to hold, what is done, how often at most,
// and why something happened. What an older agent says in English stays English.
import { locale } from "../i18n";
import { bytes, latency, span } from "../model/format";
import { quantity, type Entry, type Reason, type Rule, type Standing, type Step } from "./model";
import { t, table, tOr } from "./words";

// A name may be of either script: between two of Han there is no space.
const tight = (said: string): string => said.replace(/(\p{Script=Han}) (?=\p{Script=Han})/gu, "$1");

/** A number stays with its unit. */
const firm = (said: string): string => said.replace(/(\d) (?=\S)/g, "$1\u00a0");

/** Who wants a flight recorder on. */
export const wanted = (who: readonly string[]): string => who.map((w) => tOr(`wants.${w}`, w)).join(listed());

/** A time as the page has it: "88 ms", "6 h", "1 min 30 s". */
export const time = (s: number): string => (s >= 10 || s === Math.round(s) ? span(s, locale.value) : latency(s));

const comma = (): string => (locale.value === "en" ? ", " : "，");
const parted = (): string => (locale.value === "en" ? "; " : "；");
const listed = (): string => (locale.value === "en" ? ", " : "、");
const share = (v: number): string => quantity(v, "share");

/** What it is for: a preset's own words are known in every language. */
export function about(r: Pick<Rule, "name" | "about">): string {
  const key = `about.${r.name}`;
  return key in table && table[key as keyof typeof table][0] === r.about ? tOr(key, r.about) : r.about;
}

const metricName = (m: string): string => tOr(`metric.${m}`, m);
const callName = (name: string): string => (name === "*" ? t("calls.any") : name);

export function when(r: Rule): string {
  const c = r.condition;
  if (!c) return r.when;
  if (c.calls) {
    const p = { name: callName(c.calls), longer: time(c.longer), within: time(c.within), n: c.times, p: +(100 * c.quantile).toPrecision(4) };
    return firm(tight(c.quantile ? t("when.quantile", p) : c.times > 1 ? t("when.calls", p) : t("when.call", p)));
  }
  const parts: string[] = [];
  if (c.below) parts.push(`< ${quantity(c.level, r.unit)}`);
  else if (c.level) parts.push(`≥ ${quantity(c.level, r.unit)}`);
  if (c.timesUsual) parts.push(t("when.usual", { n: c.timesUsual }));
  if (c.hold) parts.push(t("when.hold", { time: time(c.hold) }));
  return firm(`${metricName(c.metric)} ${parts.join(comma())}`);
}

export const step = (s: Step): string => {
  const what = tOr(`do.${s.kind}`, s.kind).replace("{time}", time(s.time));
  const kinds = s.kinds.join(listed());
  return firm(kinds ? t("do.with", { what, kinds }) : what);
};

export function limits(r: Rule): string {
  const b = r.bounds;
  if (!b) return r.limits;
  const out = [t("limits.times", { n: b.times, per: time(b.per) }), t("limits.cooldown", { time: time(b.cooldown) })];
  if (b.stopAfter) out.push(t("limits.stop", { n: b.stopAfter }));
  if (b.maxMemory) out.push(t("limits.memory", { share: share(b.maxMemory) }));
  if (b.maxCpu) out.push(t("limits.cpu", { share: share(b.maxCpu) }));
  return firm(out.join(comma()));
}

const holding = ["call", "calls", "quantile", "metric"];

/** One part of a reason; now says that its countdown stands beside it. */
function part(r: Reason, now: boolean): string {
  const n = (k: string): number => r.numbers[k] ?? 0;
  const w = (k: string): string => r.words[k] ?? "";
  const call = t(w("line") ? "call.at" : "call.took", { name: w("name"), took: time(n("took")), line: w("line") });
  switch (r.code) {
    case "call":
      return t("why.call", { call, longer: time(n("longer")) });
    case "calls":
      return t("why.calls", { call, n: n("calls"), within: time(n("within")), longer: time(n("longer")) });
    case "quantile":
      return t("why.quantile", { call, share: share(n("share")), n: n("calls"), within: time(n("within")), longer: time(n("longer")), p: +(100 * n("quantile")).toPrecision(4) });
    case "metric": {
      const of = (k: string) => quantity(n(k), w("unit"));
      const out = [t("why.metric", { metric: metricName(w("metric")), value: of("value") })];
      if ("usual" in r.numbers) out.push(t("why.usual", { value: of("usual") }));
      if ("level" in r.numbers) out.push(t(w("side") === "below" ? "why.below" : "why.above", { value: of("level") }));
      if (n("hold")) out.push(t("when.hold", { time: time(n("hold")) }));
      return firm(out.join(comma()));
    }
    case "budget":
      return t("why.budget", { n: n("budget"), per: time(n("per")) });
    case "cooldown":
      return now ? t("why.cooling") : t("why.cooldown", { time: time(n("left")) });
    case "finished":
      return t("why.finished", { n: n("fired") });
    case "memory-ceiling":
    case "cpu-ceiling":
      return t(r.code === "memory-ceiling" ? "why.memory" : "why.cpu", { share: share(n("share")), ceiling: share(n("ceiling")) });
    case "other-acting":
      return t("why.acting", { rule: w("rule") });
    case "crowded":
      return t("why.crowded", { n: n("calls"), within: time(n("within")), longer: time(n("longer")) });
    case "no-room":
      return t("why.room", { error: w("error") });
    case "no-collect":
      return t("why.collect", { error: w("error") });
    case "dropped":
      return t("why.dropped", { n: n("captures"), size: bytes(n("bytes")) });
    case "ends":
      return t("why.ends");
    case "signal":
      return t("why.signal", { signal: w("signal") });
    case "panic":
      return t("why.panic", { value: w("value") });
  }
  return "";
}

function sentence(reasons: Reason[], otherwise: string, now: boolean): string {
  const parts = reasons.map((r) => part(r, now));
  if (!parts.length || parts.includes("")) return otherwise;
  return parts.reduce((said, p, i) => {
    const turns = holding.includes(reasons[i - 1]!.code) && !holding.includes(reasons[i]!.code);
    return turns ? t("why.nothing", { held: said, bar: p }) : said + parted() + p;
  });
}

/** Why a rule stands as it does on an instance. */
export const standingReason = (s: Standing): string => sentence(s.reasons, s.reason, true);
/** Why something happened. */
export const entryReason = (e: Entry): string => sentence(e.reasons, e.reason, false);
/** Why a rule cannot work on an instance. */
export const matchProblem = (m: { problem: string; code: string }): string => tOr(`problem.${m.code}`, m.problem);

const stages = ["fired", "collected", "refused", "archived", "diagnosed"];

/** Newest first; of one capture in the order of what happened to it, whoever was heard first. */
export function inOrder(entries: Entry[]): Entry[] {
  const stage = (e: Entry) => stages.indexOf(e.kind);
  const known = [...entries].sort((a, b) => stage(a) - stage(b));
  const last = new Map<string, number>();
  const at = new Map<Entry, number>();
  for (const e of known) {
    const when = Math.max(e.at, e.capture ? (last.get(e.capture) ?? 0) : 0);
    if (e.capture) last.set(e.capture, when);
    at.set(e, when);
  }
  return known.sort((a, b) => at.get(b)! - at.get(a)! || stage(b) - stage(a) || b.number - a.number);
}
