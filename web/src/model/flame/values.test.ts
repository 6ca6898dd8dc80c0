import { expect, test } from "vitest";
import { deltaText, shareText, valueText } from "./values";

test.each([
  [0, "nanoseconds", "0 s"], [12, "nanoseconds", "12 ns"], [1_840_000_000, "nanoseconds", "1.84 s"], [45_600_000, "nanoseconds", "45.6 ms"], [7.2e12, "nanoseconds", "2.00 h"], [-5e6, "nanoseconds", "−5.00 ms"], [1234, "microseconds", "1.23 ms"],
  [12345, "count", "12,345"], [7, "", "7"], [12, "joules", "12 joules"],
])("%d %s is %s", (v, unit, text) => expect(valueText(v, unit)).toBe(text));

test("bytes as everywhere", () => expect(valueText(-3 << 20, "bytes")).toMatch(/^−3/));
test("changes have a sign", () => expect([deltaText(5, "count"), deltaText(-5, "count"), deltaText(0, "count")]).toEqual(["+5", "−5", "0"]));
test.each([[0, "0%"], [0.00001, "<0.01%"], [-0.00001, ">−0.01%"], [0.0012, "0.12%"], [0.0124, "1.2%"], [0.1249, "12.5%"], [0.9999, "100%"], [1, "100%"], [-0.5, "−50.0%"]])("%d is %s", (v, text) => expect(shareText(v)).toBe(text));
