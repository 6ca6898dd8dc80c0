// What a timeline shows, to and from its part of the query. Times in addresses are
// milliseconds since the trace began, with as many digits as they have.
import type { Query } from "../url";
import { isClass, type StateClass } from "./states";
import type { Range } from "./window";

export interface TimelineState {
  /** null = the whole trace. */
  range: Range | null;
  /** The goroutine that is looked at; 0 = none. */
  goroutine: number;
  /** A time within the interval of it that is looked at; negative = its longest wait. */
  at: number;
  procs: boolean;
  /** Functions of the groups that are open. */
  open: string[];
  pinned: number[];
  only: StateClass[];
  selection: (Range & { tracks: string[] }) | null;
  marks: number[];
}

export const fresh: TimelineState = { range: null, goroutine: 0, at: -1, procs: false, open: [], pinned: [], only: [], selection: null, marks: [] };

const one = (q: Query, key: string): string => {
  const v = q[key];
  return (Array.isArray(v) ? v[0] : v) ?? "";
};
const list = (q: Query, key: string): string[] => one(q, key).split(",").filter(Boolean);
const names = (q: Query, key: string): string[] =>
  list(q, key).map((s) => {
    try {
      return decodeURIComponent(s);
    } catch {
      return s;
    }
  });

/** What separates names is escaped; the rest reads better as it is. */
const escaped = (s: string): string => s.replaceAll("%", "%25").replaceAll(",", "%2C");

const ms = (ns: number): string => String(Math.round(ns) / 1e6);
const ns = (text: string): number => (text.trim() === "" ? NaN : Math.round(Number(text) * 1e6));

function range(text: string): Range | null {
  const [from, to] = text.split("-").map(ns);
  return from !== undefined && to !== undefined && Number.isFinite(from) && Number.isFinite(to) && from >= 0 && to > from ? { from, to } : null;
}

const id = (text: string): number => (/^[1-9]\d{0,15}$/.test(text) ? Number(text) : 0);

export const keys = ["t", "g", "at", "ps", "groups", "pin", "only", "sel", "of", "mark"] as const;

export function parseTimeline(q: Query): TimelineState {
  const selected = range(one(q, "sel"));
  const at = ns(one(q, "at"));
  return {
    range: range(one(q, "t")),
    goroutine: id(one(q, "g")),
    at: Number.isFinite(at) && at >= 0 ? at : -1,
    procs: one(q, "ps") === "1",
    open: names(q, "groups"),
    pinned: list(q, "pin").map(id).filter(Boolean),
    only: list(q, "only").filter(isClass),
    selection: selected && { ...selected, tracks: names(q, "of") },
    marks: list(q, "mark").map(ns).filter((v) => Number.isFinite(v) && v >= 0),
  };
}

export function formatTimeline(s: TimelineState): Record<string, string> {
  const all: Record<(typeof keys)[number], string> = {
    t: s.range ? `${ms(s.range.from)}-${ms(s.range.to)}` : "",
    g: s.goroutine ? String(s.goroutine) : "",
    at: s.goroutine && s.at >= 0 ? ms(s.at) : "",
    ps: s.procs ? "1" : "",
    groups: s.open.map(escaped).join(","),
    pin: s.pinned.join(","),
    only: s.only.join(","),
    sel: s.selection ? `${ms(s.selection.from)}-${ms(s.selection.to)}` : "",
    of: s.selection ? s.selection.tracks.map(escaped).join(",") : "",
    mark: s.marks.map(ms).join(","),
  };
  return Object.fromEntries(Object.entries(all).filter(([, v]) => v !== ""));
}
