// Values of profiles as people read them: with three digits and a unit.
import { bytes } from "../format";

const digits = (v: number): string => (v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2));

export function valueText(v: number, unit: string): string {
  const sign = v < 0 ? "−" : "";
  const a = Math.abs(v);
  if (unit === "nanoseconds" || unit === "microseconds" || unit === "milliseconds" || unit === "seconds") {
    const s = a * { nanoseconds: 1e-9, microseconds: 1e-6, milliseconds: 1e-3, seconds: 1 }[unit];
    if (s === 0) return "0 s";
    if (s < 1e-6) return `${sign}${Math.round(s * 1e9)} ns`;
    if (s < 1e-3) return `${sign}${digits(s * 1e6)} µs`;
    if (s < 1) return `${sign}${digits(s * 1e3)} ms`;
    if (s < 3600) return `${sign}${digits(s)} s`;
    return `${sign}${digits(s / 3600)} h`;
  }
  if (unit === "bytes") return sign + bytes(a);
  const whole = Math.round(a).toLocaleString("en");
  return sign + (unit === "count" || !unit ? whole : `${whole} ${unit}`);
}

/** A change with its sign. */
export const deltaText = (v: number, unit: string): string => (v > 0 ? "+" : "") + valueText(v, unit);

/** "12.4%": with as many digits as say something. */
export function shareText(share: number): string {
  const p = share * 100;
  const a = Math.abs(p);
  if (a === 0) return "0%";
  if (a < 0.01) return p < 0 ? ">−0.01%" : "<0.01%";
  const s = a >= 99.95 ? a.toFixed(0) : a >= 10 ? a.toFixed(1) : a >= 1 ? a.toFixed(1) : a.toFixed(2);
  return `${p < 0 ? "−" : ""}${s}%`;
}
