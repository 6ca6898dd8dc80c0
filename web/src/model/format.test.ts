import { expect, test } from "vitest";
import { ago, bytes, clock, cores, count, dateTime, latency, percent, shortId, shortSpan, span } from "./format";

test.each([[0, "0 B"], [999, "999 B"], [1000, "1.0 KiB"], [1536, "1.5 KiB"], [10 * 1024, "10 KiB"], [999 * 1024, "999 KiB"], [1001 * 1024 ** 2, "1.0 GiB"], [3.4 * 1024 ** 3, "3.4 GiB"], [2 ** 60, "1024 PiB"], [-2048, "−2.0 KiB"], [null, "–"], [NaN, "–"]])("bytes %s", (n, want) => expect(bytes(n)).toBe(want));
test.each([[0, "0 %"], [0.0001, "<0.1 %"], [0.004, "0.4 %"], [0.0994, "9.9 %"], [0.0996, "10 %"], [0.5, "50 %"], [1.03, "103 %"], [null, "–"]])("percent %s", (n, want) => expect(percent(n)).toBe(want));
test.each([[0, "0"], [5e-8, "50 ns"], [8.5e-5, "85 µs"], [9.999e-4, "1.0 ms"], [0.0041, "4.1 ms"], [0.048, "48 ms"], [0.99999, "1.00 s"], [1.84, "1.84 s"], [12.34, "12.3 s"], [123, "123 s"], [undefined, "–"]])("latency %s", (n, want) => expect(latency(n)).toBe(want));
test.each([[0, "0.00"], [1.838, "1.84"], [9.999, "10.0"], [64, "64.0"], [128, "128"], [null, "–"]])("cores %s", (n, want) => expect(cores(n)).toBe(want));
test.each([[0, "0"], [12345.6, "12,346"], [null, "–"]])("count %s", (n, want) => expect(count(n)).toBe(want));

test.each([
  [0, "0 s", "0 秒"], [1.25, "1.3 s", "1.3 秒"], [30, "30 s", "30 秒"], [60, "1 min", "1 分"], [312, "5 min 12 s", "5 分 12 秒"],
  [3600, "1 h", "1 小時"], [7500, "2 h 5 min", "2 小時 5 分"], [86400 * 2 + 3 * 3600, "2 d 3 h", "2 天 3 小時"], [-5, "0 s", "0 秒"],
])("span %s", (n, en, zh) => expect([span(n, "en"), span(n, "zh-TW")]).toEqual([en, zh]));

test.each([[59, "59 s"], [119, "1 min"], [7199, "1 h"], [200000, "2 d"]])("short span %s", (n, want) => expect(shortSpan(n, "en")).toBe(want));

test.each([
  [0, "–", "–"], [1_000_000 - 3_000, "3 seconds ago", "3 秒前"], [1_000_000 - 61_000, "1 minute ago", "1 分鐘前"], [1_000_000 + 7_200_000, "in 2 hours", "2 小時後"], [1_000_000 + 30 * 86_400_000 - 70_000, "in 30 days", "30 天後"],
])("ago %s", (at, en, zh) => expect([ago(at, 1_000_000, "en"), ago(at, 1_000_000, "zh-TW")]).toEqual([en, zh]));

test("times are the reader's, and sort as text", () => {
  const at = new Date(2026, 10, 2, 9, 5, 7).getTime();
  expect([dateTime(at), clock(at), dateTime(0)]).toEqual(["2026-11-02 09:05:07", "09:05:07", "–"]);
});

test("long ids show the end, where they differ", () => expect([shortId("abc"), shortId("01jd000000005ccd0003")]).toEqual(["abc", "…5ccd0003"]));
