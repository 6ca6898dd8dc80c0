// Numbers as people read them. Everything that depends on the language takes it.

const none = "–";

/** "412 B", "3.4 KiB", "31 GiB". */
export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined || Number.isNaN(n)) return none;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let v = Math.abs(n);
  let u = 0;
  // Three digits at most: 1000 MiB is 1.0 GiB.
  while (v >= 999.5 && u < units.length - 1) {
    v /= 1024;
    u++;
  }
  const s = u === 0 ? String(Math.round(v)) : v < 9.95 ? v.toFixed(1) : v.toFixed(0);
  return `${n < 0 ? "−" : ""}${s} ${units[u]}`;
}

// Made once: making one costs a thousand times what it does.
const grouped = new Intl.NumberFormat("en");

/** "12,345". */
export function count(n: number | null | undefined): string {
  if (n === null || n === undefined || Number.isNaN(n)) return none;
  return grouped.format(Math.round(n));
}

/** A share of 0 to 1 as "0.4 %", "12 %", "103 %". */
export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined || Number.isNaN(share)) return none;
  const p = share * 100;
  if (p === 0) return "0 %";
  if (p < 0.05) return "<0.1 %";
  return `${p < 9.95 ? p.toFixed(1) : p.toFixed(0)} %`;
}

/** "1.84" cores. */
export function cores(n: number | null | undefined): string {
  if (n === null || n === undefined || Number.isNaN(n)) return none;
  return n < 9.995 ? n.toFixed(2) : n < 99.95 ? n.toFixed(1) : n.toFixed(0);
}

/** A short time: "85 µs", "4.1 ms", "1.84 s". */
export function latency(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return none;
  const digits = (v: number) => (v < 9.95 ? v.toFixed(1) : v.toFixed(0));
  if (seconds === 0) return "0";
  if (seconds < 1e-6) return `${Math.round(seconds * 1e9)} ns`;
  if (seconds < 0.9995e-3) return `${digits(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${digits(seconds * 1e3)} ms`;
  return `${seconds < 99.95 ? seconds.toFixed(seconds < 9.995 ? 2 : 1) : seconds.toFixed(0)} s`;
}

export type Locale = "en" | "zh-TW";

const longUnits: Record<Locale, [string, string, string, string]> = {
  en: [" s", " min", " h", " d"],
  "zh-TW": [" 秒", " 分", " 小時", " 天"],
};

/** A stretch of time in its one or two largest units: "30 s", "5 min 12 s", "2 d 3 h". */
export function span(seconds: number, locale: Locale): string {
  const [s, m, h, d] = longUnits[locale];
  const t = Math.max(0, seconds);
  if (t < 10 && t !== Math.round(t)) return t.toFixed(1) + s;
  const r = Math.round(t);
  const two = (a: number, au: string, b: number, bu: string) => (b ? `${a}${au} ${b}${bu}` : `${a}${au}`);
  if (r < 60) return r + s;
  if (r < 3600) return two(Math.floor(r / 60), m, r % 60, s);
  if (r < 86400) return two(Math.floor(r / 3600), h, Math.floor((r % 3600) / 60), m);
  return two(Math.floor(r / 86400), d, Math.floor((r % 86400) / 3600), h);
}

/** A stretch of time in its one largest unit: for tight columns. */
export function shortSpan(seconds: number, locale: Locale): string {
  const [s, m, h, d] = longUnits[locale];
  const t = Math.max(0, Math.round(seconds));
  if (t < 60) return t + s;
  if (t < 3600) return Math.floor(t / 60) + m;
  if (t < 86400) return Math.floor(t / 3600) + h;
  return Math.floor(t / 86400) + d;
}

/** "3 minutes ago", "3 分鐘前", by the largest unit that fits. */
export function ago(at: number, now: number, locale: Locale): string {
  if (!at) return none;
  const s = Math.round((at - now) / 1000);
  const f = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  const a = Math.abs(s);
  if (a < 60) return f.format(s, "second");
  // What has passed is told in whole units; what is to come by the nearest, for 30 days less a minute are 30 days.
  const whole = s < 0 ? Math.trunc : Math.round;
  if (a < 3600) return f.format(whole(s / 60), "minute");
  if (a < 86400) return f.format(whole(s / 3600), "hour");
  return f.format(whole(s / 86400), "day");
}

const pad = (n: number) => String(n).padStart(2, "0");

/** "2026-11-22 09:31:10" in the reader's zone: sortable, the same in every language. */
export function dateTime(at: number): string {
  if (!at) return none;
  const d = new Date(at);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(at)}`;
}

/** "09:31:10" in the reader's zone. */
export function clock(at: number): string {
  if (!at) return none;
  const d = new Date(at);
  return `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}

/** The id's tail, where two ids of one fleet differ. */
export const shortId = (id: string): string => (id.length > 12 ? "…" + id.slice(-8) : id);
