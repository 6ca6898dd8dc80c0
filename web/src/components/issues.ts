// What is wrong with an instance, in words.
import { locale } from "../i18n";
import { cores, count, dateTime, latency, percent, shortSpan, span } from "../model/format";
import { releaseName, type Release } from "../model/fleet";
import { worstIssue } from "../model/health";
import type { HealthIssue, Instance } from "../model/instance";
import { t, tn } from "../pages/fleet/words";

const times = (v: number) => (v < 9.95 ? v.toFixed(1).replace(/\.0$/, "") : v.toFixed(0));

const formats: Record<string, (v: number) => string> = {
  cpu: percent, throttled: percent, memory: percent, goroutines: times, "sched-latency": latency, "pool-waiters": count, "mutex-wait": cores, "heap-growth": times, "heap-slope": times, "goroutines-slope": times, "goroutines-stand": times, restarts: count, flapping: count, heartbeat: (v) => span(v, locale.value),
};

/** The check's number as people read it. */
export const issueNumber = (check: string, v: number): string => (formats[check] ?? cores)(v);

/** "CPU 91 % > 85 %". */
export function issueText(i: HealthIssue): string {
  const params = { check: i.check, v: issueNumber(i.check, i.value), t: issueNumber(i.check, i.threshold) };
  switch (i.check) {
    case "cpu": case "throttled": case "memory": case "goroutines": case "sched-latency": case "pool-waiters": case "mutex-wait": case "heap-growth": case "heap-slope": case "goroutines-slope": case "goroutines-stand": case "restarts": case "flapping": case "heartbeat":
      // A check that fired lets go a little below its threshold only.
      return i.value > i.threshold || i.check === "heartbeat" ? t(`issue.${i.check}`, params) : t(`issue.${i.check}`, params).replace(" > ", t("issue.was")).replace("＞", t("issue.was"));
    default:
      return t("issue.other", params); // a newer centre's
  }
}

/** All that is wrong, a line each, with how long. */
export const issueLines = (i: Instance, now: number): string[] =>
  (i.health?.issues ?? []).map((x) => `${issueText(x)}${x.since ? ` · ${t("issue.for", { span: span((now - x.since) / 1000, locale.value) })}` : ""}`);

/** What a row tells beside its condition, and how long it has been so. */
export function rowReason(i: Instance, now: number): { text: string; age: string; more: string } {
  const age = (since: number) => (since ? shortSpan((now - since) / 1000, locale.value) : "");
  const issue = worstIssue(i);
  if (!issue) return { text: i.state === "up" ? "" : reasonText(i.stateReason), age: age(i.stateSince), more: "" };
  const rest = i.health!.issues.length - 1;
  return { text: issueText(issue), age: age(issue.since), more: rest ? tn("issue.more", rest) : "" };
}

/** What runs side by side, a line each: "v1.5 (3f2a1b9c0d) ×3 since 09:10". */
export const releaseLines = (all: Release[]): string[] =>
  all.map((r) => t("version.of", { version: releaseName(r) || "?", n: r.n, at: r.since ? dateTime(r.since) : "?" }));

/** Who says that an instance is not up; "" = nobody, or the reason tells it already. */
export function saysText(i: Pick<Instance, "stateReason" | "stateSays">): string {
  switch (i.stateSays) {
    case "":
      return "";
    case "centre":
      return t("says.centre");
    case "process":
      return t("says.process");
    default:
      return i.stateReason.includes(i.stateSays) ? "" : t("says.source", { who: i.stateSays });
  }
}

/** Of who is not up: why, since when, and who says so. */
export const stateStory = (i: Instance): string => [reasonText(i.stateReason), i.stateSince ? t("since", { at: dateTime(i.stateSince) }) : "", saysText(i)].filter(Boolean).join(" · ");

/** Why an instance is in its state. The centre's sentences are known; what a source said of its own is told as it is. */
export function reasonText(reason: string): string {
  const silent = /^no heartbeat for (\d+)s$/.exec(reason);
  if (silent) return t("reason.silent", { span: span(Number(silent[1]), locale.value) });
  switch (reason) {
    case "connection lost":
      return t("reason.lost");
    case "not heard of since the centre restarted":
      return t("reason.restarted");
    case "clean exit":
      return t("reason.clean");
    case "likely OOM":
      return t("reason.oom");
    case "vanished":
      return t("reason.vanished");
    default:
      return reason;
  }
}
