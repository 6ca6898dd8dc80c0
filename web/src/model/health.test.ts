import { expect, test } from "vitest";
import { conditionOf, flagOf } from "./health";
import { cpuShare, memoryShare, told, versionOf } from "./instance";
import { beat, healthOf, instanceOf } from "./testdata";

test.each([
  ["up", "", "ok"], ["up", "cpu=0.9/0.85", "warning"], ["up", "memory=0.97/0.95! cpu=0.9/0.85", "critical"], ["suspect", "memory=0.97/0.95!", "suspect"], ["gone", "", "gone"],
] as const)("an instance that is %s with %j is %s", (state, health, want) => {
  expect(conditionOf(instanceOf({ id: "i", state, health: healthOf(health) }))).toBe(want);
});

test("nobody's word is no trouble", () => expect(conditionOf(instanceOf({ id: "i" }))).toBe("ok"));

test("a number is flagged by the check that it belongs to", () => {
  const h = healthOf("memory=0.97/0.95! cpu=0.9/0.85");
  expect([flagOf(h, "memory"), flagOf(h, "cpu"), flagOf(h, "throttled", "cpu"), flagOf(h, "restarts"), flagOf(h), flagOf(null, "cpu")]).toEqual(["bad", "warn", "warn", "", "", ""]);
});

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

test("a version is the module's, else the revision's beginning", () => {
  const build = { goVersion: "", modulePath: "", moduleVersion: "(devel)", vcsRevision: "9f2c41d7aa03bb", vcsTime: 0, vcsModified: true, goos: "", goarch: "", agentVersion: "" };
  expect(versionOf(instanceOf({ id: "i", build }))).toBe("9f2c41d7aa+");
  expect(versionOf(instanceOf({ id: "i", build: { ...build, moduleVersion: "v1.2.3" } }))).toBe("v1.2.3");
  expect(versionOf(instanceOf({ id: "i", build: { ...build, vcsRevision: "" } }))).toBe("(devel)");
  expect(versionOf(instanceOf({ id: "i" }))).toBe("");
});
