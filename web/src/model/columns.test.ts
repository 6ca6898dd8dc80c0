import { expect, test } from "vitest";
import { columns, formatColumns, niceTop, parseColumns, withoutVersion } from "./columns";

test.each([
  ["", "name state version cpu goroutines heap memory gc sched", ""],
  ["go,cpu", "name state go cpu", "go,cpu"],
  ["cpu,go,cpu", "name state go cpu", "go,cpu"],
  ["name", "name state", "name"],
  ["weather", "name state version cpu goroutines heap memory gc sched", ""],
  ["version,cpu,goroutines,heap,memory,gc,sched", "name state version cpu goroutines heap memory gc sched", ""],
])("%j shows %s and is written %j", (text, shown, written) => {
  expect(parseColumns(text).join(" ")).toBe(shown);
  expect(formatColumns(parseColumns(text))).toBe(written);
});

test("the usual columns fit a page of 1280 pixels", () => {
  // The rail, the page's margins, the check boxes and a scroll bar take the rest.
  const least = columns.filter((c) => c.usual).reduce((sum, c) => sum + c.least, 32);
  expect(least).toBeLessThanOrEqual(1280 - 68 - 24 - 4);
});

test.each([[0, 10, 10], [9.7, 10, 10], [11, 10, 20], [4800, 10, 5000], [5001, 10, 10_000], [0.3, 0.1, 0.5]])("a scale for %s (at least %s) ends at %s", (max, least, want) => {
  expect(niceTop(max, least)).toBeCloseTo(want);
});

test.each([
  ["", true, "name state version cpu goroutines heap memory gc sched"],
  ["", false, "name state cpu goroutines heap memory gc sched"],
  ["version,cpu", false, "name state version cpu"],
])("%j with versions that say something %s shows %s", (text, told, shown) => {
  expect(withoutVersion(parseColumns(text), told).join(" ")).toBe(shown);
});
