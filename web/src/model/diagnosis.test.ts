import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { bySight, causesOf, countsOf, fileOf, focusOf, ledgerOf, mergeNext, momentQuery, ofFile, parseDiagnosis, pieces, placeOf, placesQuery, shortFunction, specFor, spread, verdictOf, worstFirst, type Diagnosis, type Proof } from "./diagnosis";
import { defaultSpec } from "./spec";

/**
 * A diagnosis out of text: "critical 93 lock/a" is a finding, with "< id" an
 * effect of that one; "fine lock", "na throttled", "found deadlock" and
 * "blind leak goroutine,trace 30" are checks.
 */
function document(lines: string, id = "i1"): Record<string, unknown> {
  const findings: unknown[] = [];
  const checked: unknown[] = [];
  for (const line of lines.split("\n").map((l) => l.trim()).filter(Boolean)) {
    const [word = "", a = "", b = "", c = "", d = ""] = line.split(/\s+/);
    const verdict = { fine: "ok", na: "not_applicable", found: "found", blind: "could_not_check" }[word];
    if (!verdict) findings.push({ id: b, rule: b.split("/")[0], severity: word, score: Number(a), caused_by: c === "<" ? d : null });
    else checked.push({ rule: a, verdict, reason: `why ${a}`, next_capture: b ? { kinds: b.split(","), seconds: Number(c), fidelity: d, command: `ops capture ${b}` } : null });
  }
  return { schema: "opscenter.diagnosis/v1", instance: { id }, findings, checked };
}
const read = (lines: string, id?: string): Diagnosis => parseDiagnosis(JSON.stringify(document(lines, id))).instances[0]!;
const tree = (lines: string) => causesOf(read(lines).findings).map((c) => [c.finding.id, ...c.effects.map((e) => e.id)].join(" > "));

test("the documented sample is read whole", () => {
  const { instances, outliers } = parseDiagnosis(readFileSync("../docs/formats/diagnosis.sample.json", "utf8"));
  const d = instances[0]!;
  expect([instances.length, outliers.length, d.rules, d.instance.go, d.instance.gomaxprocs, d.seconds]).toEqual([1, 0, "1-0a1b2c3d", "go1.26.8", 4, 10.004]);
  const f = d.findings[0]!;
  expect([f.severity, f.score, f.confidence, placeOf(f.where[0]!), f.where.map((w) => w.role).join(), f.remedies.length]).toEqual(["critical", 93, "high", "room.go:24", "io,wait,hold", 2]);
  expect(f.evidence).toEqual([{ artifact: "mutex", share: 0.82, text: "38.0 s of delay at this Unlock", moment: null, at: [], unit: "s" }]);
  expect(f.counterEvidence[0]!.moment).toEqual({ fromSeconds: 1.25, toSeconds: 1.75, goroutines: [4388, 4412] });
  expect(f.nextCapture).toMatchObject({ kinds: ["trace", "mutex"], seconds: 30, fidelity: "full" });
  expect(causesOf(d.findings).map((c) => `${c.finding.rule}: ${c.effects.map((e) => e.rule).join()}`)).toEqual(["lock-held-across-io: unbounded-concurrency"]);
  expect(d.losses).toEqual([{ kind: "trace", reason: "truncated", message: "the trace ended at 128 MiB" }]);
});

test("a set is read with its outliers", () => {
  const s = { schema: "opscenter.diagnosis-set/v1", instances: [document("", "a"), document("", "b")], fleet: [{ instance: "b", metric: "score of heap-growth", value: 90, median: 0, unit: "points", text: "b alone grows" }] };
  const set = parseDiagnosis(JSON.stringify(s));
  expect(set.instances.map((d) => d.instance.id)).toEqual(["a", "b"]);
  expect(set.outliers).toEqual([{ instance: "b", metric: "score of heap-growth", text: "b alone grows" }]);
});

test.each([
  ["", "the diagnosis is not JSON: reload the page, and if that does not help, look at the centre's log"],
  ["null", "the diagnosis is of a format that this page does not know (none): reload the page"],
  ['{"schema":"opscenter.diagnosis/v2"}', "the diagnosis is of a format that this page does not know (opscenter.diagnosis/v2): reload the page"],
])("%j is refused in words", (json, want) => expect(() => parseDiagnosis(json)).toThrow(want));

test("what is of another type is missing, and an unknown verdict is not fine", () => {
  const d = parseDiagnosis('{"schema":"opscenter.diagnosis/v1","instance":7,"window":[],"findings":[null,{"severity":"dire","score":"9","where":[3],"evidence":[{"share":7}],"remedies":[1,"do"],"next_capture":{"kinds":"cpu"}}],"checked":[{"rule":"x","verdict":"maybe"}],"losses":{}}').instances[0]!;
  expect(d.instance).toEqual({ id: "", go: "", gomaxprocs: 0 });
  expect(d.findings.map((f) => `${f.severity} ${f.score} ${f.remedies.join()} ${f.nextCapture}`)).toEqual(["notice 0  null", "notice 0 do null"]);
  expect(d.findings[1]!.evidence[0]!.share).toBe(1);
  expect(d.checked[0]!.verdict).toBe("could_not_check");
  expect(d.losses).toEqual([]);
});

test.each([
  ["effects follow their cause, wherever they weigh in", "critical 90 b\nwarning 60 a\ncritical 80 c < a", ["b", "a > c"]],
  ["a cause weighs as much as its worst effect", "critical 90 b\nnotice 30 a\ncritical 95 c < a", ["a > c", "b"]],
  ["effects of effects are effects of the first cause, the heaviest first", "critical 90 a\nnotice 30 b < a\nwarning 55 c < b", ["a > c > b"]],
  ["by severity, score and id", "notice 99 n\nwarning 50 y\nwarning 50 x\nwarning 70 z", ["z", "x", "y", "n"]],
  ["a cause that is not there", "warning 60 a < gone", ["a"]],
  ["two that blame each other both stand", "critical 90 a < b\nwarning 60 b < a", ["a", "b"]],
  ["one that blames itself stands", "critical 90 a < a", ["a"]],
  ["nothing", "", []],
])("%s", (_, lines, want) => expect(tree(lines)).toEqual(want));

test("what leads into a circle is not lost", () => {
  expect(tree("critical 90 a < b\nwarning 60 b < a\nnotice 30 c < a").join().split(/ > |,/).sort()).toEqual(["a", "b", "c"]);
});

test("causes are counted by severity, effects apart", () => {
  expect(countsOf(causesOf(read("critical 90 a\ncritical 80 b < a\nnotice 30 c").findings))).toEqual({ critical: 1, warning: 0, notice: 1, effects: 1 });
});

test("every rule is accounted for, and gaps that one capture fills are one", () => {
  const l = ledgerOf(read("critical 90 lock/a\nfound lock\nfound deadlock\nfine gc\nna throttled\nblind leak trace,goroutine 0\nblind churn trace 0\nblind pool goroutine,trace 0\nblind quota"));
  expect([l.ok, l.notApplicable, l.elsewhere].map((c) => c.map((x) => x.rule).join())).toEqual(["gc", "throttled", "deadlock"]);
  expect(l.gaps.map((g) => `${g.next?.kinds.join() ?? "none"}: ${g.checks.map((c) => c.rule).join()}`)).toEqual(["goroutine,trace: leak,pool", "trace: churn", "none: quota"]);
  expect(l.blind).toBe(4);
});

test.each([
  ["all of them, for as long as the longest", "blind a trace 0\nblind b heap,cpu 30 balanced", "cpu,heap,trace 30 balanced"],
  ["two fidelities: the one that sees more", "blind a trace 5 full\nblind b heap 3 balanced", "heap,trace 5 full"],
  ["one is what it is", "blind a trace 0\nblind b", null],
])("one capture for all gaps: %s", (_, lines, want) => {
  const n = mergeNext(ledgerOf(read(lines)).gaps);
  expect(n && `${n.kinds.join()} ${n.seconds} ${n.fidelity}`).toBe(want);
});

test.each([
  ["says all", { kinds: ["trace"], seconds: 12.2, fidelity: "full" }, { durationSeconds: 60, fidelity: "balanced", traceWindowSeconds: 10 }, "trace 13 full 10"],
  ["leaves open how long and how", { kinds: ["heap"], seconds: 0, fidelity: "" }, { durationSeconds: 60, fidelity: "balanced" }, "heap 60 balanced 5"],
  ["asks for more than is allowed", { kinds: ["heap"], seconds: 3600, fidelity: "" }, { durationSeconds: 0, fidelity: "", traceWindowSeconds: 0 }, "heap 600 full 5"],
])("the dialog for a capture that %s", (_, next, asked, want) => {
  const s = specFor({ ...next, command: "", remote: "" }, { ...defaultSpec(), ...asked });
  expect(`${s.kinds.join()} ${s.durationSeconds} ${s.fidelity} ${s.traceWindowSeconds}`).toBe(want);
});

test("of several instances the worst comes first, and a finding tells how many have it", () => {
  const all = [read("", "calm"), read("notice 40 x", "busy"), read("critical 80 x", "bad"), read("warning 60 x\ncritical 99 y < x", "worst"), read("", "quiet")];
  expect(worstFirst(all).map((r) => r.diagnosis.instance.id)).toEqual(["worst", "bad", "busy", "calm", "quiet"]);
  expect([...spread(all)]).toEqual([["x", 3], ["y", 1]]);
});

test.each([
  ["its heaviest finding, be it an effect", "notice 40 a\ncritical 80 b < a\nfine x", "critical"],
  ["most rules could look", "fine a\nfine b\nblind c", "fine"],
  ["what does not apply needs no evidence", "fine a\nna b\nblind c", "fine"],
  ["half of them were blind", "fine a\nblind b", "unclear"],
  ["nobody looked", "", "unclear"],
])("the verdict: %s", (_, lines, want) => {
  const d = read(lines);
  expect(verdictOf(d, causesOf(d.findings))).toBe(want);
});

const marked = (s: string) => pieces(s).map((p) => (p.code ? `[${p.text}]` : p.text)).join("|");
test.each([
  ["`main.f` waits (a.go:1)", "[main.f]| waits (a.go:1)"], ["no code", "no code"], ["a `b", "a `b"], ["`a` and `b", "[a]| and `b"], ["``", ""], ["", ""], ["`<b>`", "[<b>]"],
])("%s reads %s", (s, want) => expect(marked(s)).toBe(want));

test.each([
  [{ file: "room.go", line: 24, function: "main.f" }, "room.go:24"], [{ file: "room.go", line: 0, function: "main.f" }, "room.go"], [{ file: "", line: 24, function: "main.f" }, "main.f"],
])("%j is %s", (p, want) => expect(placeOf({ role: "", ...p })).toBe(want));

test.each([
  ["example.com/a/game.(*Room).PlaceBet", "game.(*Room).PlaceBet"], ["main.main.func1", "main.main.func1"], ["net/http.(*conn).serve", "http.(*conn).serve"], ["example.com/a/box.Map[example.com/b/key.K].Set", "box.Map[example.com/b/key.K].Set"], ["", ""],
])("%s is written %s", (name, want) => expect(shortFunction(name)).toBe(want));

test("proofs gather under what they were read from and where in it", () => {
  const p = (artifact: string, text: string, fn = "") => ({ artifact, text, share: 0, moment: null, at: fn ? [{ function: fn, line: 0 }] : [], unit: "s" });
  expect(bySight([p("block", "1", "f"), p("mutex", "2"), p("block", "3"), p("block", "4", "f")]).map((g) => `${g.kind} ${g.proofs.map((x) => x.text).join()}`)).toEqual(["block 1,4", "mutex 2", "block 3"]);
  const cores: Proof = { ...p("cpu", "0.61 of 1 core"), unit: "cores" };
  expect([ofFile(p("cpu", "")), ofFile(cores)]).toEqual([true, false]);
  const files = ["heap.before.pprof", "heap.pprof", "goroutine.before.pprof", "goroutine.after.pprof"].map((name) => ({ name, kind: name.split(".")[0]! }) as Parameters<typeof fileOf>[0][number]);
  expect([fileOf(files, "heap")?.name, fileOf(files, "goroutine")?.name, fileOf(files, "cpu")?.name]).toEqual(["heap.pprof", "goroutine.after.pprof", undefined]);
});

test("pprof is asked for the places by name, not by pattern", () => {
  const at = [{ function: "main.(*cache[...]).get", line: 1 }, { function: "main.f", line: 2 }, { function: "main.f", line: 0 }];
  expect(focusOf(at)).toBe("(^|/)(main\\.\\(\\*cache\\[\\.\\.\\.\\]\\)\\.get|main\\.f)$");
  expect(placesQuery(at)).toBe("main.(*cache[...]).get:1|main.f:2|main.f");
  expect(focusOf([])).toBe("");
});

test("the proofs of a trace lead to their moment on the timeline", () => {
  const at = (moment: Proof["moment"]) => ({ artifact: "trace", share: 0, text: "", moment, at: [], unit: "s" });
  expect(momentQuery([at(null), at({ fromSeconds: 1.25, toSeconds: 1.75, goroutines: [4388, 4412] })])).toEqual({ t: "1100-1900", g: "4388", at: "1500", pin: "4388,4412" });
  expect(momentQuery([at({ fromSeconds: 0, toSeconds: 1e-6, goroutines: [] })])).toEqual({ t: "0-0.011" });
  expect(momentQuery([at(null)])).toEqual({});
});
