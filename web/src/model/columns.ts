// The columns of the fleet's table: what there is, what is shown unless
// somebody chooses, and how a choice is written into the address.

export interface Column {
  key: ColumnKey;
  /** A number: it is right-aligned, and looked at from the top. */
  num?: boolean;
  /** It has a line of its recent past. */
  spark?: boolean;
  /** It cannot be hidden. */
  fixed?: boolean;
  /** It is shown unless somebody chooses otherwise. */
  usual?: boolean;
  /** CSS width in the grid. */
  width: string;
  /** What the width needs at least, in pixels. */
  least: number;
}

const made = [
  { key: "name", fixed: true, usual: true, width: "minmax(184px, 1.9fr)", least: 184 },
  { key: "state", fixed: true, usual: true, width: "minmax(226px, 2.4fr)", least: 226 },
  { key: "version", usual: true, width: "minmax(88px, 0.7fr)", least: 88 },
  { key: "go", width: "64px", least: 64 },
  { key: "uptime", num: true, width: "76px", least: 76 },
  { key: "cpu", num: true, spark: true, usual: true, width: "minmax(106px, 0.6fr)", least: 106 },
  { key: "throttled", num: true, width: "84px", least: 84 },
  { key: "goroutines", num: true, spark: true, usual: true, width: "minmax(110px, 0.6fr)", least: 110 },
  { key: "heap", num: true, spark: true, usual: true, width: "minmax(112px, 0.6fr)", least: 112 },
  { key: "memory", num: true, usual: true, width: "minmax(108px, 0.6fr)", least: 108 },
  { key: "gc", num: true, spark: true, usual: true, width: "minmax(106px, 0.5fr)", least: 106 },
  { key: "sched", num: true, spark: true, usual: true, width: "minmax(108px, 0.5fr)", least: 108 },
  { key: "waiters", num: true, width: "72px", least: 72 },
  { key: "mutex", num: true, width: "88px", least: 88 },
  { key: "threads", num: true, width: "72px", least: 72 },
] as const;

export type ColumnKey = (typeof made)[number]["key"];
export const columns: readonly Column[] = made;
export const columnKeys: readonly ColumnKey[] = made.map((c) => c.key);
export type SparkKey = "cpu" | "goroutines" | "heap" | "gc" | "sched";

const usual = columns.filter((c) => c.usual).map((c) => c.key);

/** The columns to show, in the table's order; what an address names besides is ignored. */
export function parseColumns(text: string): ColumnKey[] {
  const wished = text.split(",").filter((k): k is ColumnKey => (columnKeys as readonly string[]).includes(k));
  if (!text || !wished.length) return usual;
  return columns.filter((c) => c.fixed || wished.includes(c.key)).map((c) => c.key);
}

/** The usual columns of a fleet whose versions say nothing: their room goes to the reasons. */
export const withoutVersion = (keys: readonly ColumnKey[], told: boolean): ColumnKey[] => (told || formatColumns(keys) ? [...keys] : keys.filter((k) => k !== "version"));

/** "" = the usual ones; what is always shown is left out. */
export function formatColumns(keys: readonly ColumnKey[]): string {
  const shown = columns.filter((c) => c.fixed || keys.includes(c.key));
  if (shown.map((c) => c.key).join() === usual.join()) return "";
  const chosen = shown.filter((c) => !c.fixed).map((c) => c.key);
  return chosen.join() || "name";
}

/** The top of a scale for a largest value: 1, 2 or 5 times a power of ten, so that it seldom moves. */
export function niceTop(max: number, least: number): number {
  const m = Math.max(max, least);
  const power = 10 ** Math.floor(Math.log10(m));
  return power * [1, 2, 5, 10].find((f) => f * power >= m * 0.999999)!;
}
