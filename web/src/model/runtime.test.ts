import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { classesOf, gain, parseRuntime, quantile, rate, times, type RuntimeSeries } from "./runtime";

const sample = readFileSync("../docs/formats/runtime.sample.json", "utf8");
const made = (f: object): RuntimeSeries => parseRuntime(JSON.stringify({ schema: "opscenter.runtime/v1", ...f }));

test("the sample of the format is read", () => {
  const r = parseRuntime(sample);
  expect([r.head, r.durationSeconds, r.gomaxprocs, r.cpuQuotaCores, r.memoryLimitBytes, r.seconds.length]).toEqual([false, 3.004, 2, 2, 536870912, 4]);
  expect(r.pools.map((p) => `${p.name} ${p.kind} ${p.remote} ${p.columns.get("in_use")!.at(-1)}/${p.maxOpen}`)).toEqual(["records pgxpool db.internal:5432 20/20"]);
  expect(r.columns.get("/sched/goroutines:goroutines")).toHaveLength(4);
});

test("a column that does not fit the seconds, or is no numbers, is not there", () => {
  const r = made({ series: { seconds: [0, 1], columns: { good: [1, 2], short: [1], words: ["a", "b"], holes: [1, null] } }, histograms: { h: { counts: [1], buckets: [0] } }, pools: "none" });
  expect([...r.columns.keys()]).toEqual(["good"]);
  expect([r.histograms.size, r.pools.length, r.start]).toEqual([0, 0, 0]);
});

test.each([["{", /not JSON/], ["[]", /does not know \(none\)/], ['{"schema":"opscenter.runtime/v9"}', /v9/]])("%s is refused in words", (json, says) => expect(() => parseRuntime(json)).toThrow(says));

test("totals become rates, and a total that falls says nothing", () => {
  expect(rate([0, 1, 3, 3, 4], [10, 20, 60, 70, 5])).toEqual([null, 10, 20, null, null]);
  expect(rate([0], undefined)).toBeUndefined();
});

test("gains come from the series, or from the ends of the window", () => {
  const r = made({ series: { seconds: [0, 1], columns: { a: [3, 10] } }, memory: { before: { a: 0, b: 1 }, after: { a: 100, b: 5, c: 1 } } });
  expect([gain(r, "a"), gain(r, "b"), gain(r, "c")]).toEqual([7, 4, null]);
});

test("quantiles are bounds of buckets", () => {
  const h = { counts: [90, 9, 1], bounds: [0, 0.001, 0.01, null] };
  expect([quantile(h, 0.5), quantile(h, 0.99), quantile(h, 1), quantile({ counts: [0], bounds: [0, 1] }, 0.5), quantile(undefined, 0.5), times(h), times(undefined)]).toEqual([0.001, 0.01, 0.01, null, null, 100, 0]);
});

test("the processors' time in classes", () => {
  const c = (name: string, to: number) => [`/cpu/classes/${name}:cpu-seconds`, [1, 1 + to]];
  const r = made({ series: { seconds: [0, 9], columns: Object.fromEntries([c("user", 6), c("gc/mark/dedicated", 1), c("gc/mark/idle", 1), c("idle", 2)]) } });
  expect(classesOf(r).map((x) => `${x.name} ${x.seconds} ${x.share}`)).toEqual(["user 6 0.6", "background 2 0.2", "idle 2 0.2"]);
  expect(classesOf(made({}))).toEqual([]);
});
