import { expect, test } from "vitest";
import { againstOthers, comparable, comparisonOf, compareFindings, diagnosesOf, profilePairs } from "./compare";
import type { Artifact, Capture } from "./capture";
import { parseDiagnosis, type Diagnosis } from "./diagnosis";
import { formatSide, parseSide } from "./flame/state";
import { captureOf, targetOf } from "./testdata";

// "rule/place score" a line, of one instance.
const said = (id: string, text: string): Diagnosis =>
  parseDiagnosis(JSON.stringify({
    schema: "opscenter.diagnosis/v1", instance: { id },
    findings: text.trim().split("\n").filter(Boolean).map((l) => {
      const [finding = "", score = ""] = l.trim().split(" ");
      return { id: finding, rule: finding.split("/")[0], score: Number(score), severity: Number(score) >= 75 ? "critical" : "warning", title: finding };
    }),
  })).instances[0]!;

test("findings appear, vanish and stay; of several instances the heaviest counts", () => {
  const c = compareFindings([said("a", "lock/main.a 90\nleak/main.b 60")], [said("b", "lock/main.a 55\ncpu/main.c 60"), said("c", "lock/main.a 80\nheap/main.d 95")]);
  expect([c.appeared.map((f) => f.id), c.vanished.map((f) => f.id), c.stayed.map((p) => `${p.after.id} ${p.before.score} → ${p.after.score}`)]).toEqual([["heap/main.d", "cpu/main.c"], ["leak/main.b"], ["lock/main.a 90 → 80"]]);
});

test("a side is of the instances that it names", () => {
  const set = { instances: [said("inst-1", ""), said("inst-2", "")], outliers: [] };
  const ids = (side: string) => diagnosesOf(set, parseSide(side)!).map((d) => d.instance.id);
  expect([ids("01abc/inst-2"), ids("01abc/*"), ids("01abc/inst-9")]).toEqual([["inst-2"], ["inst-1", "inst-2"], []]);
  expect(diagnosesOf({ instances: [said("", "")], outliers: [] }, parseSide("01abc/inst-1")!).length).toBe(1);
});

// "inst-1: cpu.pprof heap.pprof" a line.
const capture = (text: string, seconds = 10): Capture =>
  captureOf("01abc", "done", {
    spec: { ...captureOf("x", "done").spec, durationSeconds: seconds },
    targets: text.trim().split("\n").map((l) => {
      const [id = "", files = ""] = l.trim().split(":");
      return targetOf(id, { artifacts: files.trim().split(" ").map((name) => ({ name, kind: name.split(".")[0]!, losses: [] as unknown[] }) as Artifact) });
    }),
  });

const full = "inst-1: cpu.pprof heap.before.pprof heap.pprof block.before.pprof block.after.pprof block.pprof trace.out";
const pairs = (a: Capture, sideA: string, b: Capture, sideB: string) => profilePairs({ capture: a, side: parseSide(sideA)! }, { capture: b, side: parseSide(sideB)! }).map((p) => `${p.kind}: ${p.before} → ${p.after}`);

test("the profiles that both have", () => {
  expect(pairs(capture(full), "01abc/*", capture(full), "01abc/inst-1")).toEqual(["cpu: cpu.pprof → cpu.pprof", "heap: heap.pprof → heap.pprof", "block: block.pprof → block.pprof"]);
  expect(pairs(capture(full), "01abc/*", capture("inst-1: heap.pprof"), "01abc/*")).toEqual(["heap: heap.pprof → heap.pprof"]);
  expect(pairs(capture("inst-1: cpu.pprof\ninst-2: heap.pprof"), "01abc/inst-2", capture(full), "01abc/*")).toEqual(["heap: heap.pprof → heap.pprof"]);
});

test("within a window: its start and its end, not what it added", () => expect(pairs(capture(full), "01abc/*@before", capture(full), "01abc/*")).toEqual(["heap: heap.before.pprof → heap.pprof", "block: block.before.pprof → block.after.pprof"]));

test("what differs in number or length is compared by shares", () => {
  const side = (text: string, c: Capture) => ({ capture: c, side: parseSide(text)! });
  const [one, two, long] = [capture(full), capture(`${full}\ninst-2: cpu.pprof`), capture(full, 30)];
  expect([comparable(side("01abc/*", one), side("01abc/inst-2", two)), comparable(side("01abc/*", one), side("01abc/*", two)), comparable(side("01abc/*", one), side("01abc/*", long))]).toEqual([true, false, false]);
});

test("one against the others", () => {
  expect(againstOthers(capture("inst-1: a\ninst-2: a\ninst-3: a"), "inst-2")).toEqual({ before: parseSide("01abc/inst-1+inst-3"), after: parseSide("01abc/inst-2") });
  expect(againstOthers(capture("inst-1: a"), "inst-1")).toBeNull();
});

// "id: instances" a line, the newest first; "!" = it runs still.
const kept = (text: string): Capture[] =>
  text.trim().split("\n").map((l) => {
    const [id = "", who = ""] = l.trim().split(/:\s*/);
    return captureOf(id, who.includes("!") ? "collecting" : "done", { targets: who.replace("!", "").split(" ").map((i) => targetOf(i, { artifacts: [{} as Artifact] })) });
  });

test.each([
  ["c3: a b c!\nc2: a b c\nc1: a", "a", "c2/b+c c2/a"],
  ["c2: a b c\nc1: a", "a b", "c2/a c2/b"],
  ["c2: b\nc1: a", "a b", "c1/a c2/b"],
  ["c2: a b c d", "a b c", "c2/d c2/a+b+c"],
  ["c3: b\nc2: a\nc1: a", "a", "c1/a c2/a"],
  ["c2: a\nc1: b", "a", ""],
  ["c2: a\nc1: b", "a c", ""],
  ["c2: a b", "", ""],
])("of %j, %j is compared as %j", (captures, ids, want) => {
  const x = comparisonOf(kept(captures), ids.split(" ").filter(Boolean));
  expect(x ? `${formatSide(x.before)} ${formatSide(x.after)}` : "").toBe(want);
});
