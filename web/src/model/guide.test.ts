import { expect, test } from "vitest";
import { table } from "../pages/guide/words";
import { chapters, commandOf, guideOf, healthy } from "./guide";

test("every sentence of a chapter is there, and none is left over", () => {
  const want = [...chapters, healthy].flatMap((c) => [
    ...c.steps.map((s) => `${c.n}.read.${s.n}`), ...Array.from({ length: c.nots }, (_, n) => `${c.n}.not.${n + 1}`), ...Array.from({ length: c.fixes }, (_, n) => `${c.n}.fix.${n + 1}`),
    ...(c.n ? [`${c.n}.title`, `${c.n}.short`, `${c.n}.symptom`] : []),
  ]);
  expect(Object.keys(table).filter((k) => /^\d/.test(k)).sort()).toEqual(want.sort());
});

test("a finding leads to its chapter, or to the page of its rule", () => {
  expect(guideOf("lock-held-across-io")).toEqual({ name: "guide-chapter", params: { chapter: "4" } });
  expect(guideOf("timer-leak")).toEqual({ name: "guide-rule", params: { rule: "timer-leak" } });
});

test("the command of a capture", () => {
  expect(commandOf("user-service", 10, ["cpu", "trace"])).toBe("ops capture user-service -d 10s --kinds cpu,trace");
  expect(commandOf("SERVICE", 30, [])).toBe("ops capture SERVICE -d 30s");
});
