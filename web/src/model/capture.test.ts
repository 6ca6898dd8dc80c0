import { expect, test } from "vitest";
import { applyCaptures, artifactRows, isNote, lastVerdicts, lossesOf, mergeCapture, mergeList, placeFirst, progressOf, type Artifact } from "./capture";
import { captureOf, targetOf } from "./testdata";

const artifact = (name: string, kind: string, a: Partial<Artifact> = {}): Artifact => ({ name, kind, phase: "window", takenAt: 0, windowStart: 0, windowEnd: 0, sizeBytes: 1, sha256: "", losses: [], partial: false, derived: false, ...a });
const states = (list: { id: string; state: string }[]) => list.map((c) => `${c.id} ${c.state}`).join("\n");

test("the stream moves a capture, the read keeps its files", () => {
  const read = captureOf("c1", "collecting", { targets: [targetOf("i1", { state: "collecting", artifacts: [artifact("heap.before.pprof", "heap")] })], sizeBytes: 9 });
  const live = captureOf("c1", "done", { targets: [targetOf("i1", { state: "done" })], pinned: true });
  const got = mergeCapture(read, live);
  expect([got.state, got.pinned, got.sizeBytes, got.targets[0]!.state, got.targets[0]!.artifacts.length]).toEqual(["done", true, 9, "done", 1]);
  expect(mergeCapture(read, undefined)).toBe(read);
});

test("a late message cannot bring an ended capture back to life", () => {
  const read = captureOf("c1", "done");
  expect(mergeCapture(read, captureOf("c1", "collecting")).state).toBe("done");
});

test("the first page takes new captures in front, others only news of their own", () => {
  const page = [captureOf("c5", "done"), captureOf("c3", "collecting")];
  const live = [captureOf("c7", "collecting"), captureOf("c6", "done", { service: "wallet" }), captureOf("c3", "partial"), captureOf("c2", "done")];
  const user = (c: { service: string }) => c.service === "user";
  expect(states(mergeList(page, live, new Set(), true, user))).toBe("c7 collecting\nc5 done\nc3 partial");
  expect(states(mergeList(page, live, new Set(), false, user))).toBe("c5 done\nc3 partial");
  expect(states(mergeList(page, live, new Set(["c5", "c7"]), true, user))).toBe("c3 partial");
  expect(states(mergeList([], live, new Set(), true, () => true))).toBe("c7 collecting\nc6 done\nc3 partial\nc2 done");
});

test("a service's last verdict is its newest that has one, made here and lately", () => {
  const said = (title: string) => ({ severity: "critical" as const, rule: "deadlock", title: { en: title }, critical: 1, warning: 0, notice: 0, unchecked: 0 });
  const all = [
    captureOf("old", "done", { created: 10, headline: said("old") }), captureOf("new", "done", { created: 20, headline: said("new") }), captureOf("running", "collecting", { created: 30 }),
    captureOf("foreign", "done", { created: 40, headline: said("foreign"), imported: true }), captureOf("past", "done", { created: 1, service: "wallet", headline: said("past") }),
  ];
  expect([...lastVerdicts(all, 5)].map(([of, c]) => `${of}: ${c.id}`)).toEqual(["color/user: new"]);
});

test("a change replaces, adds and removes, and a reset forgets the rest", () => {
  const known = new Map([["c1", captureOf("c1", "done")]]);
  applyCaptures(known, { reset: false, captures: [captureOf("c2", "done")], removedIds: ["c1"] });
  expect([...known.keys()]).toEqual(["c2"]);
  applyCaptures(known, { reset: true, captures: [], removedIds: [] });
  expect(known.size).toBe(0);
});

test("progress is the mean of the targets, and only an end is an end", () => {
  const at = (elapsedSeconds: number) => targetOf("i", { state: "collecting", progress: { elapsedSeconds, durationSeconds: 30, activity: "" } });
  expect(progressOf(captureOf("c", "collecting", { targets: [at(0), at(30)] }))).toBeCloseTo(0.475);
  expect(progressOf(captureOf("c", "collecting", { targets: [at(60)] }))).toBe(0.95);
  expect(progressOf(captureOf("c", "committing", { targets: [targetOf("i", { state: "committing" })] }))).toBe(0.97);
  expect(progressOf(captureOf("c", "requested"))).toBe(0);
  expect(progressOf(captureOf("c", "failed"))).toBe(1);
});

test("every loss is told once", () => {
  const cut = { kind: "trace", reason: "truncated", message: "at its cap" };
  const t = targetOf("i", { losses: [cut, { kind: "", reason: "disconnected", message: "cut" }], artifacts: [artifact("trace.out", "trace", { losses: [cut] })] });
  expect(lossesOf(t).map((l) => `${l.artifact}|${l.loss.reason}`)).toEqual(["trace.out|truncated", "|disconnected"]);
});

test("files come in the order of kinds, raw ends below, pairs where both ends are", () => {
  const names: [string, string][] = [
    ["trace.out", "trace"], ["mutex.pprof", "mutex"], ["heap.pprof", "heap"], ["heap.before.pprof", "heap"], ["cpu.pprof", "cpu"], ["block.after.pprof", "block"],
    ["block.before.pprof", "block"], ["block.pprof", "block"], ["goroutine.txt", "goroutine-dump"], ["what.bin", "unheard-of"],
  ];
  const rows = artifactRows(names.map(([n, k]) => artifact(n, k)));
  expect(rows.map((r) => `${r.raw ? "  " : ""}${r.artifact.name}${r.pair ? ` ${r.pair.before.name}→${r.pair.after.name}` : ""}`).join("\n")).toBe(
    [
      "cpu.pprof",
      "heap.pprof heap.before.pprof→heap.pprof",
      "  heap.before.pprof",
      "block.pprof block.before.pprof→block.after.pprof",
      "  block.before.pprof",
      "  block.after.pprof",
      "mutex.pprof",
      "trace.out",
      "goroutine.txt",
      "what.bin",
    ].join("\n"),
  );
});

test.each([
  ["`game.(*Room).placeStrict` holds a mutex (pgx) (room.go:105)", "room.go:105", "`game.(*Room).placeStrict` holds a mutex (pgx)"],
  ["`user.(*Service).Login` 正在做密碼雜湊（user.go:115）", "user.go:115", "`user.(*Service).Login` 正在做密碼雜湊"],
  ["goroutines wait 245 ms for a CPU", "", "goroutines wait 245 ms for a CPU"],
])("the place in %j is %s", (title, place, text) => expect(placeFirst(title)).toEqual({ place, text }));

test("a gap that is short beside the window is a note, any other loss is none", () => {
  const gap = (time: string) => ({ kind: "cpu", reason: "gap", message: `the CPU profile was taken in 2 segments; ${time} between them were not sampled` });
  expect(isNote(gap("751µs"), 10)).toBe(true);
  expect(isNote(gap("1.5s"), 10)).toBe(false);
  expect(isNote(gap("751µs"), 0)).toBe(false);
  expect(isNote(gap("1m2.5s"), 600)).toBe(false);
  expect(isNote(gap("1m2.5s"), 7200)).toBe(true);
  expect(isNote({ ...gap("751µs"), reason: "truncated" }, 10)).toBe(false);
  expect(isNote({ kind: "goroutineleak", reason: "unsupported", message: "go1.26 has no goroutine leak profile" }, 10)).toBe(true);
  expect(isNote({ kind: "", reason: "unsupported", message: "this centre does not know it" }, 10)).toBe(false);
});
