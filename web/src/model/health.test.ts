import { expect, test } from "vitest";
import { level, vitals } from "./health";
import { cpuShare, memoryShare, told, versionOf } from "./instance";
import { beat, instanceOf } from "./testdata";

test.each([
  ["cpu", 0.74, ""], ["cpu", 0.75, "warn"], ["cpu", 0.9, "bad"], ["gc", 0.1, "warn"], ["gc", 0.25, "bad"], ["sched", 0.0009, ""], ["sched", 0.001, "warn"], ["sched", 0.01, "bad"],
  ["memory", 0.92, "bad"], ["waiters", 0, ""], ["waiters", 1, "warn"], ["waiters", 10, "bad"], ["throttled", 0.01, "warn"], ["cpu", null, ""], ["cpu", NaN, ""],
] as const)("%s at %s is %j", (vital, value, want) => expect(level(vital, value)).toBe(want));

test("shares are of the quota, else of GOMAXPROCS; without a limit there is no share", () => {
  expect(cpuShare(beat({ cpuCores: 1, cpuQuotaCores: 2 }))).toBe(0.5);
  expect(cpuShare(beat({ cpuCores: 1, cpuQuotaCores: 0, gomaxprocs: 4 }))).toBe(0.25);
  expect(cpuShare(beat({ cpuQuotaCores: 0, gomaxprocs: 0 }))).toBeNull();
  expect(memoryShare(beat({ rssBytes: 5 }))).toBeNull();
  expect(memoryShare(beat({ rssBytes: 5, memoryLimitBytes: 10 }))).toBe(0.5);
});

test("a process without memory is one that nobody measured", () => {
  expect(told(beat({ goroutines: 400 }))).toBe(false);
  expect(told(beat({ liveHeapBytes: 1 }))).toBe(true);
  expect(told(beat({ rssBytes: 1 }))).toBe(true);
});

test("an idle process has no collector pressure, a busy one has", () => {
  expect(vitals(beat({ cpuCores: 0.1, gcCpuFraction: 0.4 })).gc).toBeNull();
  expect(vitals(beat({ cpuCores: 1, gcCpuFraction: 0.4 })).gc).toBe(0.4);
  expect(vitals(null)).toEqual({ cpu: null, memory: null, gc: null, sched: null, throttled: null, waiters: null });
});

test("a version is the module's, else the revision's beginning", () => {
  const build = { goVersion: "", modulePath: "", moduleVersion: "(devel)", vcsRevision: "9f2c41d7aa03bb", vcsTime: 0, vcsModified: true, goos: "", goarch: "", agentVersion: "" };
  expect(versionOf(instanceOf({ id: "i", build }))).toBe("9f2c41d7aa+");
  expect(versionOf(instanceOf({ id: "i", build: { ...build, moduleVersion: "v1.2.3" } }))).toBe("v1.2.3");
  expect(versionOf(instanceOf({ id: "i", build: { ...build, vcsRevision: "" } }))).toBe("(devel)");
  expect(versionOf(instanceOf({ id: "i" }))).toBe("");
});
