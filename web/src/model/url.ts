// The URL is the state: what each page shows, to and from its query. Defaults
// are left out, so that a fresh page has a clean address.
import { captureStates, type CaptureState } from "./capture";
import { formatColumns, parseColumns, type ColumnKey } from "./columns";
import { conditions } from "./health";
import { defaultView, groupings, sortKeys, type FleetView } from "./fleet";

/** A query as the router has it. */
export type Query = Record<string, string | null | undefined | (string | null)[]>;

const idPattern = /^[0-9a-z-]{4,40}$/;

export const one = (q: Query, key: string): string => {
  const v = q[key];
  return (Array.isArray(v) ? v[0] : v) ?? "";
};

export const oneOf = <T extends string>(values: readonly T[], v: string, otherwise: T): T => ((values as readonly string[]).includes(v) ? (v as T) : otherwise);

export const clean = (q: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(q).filter(([, v]) => v !== ""));

export interface FleetState extends FleetView {
  /** Ids of the collapsed groups. */
  closed: string[];
  columns: ColumnKey[];
}

export function parseFleet(q: Query): FleetState {
  return {
    text: one(q, "q"),
    project: one(q, "project"),
    service: one(q, "service"),
    version: one(q, "version"),
    state: oneOf([...conditions, "trouble", ""] as const, one(q, "state"), ""),
    group: oneOf(groupings, one(q, "group"), defaultView.group),
    sort: oneOf(sortKeys, one(q, "sort").replace(/^-/, ""), defaultView.sort),
    // A direction without a column that we know is nobody's wish.
    desc: (sortKeys as readonly string[]).includes(one(q, "sort").replace(/^-/, "")) && one(q, "sort").startsWith("-"),
    closed: one(q, "closed").split(",").filter(Boolean).map(decodeURIComponentSafely),
    columns: parseColumns(one(q, "cols")),
  };
}

export function formatFleet(s: FleetState): Record<string, string> {
  const sort = (s.desc ? "-" : "") + s.sort;
  return clean({
    q: s.text,
    project: s.project,
    service: s.service,
    version: s.version,
    state: s.state,
    group: s.group === defaultView.group ? "" : s.group,
    sort: sort === defaultView.sort ? "" : sort,
    closed: s.closed.map(encodeURIComponent).join(","),
    cols: formatColumns(s.columns),
  });
}

function decodeURIComponentSafely(s: string): string {
  try {
    return decodeURIComponent(s);
  } catch {
    return s;
  }
}

export const ranges = ["live", "15m", "1h", "6h", "24h", "7d", "30d"] as const;
export type Range = (typeof ranges)[number];

export const rangeMs: Record<Range, number> = { live: 5 * 60e3, "15m": 900e3, "1h": 3600e3, "6h": 6 * 3600e3, "24h": 86400e3, "7d": 7 * 86400e3, "30d": 30 * 86400e3 };

/** What the instance page shows: a range that ends now, or a fixed stretch that someone zoomed into. */
export interface InstanceState {
  range: Range;
  /** Milliseconds; 0 and 0 = the range, live. */
  from: number;
  to: number;
}

export function parseInstance(q: Query): InstanceState {
  const from = Number(one(q, "from"));
  const to = Number(one(q, "to"));
  const fixed = Number.isFinite(from) && Number.isFinite(to) && from > 0 && to > from;
  return { range: oneOf(ranges, one(q, "range"), "1h"), from: fixed ? from : 0, to: fixed ? to : 0 };
}

export function formatInstance(s: InstanceState): Record<string, string> {
  return clean({ range: s.range === "1h" ? "" : s.range, from: s.from ? String(Math.round(s.from)) : "", to: s.to ? String(Math.round(s.to)) : "" });
}

/** The verdicts by which captures can be filtered; none = nothing was found. */
export const captureSeverities = ["critical", "warning", "notice", "none"] as const;

/** What the capture list shows. */
export interface CapturesState {
  project: string;
  service: string;
  instance: string;
  /** "" = all; "running" = those that have not ended. */
  state: CaptureState | "running" | "";
  /** Words that must all occur. */
  text: string;
  severity: (typeof captureSeverities)[number] | "";
  /** These and no others; empty = all. */
  ids: string[];
  /** The tokens of the pages turned so far; the last is the one shown. */
  pages: string[];
}

/** As many captures as are asked for one by one. */
const maxIds = 50;

/** Ids of captures, as a list of an address has them. */
export const captureIds = (text: string): string[] => [...new Set(text.split(",").filter((id) => idPattern.test(id)))].slice(0, maxIds);

export function parseCaptures(q: Query): CapturesState {
  return { project: one(q, "project"), service: one(q, "service"), instance: one(q, "instance"), state: oneOf([...captureStates, "running", ""] as const, one(q, "state"), ""), text: one(q, "q"), severity: oneOf([...captureSeverities, ""] as const, one(q, "verdict"), ""), ids: captureIds(one(q, "ids")), pages: one(q, "page").split(",").filter(Boolean) };
}

export function formatCaptures(s: CapturesState): Record<string, string> {
  return clean({ q: s.text, project: s.project, service: s.service, instance: s.instance, state: s.state, verdict: s.severity, ids: s.ids.join(), page: s.pages.join(",") });
}

/** What the capture page shows: whose diagnosis, which findings and targets are unfolded, and what is compared against. */
export interface CaptureViewState {
  /** The instance whose diagnosis is shown; "" = the worst. */
  instance: string;
  /** Unfolded findings, each an instance's id, a slash and the finding's id. */
  findings: string[];
  /** What was checked and fine is unfolded. */
  checked: boolean;
  /** Ids of unfolded instances; null = the page's own choice. */
  open: string[] | null;
  /** The other side of every comparison. */
  versus: { capture: string; instance: string } | null;
}

export function parseCapture(q: Query): CaptureViewState {
  const [capture = "", instance = ""] = one(q, "vs").split("/");
  return {
    instance: idPattern.test(one(q, "instance")) ? one(q, "instance") : "",
    findings: one(q, "finding").split(",").filter(Boolean).map(decodeURIComponentSafely),
    checked: one(q, "checked") === "1",
    open: "open" in q ? one(q, "open").split(",").filter(Boolean) : null,
    versus: idPattern.test(capture) && idPattern.test(instance) ? { capture, instance } : null,
  };
}

export function formatCapture(s: CaptureViewState): Record<string, string> {
  // Findings are code, which reads better as it is: only what separates them is escaped.
  const finding = s.findings.map((f) => f.replaceAll("%", "%25").replaceAll(",", "%2C")).join(",");
  const q = clean({ instance: s.instance, finding, checked: s.checked ? "1" : "" });
  if (s.open) q["open"] = s.open.join(",");
  if (s.versus) q["vs"] = `${s.versus.capture}/${s.versus.instance}`;
  return q;
}
