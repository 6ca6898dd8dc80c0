import { expect, test } from "vitest";
import { emptyChannel, eventsOf, kinds, patternsOf, troubled, type ChannelStatus } from "./model";

test("patterns are what stands between commas, of either script", () => {
  expect(patternsOf(" color-*, ops，wallet、 ")).toEqual(["color-*", "ops", "wallet"]);
  expect(patternsOf("  ")).toEqual([]);
});

test("all events ticked means those of tomorrow as well", () => {
  expect(eventsOf([...kinds])).toEqual([]);
  expect(eventsOf(["ended", "diagnosis"])).toEqual(["diagnosis", "ended"]);
});

test("an error is over when something was sent after it", () => {
  const s = (lastErrorAt: number, lastSent: number) => ({ channel: emptyChannel("en"), lastErrorAt, lastSent }) as ChannelStatus;
  expect(troubled(s(0, 0))).toBe(false);
  expect(troubled(s(5, 4))).toBe(true);
  expect(troubled(s(5, 6))).toBe(false);
});
