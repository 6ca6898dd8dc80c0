import { expect, test } from "vitest";
import { formatCapture, formatCaptures, formatFleet, formatInstance, parseCapture, parseCaptures, parseFleet, parseInstance } from "./url";

const queryOf = (s: string) => Object.fromEntries(new URLSearchParams(s));
const textOf = (q: Record<string, string>) => new URLSearchParams(q).toString();

test.each(["", "q=zone%3Da+v1&project=color-game&service=user&version=v1.2&state=gone&group=none&sort=-cpu", "closed=color%252Fuser%2Cv1.2", "sort=-name", "group=go", "sort=cpu"])("fleet: %s comes back as it went", (s) => {
  expect(textOf(formatFleet(parseFleet(queryOf(s))))).toBe(s);
});

test("a group with a comma in its name stays one group", () => {
  const s = { ...parseFleet({}), closed: ["a,b", "c/d", "100%"] };
  expect(parseFleet(formatFleet(s))).toEqual(s);
});

test.each(["state=dead&group=moon&sort=-weight", "sort=name&group=service", "closed=,"])("fleet: %s is the default", (s) => {
  expect(textOf(formatFleet(parseFleet(queryOf(s))))).toBe("");
});

test("fleet: a broken escape is taken as it is", () => expect(parseFleet({ closed: "%" }).closed).toEqual(["%"]));

test("a repeated key counts once", () => {
  expect(parseFleet({ q: ["a", "b"], project: null }).text).toBe("a");
});

test.each(["", "range=24h", "from=1000&to=2000", "range=7d&from=1000&to=2000"])("instance: %s comes back as it went", (s) => {
  expect(textOf(formatInstance(parseInstance(queryOf(s))))).toBe(s);
});

test.each(["range=century", "from=2000&to=1000", "from=x&to=y", "from=1000", "to=Infinity&from=1"])("instance: %s is the last hour", (s) => {
  expect(parseInstance(queryOf(s))).toEqual({ range: "1h", from: 0, to: 0 });
});

test.each(["", "project=color&service=user&instance=i1", "page=t1%2Ct2", "q=slow+lock&state=running&verdict=none", "ids=01abcd%2C01abce"])("captures: %s comes back as it went", (s) => {
  expect(textOf(formatCaptures(parseCaptures(queryOf(s))))).toBe(s);
});

test.each(["", "open=", "open=i1%2Ci2", "vs=cap-0001%2Finst-0001", "open=i1&vs=cap-0001%2Finst-0001"])("capture: %s comes back as it went", (s) => {
  expect(textOf(formatCapture(parseCapture(queryOf(s))))).toBe(s);
});

test.each(["instance=inst-0001&finding=inst-0001%2Flock-contention%2Fmain.f&checked=1", "finding=i1%2Fheap-growth%2Fa%2Ci1%2Fdeadlock%2Fb&open="])("capture: %s comes back as it went", (s) => {
  expect(textOf(formatCapture(parseCapture(queryOf(s))))).toBe(s);
});

test("a finding with a comma or a percent sign in its place stays one finding", () => {
  const s = { ...parseCapture({}), findings: ["i1/heap-growth/main.Map[int,string].Set", "i1/x/100%", "i1/x/%2C"] };
  expect(parseCapture(formatCapture(s))).toEqual(s);
});

test.each(["instance=..%2F..", "checked=yes", "finding=%2C"])("capture: %s is the default", (s) => {
  expect(textOf(formatCapture(parseCapture(queryOf(s))))).toBe("");
});

test.each(["vs=cap-0001", "vs=..%2F..", "vs=cap-0001%2FUPPER", "vs=%2F"])("capture: %s compares with nothing", (s) => {
  expect(parseCapture(queryOf(s)).versus).toBeNull();
});
