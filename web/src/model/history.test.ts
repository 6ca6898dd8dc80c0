import { expect, test } from "vitest";
import { SparkHistory, appendPoint, columns, maxOf, sparkPoints, sparkStepMs } from "./history";
import { beat } from "./testdata";

const at = (step: number, goroutines = 1) => beat({ at: step * sparkStepMs + 3, goroutines });
/** The goroutines of a ring, oldest first; "." where nothing was heard. */
const ring = (h: SparkHistory, last: number) => [...h.get("i")!.goroutines.slice(-last)].map((v) => (Number.isNaN(v) ? "." : v)).join(" ");

test("beats fall into their steps, in any order, and gaps stay gaps", () => {
  const h = new SparkHistory();
  h.push("i", at(1000, 5));
  h.push("i", at(1003, 8));
  h.push("i", at(1001, 6));
  expect(ring(h, 5)).toBe(". 5 6 . 8");
  h.push("i", at(1003 - sparkPoints, 99));
  expect(maxOf(h.get("i")!.goroutines)).toBe(8);
  h.push("i", at(1003 + 2 * sparkPoints, 1));
  expect(ring(h, sparkPoints).replaceAll(". ", "")).toBe("1");
  h.push("i", beat({ at: 0, goroutines: 77 }));
  expect(maxOf(h.get("i")!.goroutines)).toBe(1);
});

test("what is no more is forgotten", () => {
  const h = new SparkHistory();
  h.push("i", at(1));
  h.push("j", at(1));
  h.prune(new Set(["j"]));
  expect([h.get("i") === undefined, h.get("j") === undefined]).toEqual([true, false]);
});

test("points are appended once, in order, and the old drop out", () => {
  const points = [beat({ at: 1000 }), beat({ at: 2000 })];
  expect(appendPoint(points, beat({ at: 2000 }), 5000)).toBe(points);
  expect(appendPoint(points, beat({ at: 1500 }), 5000)).toBe(points);
  expect(appendPoint(points, beat({ at: 6500 }), 5000).map((p) => p.at)).toEqual([2000, 6500]);
  expect(appendPoint(points, beat({ at: 99_000 }), 5000).map((p) => p.at)).toEqual([99_000]);
});

test("a line breaks where more than three steps are missing", () => {
  const points = [1000, 2000, 5000, 9001].map((t) => beat({ at: t, goroutines: t }));
  expect(columns(points, 1000, [(h) => h.goroutines, () => null])).toEqual({
    x: [1, 2, 5, 6, 9.001],
    ys: [[1000, 2000, 5000, null, 9001], [null, null, null, null, null]],
  });
});
