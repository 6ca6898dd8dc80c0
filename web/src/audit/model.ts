// The record as the page shows it, and what of it is in the address.
import { clean, one, oneOf, type Query } from "../model/url";

export interface AuditStep {
  instance: string;
  result: string;
  message: string;
}

export interface AuditEntry {
  id: string;
  seq: number;
  hash: string;
  /** In ms; ended is 0 while it runs. */
  at: number;
  ended: number;
  actor: string;
  action: string;
  subject: string;
  project: string;
  service: string;
  instances: string[];
  reason: string;
  mutating: boolean;
  dryRun: boolean;
  key: string;
  request: string;
  result: string;
  message: string;
  answer: string;
  answerLost: boolean;
  steps: AuditStep[];
}

export interface Head {
  rows: number;
  hash: string;
}

export interface Report {
  head: Head;
  problems: { seq: number; text: string }[];
  more: number;
}

export const outcomes = ["ok", "failed", "partial", "refused", "cancelled", "unknown", "running"] as const;
export type Outcome = (typeof outcomes)[number];

export const spans = ["", "1h", "24h", "7d", "30d", "between"] as const;
export type Span = (typeof spans)[number];
const spanMs: Record<string, number> = { "1h": 3600e3, "24h": 86400e3, "7d": 7 * 86400e3, "30d": 30 * 86400e3 };

/** The verbs that are offered: what there is, and their families. */
export const verbs = ["control", "grpc", "capture"] as const;

export interface AuditView {
  /** Only what concerns this project; "" = everything. */
  project: string;
  text: string;
  actor: string;
  /** The verb, or its beginning up to a dot. */
  action: string;
  /** An instance's id, a service's name or a subject. */
  target: string;
  outcomes: Outcome[];
  /** Only what changes something. */
  changes: boolean;
  span: Span;
  /** Of "between", in ms; 0 = open. */
  from: number;
  to: number;
  /** The tokens of the pages turned so far; the last is the one shown. */
  pages: string[];
  /** The entry that is open. */
  id: string;
}

const time = (text: string): number => (/^\d{10,14}$/.test(text) ? Number(text) : 0);

export function parseAudit(q: Query): AuditView {
  const span = oneOf(spans, one(q, "time"), "");
  return {
    project: one(q, "project"), text: one(q, "q"), actor: one(q, "actor"), action: one(q, "action"), target: one(q, "target"),
    outcomes: outcomes.filter((o) => one(q, "outcome").split(",").includes(o)), changes: one(q, "changes") === "1", span,
    from: span === "between" ? time(one(q, "from")) : 0, to: span === "between" ? time(one(q, "to")) : 0,
    pages: one(q, "page").split(",").filter((p) => /^\d{1,18}$/.test(p)), id: /^[0-9a-z]{10,40}$/.test(one(q, "id")) ? one(q, "id") : "",
  };
}

export const formatAudit = (v: AuditView): Record<string, string> =>
  clean({
    project: v.project, q: v.text, actor: v.actor, action: v.action, target: v.target, outcome: v.outcomes.join(","), changes: v.changes ? "1" : "", time: v.span,
    from: v.span === "between" && v.from ? String(v.from) : "", to: v.span === "between" && v.to ? String(v.to) : "", page: v.pages.join(","), id: v.id,
  });

/** The stretch that is asked for, in ms; 0 = open. */
export function stretch(v: AuditView, now: number): { from: number; to: number } {
  if (v.span === "between") return { from: v.from, to: v.to };
  const back = spanMs[v.span];
  return { from: back ? now - back : 0, to: 0 };
}

export const narrowed = (v: AuditView): boolean => !!(v.project || v.text || v.actor || v.action || v.target || v.outcomes.length || v.changes || v.span);

const pad = (n: number) => String(n).padStart(2, "0");

/** A time as an input of the kind datetime-local has it, in the reader's zone; 0 = "". */
export function localInput(at: number): string {
  if (!at) return "";
  const d = new Date(at);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}T${pad(d.getHours())}:${pad(d.getMinutes())}`;
}

/** The reverse; what is no time is 0. */
export const fromLocalInput = (text: string): number => (text ? new Date(text).getTime() || 0 : 0);

/** The end of a record as it is noted elsewhere: "412:9f2c…"; null = it is none. */
export function parseHead(text: string): Head | null {
  const m = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text.trim());
  return m ? { rows: Number(m[1]), hash: m[2]! } : null;
}

export const headText = (h: Head): string => `${h.rows}:${h.hash}`;

/** Whom it was aimed at, in a few words: the service, and how many of it. */
export function targetText(e: AuditEntry, nameOf: (id: string) => string): string {
  if (e.instances.length === 1) return `${e.service || e.project} / ${nameOf(e.instances[0]!)}`;
  return e.instances.length ? `${e.service} ×${e.instances.length}` : e.service || e.project;
}

/** What an entry says beside its result: why it was done, and what came of it unless that is only "ok". */
export const storyOf = (e: AuditEntry): { reason: string; message: string } => ({ reason: e.reason, message: e.message === "ok" || e.message === e.reason ? "" : e.message });

/**
 * What became of it on each instance. A run of a control names every instance
 * that it reached: one that it does not name was skipped, unless nobody knows how
 * the run ended. A call that was refused reached none.
 */
export function stepsOf(e: AuditEntry): AuditStep[] {
  const told = new Map(e.steps.map((s) => [s.instance, s]));
  const rest = e.action !== "control.run" || e.result === "running" || e.result === "refused" ? "" : e.result === "unknown" ? "unknown" : "skipped";
  return [...new Set([...e.instances, ...told.keys()])].map((instance) => told.get(instance) ?? { instance, result: rest, message: "" });
}

/** Whether somebody has to look: nobody knows what it did. */
export const isOpenQuestion = (result: string): boolean => result === "unknown";
