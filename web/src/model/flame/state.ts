// What the flame graph's page shows, to and from its query.
import type { Query } from "../url";
import { tableSorts, type TableSort } from "./table";

export interface FlameState {
  /** The kind of profile; "" = the page's own choice. */
  profile: string;
  /** The sample type; "" = the profile's default. */
  type: string;
  /** All instances of the capture, summed. */
  sum: boolean;
  /** Lines of a function told apart. */
  lines: boolean;
  /** Only the stacks through one of these functions. */
  focus: string[];
  /** The node that is zoomed to. */
  at: string;
  /** Or a part of the width, from 0 to 1. */
  range: [number, number] | null;
  search: string;
  sandwich: string;
  hide: string[];
  recursion: boolean;
  callers: boolean;
  /** The root at the bottom. */
  up: boolean;
  /** The function whose details are shown. */
  selected: string;
  sort: TableSort;
  desc: boolean;
  /** Of comparisons: both sides scaled to the same sum, changes of self values, and the least change that counts, in percent of the whole. */
  normalise: boolean;
  own: boolean;
  least: number;
}

export const flameDefaults: FlameState = {
  profile: "", type: "", sum: false, lines: false, focus: [], at: "", range: null, search: "", sandwich: "", hide: [], recursion: false, callers: false, up: false, selected: "",
  sort: "self", desc: true, normalise: false, own: false, least: 0,
};

const word = /^[0-9a-z_-]{0,40}$/;
const leasts = [0, 0.1, 0.5, 1, 2, 5] as const;
export { leasts };

export function parseFlame(q: Query, defaults: FlameState = flameDefaults): FlameState {
  const one = (key: string): string => {
    const v = q[key];
    return (Array.isArray(v) ? v[0] : v) ?? "";
  };
  const all = (key: string): string[] => [q[key] ?? []].flat().filter((v) => v !== null && v !== "") as string[];
  const flag = (key: string, otherwise: boolean) => (one(key) === "1" ? true : one(key) === "0" ? false : otherwise);
  const id = (key: string) => (word.test(one(key)) ? one(key) : "");
  const [from = NaN, to = NaN] = one("x").split("-").map(Number);
  const sort = one("sort").replace(/^-/, "");
  const known = (tableSorts as readonly string[]).includes(sort);
  const least = Number(one("min"));
  return {
    profile: id("profile"), type: id("type"), sum: flag("sum", defaults.sum), lines: flag("lines", defaults.lines), focus: all("focus"), at: /^[0-9a-z]{1,12}$/.test(one("at")) ? one("at") : "",
    range: from >= 0 && to <= 1 && from < to ? [from, to] : null, search: one("q"), sandwich: one("sandwich"), hide: one("hide").split(",").filter(Boolean), recursion: flag("fold", defaults.recursion),
    callers: one("view") === "callers", up: flag("up", defaults.up), selected: one("fn"), sort: known ? (sort as TableSort) : defaults.sort, desc: known ? one("sort").startsWith("-") : defaults.desc,
    normalise: one("mode") === "normalised" ? true : one("mode") === "absolute" ? false : defaults.normalise, own: flag("own", defaults.own), least: (leasts as readonly number[]).includes(least) ? least : defaults.least,
  };
}

export function formatFlame(s: FlameState, defaults: FlameState = flameDefaults): Record<string, string | string[]> {
  const flag = (v: boolean, otherwise: boolean) => (v === otherwise ? "" : v ? "1" : "0");
  const place = (v: number) => String(Math.round(v * 1e6) / 1e6);
  const q: Record<string, string | string[]> = {
    profile: s.profile, type: s.type, sum: flag(s.sum, defaults.sum), lines: flag(s.lines, defaults.lines), focus: s.focus, at: s.at, x: s.range ? s.range.map(place).join("-") : "", q: s.search,
    sandwich: s.sandwich, hide: s.hide.join(","), fold: flag(s.recursion, defaults.recursion), view: s.callers ? "callers" : "", up: flag(s.up, defaults.up), fn: s.selected,
    sort: s.sort === defaults.sort && s.desc === defaults.desc ? "" : (s.desc ? "-" : "") + s.sort, mode: s.normalise === defaults.normalise ? "" : s.normalise ? "normalised" : "absolute", own: flag(s.own, defaults.own), min: s.least === defaults.least ? "" : String(s.least),
  };
  return Object.fromEntries(Object.entries(q).filter(([, v]) => v.length));
}

/** What the address says that is not the flame graph's own is kept. */
export const flameKeys: readonly string[] = ["profile", "type", "sum", "lines", "focus", "at", "x", "q", "sandwich", "hide", "fold", "view", "up", "fn", "sort", "mode", "own", "min"];

/** One side of a comparison: a capture, and an instance or "*" for all of them; before chooses the snapshot at the window's start. */
export interface Side {
  capture: string;
  instances: string[];
  before: boolean;
}

const sidePart = /^[0-9a-z-]{4,40}$/;

export function parseSide(text: string): Side | null {
  const [where = "", phase = ""] = text.split("@");
  const [capture = "", instances = "*"] = where.split("/");
  const ids = instances === "*" ? [] : instances.split("+");
  if (!sidePart.test(capture) || !ids.every((i) => sidePart.test(i)) || (phase && phase !== "before")) return null;
  return { capture, instances: ids, before: phase === "before" };
}

export const formatSide = (s: Side): string => `${s.capture}/${s.instances.length ? s.instances.join("+") : "*"}${s.before ? "@before" : ""}`;
