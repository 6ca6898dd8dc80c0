import { expect, test } from "vitest";
import { beyond, defaultSpec, judge, support } from "./spec";
import { instanceOf } from "./testdata";

const wrong = (s: object, kinds = ["cpu", "trace"]) => Object.entries(judge({ ...defaultSpec(), ...s }, kinds)).filter(([, bad]) => bad).map(([k]) => k).join(" ");

test.each([
  [{}, ""], [{ durationSeconds: 1 }, ""], [{ durationSeconds: 600 }, ""], [{ durationSeconds: 0.5 }, "duration"], [{ durationSeconds: 601 }, "duration"], [{ durationSeconds: NaN }, "duration"],
  [{ durationSeconds: "" }, "duration"], [{ traceWindowSeconds: 31 }, "traceWindow"], [{ traceWindowSeconds: 0, durationSeconds: 0 }, "duration traceWindow"],
])("%j is wrong in: %s", (s, want) => expect(wrong(s)).toBe(want));

test("no kinds is wrong, and a trace window matters only with a trace", () => {
  expect(wrong({}, [])).toBe("kinds");
  expect(wrong({ traceWindowSeconds: 99 }, ["cpu"])).toBe("");
});

test("kinds are counted over the instances; one that does not say can do all", () => {
  const n = support([instanceOf({ id: "a", kinds: ["cpu"] }), instanceOf({ id: "b", kinds: ["cpu", "heap", "new-kind"] }), instanceOf({ id: "c" })], ["cpu", "heap", "trace"]);
  expect(Object.fromEntries(n)).toEqual({ cpu: 3, heap: 2, trace: 1, "new-kind": 1 });
  expect(beyond(n, 3, ["cpu", "goroutineleak", "trace"])).toEqual(["goroutineleak"]);
  expect(beyond(new Map(), 0, ["cpu"]), "nobody is chosen yet").toEqual([]);
});
