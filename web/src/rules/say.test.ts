import { afterEach, describe, expect, it } from "vitest";
import { setLocale } from "../i18n";
import type { Entry, Reason, Rule, Standing } from "./model";
import { about, entryReason, inOrder, limits, standingReason, step, when } from "./say";

afterEach(() => setLocale("en"));

const condition = { metric: "", below: false, level: 0, timesUsual: 0, hold: 0, calls: "", longer: 0, quantile: 0, times: 1, within: 60 };
const rule = (r: Partial<Rule>): Rule => ({ name: "r", about: "", enabled: true, file: "f", line: 1, when: "", does: [], limits: "", unit: "count", budget: 1, standings: [], steps: [], ...r });
const entry = (e: Partial<Entry>): Entry => ({ number: 1, at: 1000, service: "s", instance: "i", rule: "r", kind: "fired", reason: "in English", reasons: [], capture: "", verdict: {}, severity: "", ...e });
const both = (say: () => string): string[] => (["en", "zh-TW"] as const).map((l) => (setLocale(l), say().replaceAll("\u00a0", " ")));

const call: Reason = { code: "call", numbers: { took: 0.06615, longer: 0.05 }, words: { name: "place-bet", line: "game.go:97" } };
const crowded: Reason = { code: "crowded", numbers: { calls: 131, within: 60, longer: 0.05 }, words: {} };
const cooldown: Reason = { code: "cooldown", numbers: { left: 90 }, words: {} };

describe("a rule in words", () => {
  it("knows what a preset is for, in both languages, until somebody says it otherwise", () => {
    expect(both(() => about({ name: "stall", about: "A call took 50 ms or more. The flight recorder still has what everybody did meanwhile." }))[1]).toMatch(/^有呼叫花了 50 ms/);
    expect(both(() => about({ name: "stall", about: "mine" }))).toEqual(["mine", "mine"]);
  });
  it("says what has to hold", () => {
    const of = (c: Partial<typeof condition>, unit = "count") => both(() => when(rule({ unit, condition: { ...condition, ...c } })));
    expect(of({ metric: "cpu", level: 0.85, hold: 20 }, "share")).toEqual(["CPU of what it may use ≥ 85 %, for 20 s", "CPU 占可用量 ≥ 85 %，持續 20 秒"]);
    expect(of({ metric: "goroutines", level: 500, timesUsual: 3, hold: 10 })).toEqual(["goroutines ≥ 500, ≥ 3× usual, for 10 s", "goroutine 數 ≥ 500，≥ 平常的 3 倍，持續 10 秒"]);
    expect(of({ calls: "*", longer: 0.05 })).toEqual(["any call takes 50 ms or more", "任何呼叫花費 50 ms 以上"]);
    expect(of({ calls: "bet", longer: 0.05, quantile: 0.99, within: 90 })[0]).toBe("p99 of bet within 1 min 30 s is 50 ms or more");
    expect(when(rule({ when: "an older centre" }))).toBe("an older centre");
  });
  it("says what it does and how often at most", () => {
    expect(both(() => [{ kind: "flight", time: 2, kinds: [] }, { kind: "capture", time: 10, kinds: ["cpu", "trace"] }, { kind: "notify", time: 0, kinds: [] }].map(step).join(" → "))).toEqual([
      "the last 2 s → capture 10 s (cpu, trace) → notify", "最後 2 秒 → 擷取 10 秒（cpu、trace） → 通知",
    ]);
    expect(both(() => limits(rule({ bounds: { times: 6, per: 21600, cooldown: 30, stopAfter: 0, maxMemory: 0.95, maxCpu: 0 } })))).toEqual(["6× per 6 h, cooldown 30 s, memory ≤ 95 %", "每 6 小時最多 6 次，冷卻 30 秒，記憶體 ≤ 95 %"]);
  });
});

describe("why something happened", () => {
  it("joins what held, what was in the way, and what else is worth knowing", () => {
    expect(both(() => entryReason(entry({ reasons: [call, cooldown, crowded] })))).toEqual([
      "place-bet took 66 ms (game.go:97), 50 ms or longer; nothing was done: it cools down for 1 min 30 s more; 131 calls within 1 min took 50 ms or longer: only the longest of them counts now, and a higher threshold would leave room for the rare ones",
      "place-bet 花了 66 ms（game.go:97），達到 50 ms；沒有動作：還要冷卻 1 分 30 秒；1 分內有 131 個呼叫達到 50 ms：現在只有最久的才算，把門檻調高可以留給少見的呼叫",
    ]);
    setLocale("en");
    expect(entryReason(entry({ reasons: [{ code: "metric", numbers: { value: 0.91, level: 0.9, hold: 0 }, words: { metric: "memory", unit: "share", side: "above" } }] })).replaceAll("\u00a0", " ")).toBe("memory of its limit is 91 %, above 90 %");
  });
  it("leaves the countdown to who counts", () => {
    const s: Standing = { instance: "i", service: "s", address: "", standing: "throttled", reason: "it cools down for 1m30s more", value: 0, holdsSince: 0, fired: 0, refused: 0, used: 0, freeAt: 0, reasons: [cooldown] };
    expect(standingReason(s)).toBe("it cools down");
  });
  it("leaves what it does not know as it was said", () => {
    expect(entryReason(entry({}))).toBe("in English");
    expect(entryReason(entry({ reasons: [call, { code: "moon", numbers: {}, words: {} }] }))).toBe("in English");
  });
  it("puts what happened to one capture in its order, newest first", () => {
    const told = [entry({ number: 4, kind: "collected", at: 900, capture: "c" }), entry({ number: 3, kind: "diagnosed", at: 1100, capture: "c" }), entry({ number: 2, kind: "archived", at: 800, capture: "c" }), entry({ number: 1, kind: "fired", at: 700 })];
    expect(inOrder(told).map((e) => e.kind)).toEqual(["diagnosed", "archived", "collected", "fired"]);
  });
});
