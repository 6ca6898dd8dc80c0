// How a process ended, in words and in colour.
import { locale, t } from "../i18n";
import { ago, bytes, span } from "../model/format";
import type { Predecessor } from "../model/instance";

export function verdictWord(p: Predecessor): string {
  switch (p.verdict) {
    case "likely OOM":
      return t("verdict.oom");
    case "clean exit":
      return t("verdict.clean");
    case "vanished":
      return t("verdict.vanished");
    default:
      return p.verdict;
  }
}

export const verdictTone = (p: Predecessor): "bad" | "warn" | "" => (p.verdict === "likely OOM" ? "bad" : p.verdict === "clean exit" ? "" : "warn");

/** The whole story in a sentence. */
export function verdictStory(p: Predecessor, now: number): string {
  const more = { ago: ago(p.ended, now, locale.value), verdict: verdictWord(p), uptime: span(p.uptimeSeconds, locale.value), rss: bytes(p.lastRssBytes), limit: bytes(p.memoryLimitBytes) };
  return t(p.memoryLimitBytes ? "fleet.predecessor.detail" : "fleet.predecessor.detail.noLimit", more);
}
