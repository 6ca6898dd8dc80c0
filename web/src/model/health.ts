// How an instance does, as the centre judged it: what its row is called, how
// bad that is, and which of its numbers the verdict is about. No thresholds
// here: the centre has them, and sends them with what they found.
import type { Health, HealthIssue, Instance } from "./instance";

export type Level = "" | "warn" | "bad";

/** What a row is called: its state, or, where it is up, how it does. */
export const conditions = ["critical", "warning", "suspect", "ok", "gone"] as const;
export type Condition = (typeof conditions)[number];

export function conditionOf(i: Instance): Condition {
  if (i.state !== "up") return i.state;
  const level = i.health?.level;
  return level === "critical" || level === "warning" ? level : "ok";
}

/** Orders conditions: the worse, the higher; the dead are below the living. */
export const weight: Record<Condition, number> = { critical: 4, suspect: 3, warning: 2, ok: 1, gone: 0 };

export const toneOf = (level: string): Level => (level === "critical" ? "bad" : level === "warning" ? "warn" : "");

/** The worst that the centre says about any of these checks. */
export function flagOf(health: Health | null, ...checks: string[]): Level {
  const found = health?.issues.find((i) => checks.includes(i.check));
  return found ? toneOf(found.level) : "";
}

/** The issue that a row tells: a silence is told by the state already, that it comes and goes is not. */
export const worstIssue = (i: Instance): HealthIssue | undefined => (i.state === "up" ? i.health?.issues[0] : i.health?.issues.find((x) => x.check === "flapping"));
