import { expect, test } from "vitest";
import { argsOf, checkArg, countdown, doneOf, factsOf, formatView, grouped, nextRevert, parseDuration, parseSize, parseView, rangeText, settle, splitService, step, toneOf, valuesOf, valuesText, wavesText, wholeWithin, type Control, type ControlState, type Param, type Result, type Run, type RunEvent } from "./model";

/** "percent int required 10..100000 off|auto default=5 secret" */
function param(text: string): Param {
  const [name = "", type = "", ...rest] = text.split(" ");
  const p: Param = { name, description: "", type, required: false, defaultValue: "", min: "", max: "", choices: [], secret: false };
  for (const w of rest)
    if (w === "required") p.required = true;
    else if (w === "secret") p.secret = true;
    else if (w.includes("..")) [p.min = "", p.max = ""] = w.split("..");
    else if (w.startsWith("default=")) p.defaultValue = w.slice(8);
    else p.choices = w.split("|");
  return p;
}

/** "gogc builtin mutating: a 100; b 50 set=50 was=100 back=9000; c !no such knob" */
function control(text: string): Control {
  const [head = "", states = ""] = text.split(":");
  const [name = "", ...flags] = head.trim().split(" ");
  const on = states.split(";").filter((s) => s.trim()).map((s): ControlState => {
    const [instance = "", value = "", ...rest] = s.trim().split(" ");
    if (value.startsWith("!")) return { instance, value: "", setTo: "", original: "", revertsAt: 0, unavailable: s.slice(s.indexOf("!") + 1) };
    const of = (k: string) => rest.find((r) => r.startsWith(k + "="))?.slice(k.length + 1) ?? "";
    return { instance, value, setTo: of("set"), original: of("was"), revertsAt: Number(of("back")), unavailable: "" };
  });
  return { name, description: "", builtin: flags.includes("builtin"), mutating: flags.includes("mutating"), params: flags.includes("params") ? [param("x string")] : [], effect: "", undo: "", setting: flags.includes("setting"), dryRun: false, on, differs: false };
}

test.each([
  ["percent int required 10..100000 off", "50", ""], ["percent int required 10..100000 off", "off", ""], ["percent int required 10..100000 off", "", "missing"],
  ["percent int required 10..100000 off", "9", "range"], ["percent int required 10..100000 off", "100001", "range"], ["percent int required 10..100000 off", "5e1", "int"], ["percent int required 10..100000 off", "OFF", "int"],
  ["n int", "", ""], ["n int", "-9223372036854775808", ""], ["n int ..5", "99999999999999999999", "range"],
  ["rate duration 1ns..1s off", "10µs", ""], ["rate duration 1ns..1s off", "1m", "range"], ["rate duration 1ns..1s off", "10", "duration"], ["d duration", "0", ""], ["d duration 0s..", "-1s", "range"],
  ["limit size 16MiB.. off", "512MiB", ""], ["limit size 16MiB.. off", "15mib", "range"], ["limit size 16MiB.. off", "much", "size"], ["limit size 16MiB.. off", "20000000", ""],
  ["how enum soft|hard", "soft", ""], ["how enum soft|hard", "rude", "enum"], ["on bool", "true", ""], ["on bool", "yes", "bool"],
  ["f float 0..1", "0.5", ""], ["f float 0..1", "1.1", "range"], ["f float", "NaN", "float"], ["f float", " ", "float"],
  ["s string", "x".repeat(4096), ""], ["s string", "字".repeat(1366), "long"],
])("%s = %s: %s", (p, text, want) => expect(checkArg(param(p), text)).toBe(want));

test.each([["1m30s", 90], ["1.5h", 5400], ["250ms", 0.25], ["-2s", -2], ["0", 0], ["", null], ["5", null], ["5 s", null], ["1d", null]])("the duration %s", (text, want) => expect(parseDuration(text)).toBe(want));
test.each([["512MiB", 536870912], ["1 gb", 1e9], ["1.5KiB", 1536], ["7", 7], ["7 parsecs", null], ["-1", null], ["", null]])("the size %s", (text, want) => expect(parseSize(text)).toBe(want));

test("what fits is said in a few words", () => {
  expect(["a int 1..9 off", "a size 16MiB..", "a int ..9", "how enum soft|hard", "s string"].map((p) => rangeText(param(p)))).toEqual(["1 – 9, off", "≥ 16MiB", "≤ 9", "", ""]);
});

test("what is empty was not given", () => {
  expect(argsOf([param("a int"), param("b string"), param("c bool")], { a: "1", b: "", c: "false", d: "not of this control" })).toEqual({ a: "1", c: "false" });
});

test("values over the instances, the commonest first", () => {
  const c = control("gogc builtin mutating setting params: a 100; b 50 set=50 was=100 back=9000; c 100; d !too old");
  expect(valuesText(valuesOf(c))).toBe("100 ×2, 50");
  expect(valuesText(valuesOf(c, new Set(["b"])))).toBe("50");
  expect(valuesText(valuesOf(c, new Set(["d"])))).toBe("");
  expect(nextRevert([c, control("x: a 1 set=1 was=2 back=4000; b 2")])).toBe(4000);
  expect(nextRevert([control("x: a 1")])).toBe(0);
});

test("the service's own come first, then settings, actions, and what only looks", () => {
  const all = ["gc builtin mutating", "gogc builtin mutating setting params", "kick mutating params", "flags builtin", "log-level builtin mutating params: a !none"].map(control);
  expect(grouped(all).map(([g, of]) => `${g}: ${of.map((c) => c.name).join(" ")}`)).toEqual(["own: kick", "settings: gogc log-level", "actions: gc", "looks: flags"]);
});

test.each([[300.9, "5:00"], [61, "1:01"], [0.4, "0:00"], [0, "0:00"], [-3, "0:00"], [3899, "1:04:59"]])("%s seconds to go", (s, want) => expect(countdown(s)).toBe(want));
test.each([["", 0], ["5", 5], ["1000", 1000], ["1001", null], ["-1", null], ["1.5", null], ["x", null]])("a batch of %j", (text, want) => expect(wholeWithin(text, 1000)).toBe(want));

test("batches as arrows", () => {
  expect(wavesText([1, 5, 5, 1])).toBe("1 → 5 → 5 → 1");
  expect(wavesText([1, ...Array<number>(20).fill(10), 3])).toBe("1 → 10 → 10 → 10 → … → 3");
});

const result = (instance: string, word: string, message = ""): RunEvent => ({ kind: "result", result: { instance, result: word, message, answer: "", before: "", after: "", revertsAt: 0, seconds: 0 } as Result });
const tell = (run: Run) => [...run.results.values()].map((r) => `${r.instance}: ${r.result || "…"}${r.message && ` (${r.message})`}`).join(", ") + (run.finished ? `; ${run.finished.result}: ${run.finished.message}` : "");

test("a run as it is told", () => {
  let run: Run | null = null;
  const events: RunEvent[] = [
    { kind: "started", audit: "01a", instances: ["a", "b", "c"], waves: 2, replayed: false },
    result("a", "ok"), result("b", "failed", "no such room"), result("c", "skipped"),
    { kind: "finished", result: "partial", message: "ok on 1 of 3", unrecorded: "" },
  ];
  const seen = events.map((e) => tell((run = step(run, e))));
  expect(seen).toEqual(["a: …, b: …, c: …", "a: ok, b: …, c: …", "a: ok, b: failed (no such room), c: …", "a: ok, b: failed (no such room), c: skipped", "a: ok, b: failed (no such room), c: skipped; partial: ok on 1 of 3"]);
});

test("who stopped listening is told by the record; what it does not name did not begin", () => {
  let run = step(null, { kind: "started", audit: "01a", instances: ["a", "b", "c"], waves: 3, replayed: false });
  run = step(run, result("a", "ok", "heard"));
  run = settle(run, { result: "partial", message: "stopped", steps: [{ instance: "a", result: "ok", message: "" }, { instance: "b", result: "unknown", message: "given up" }] });
  expect(tell(run)).toBe("a: ok (heard), b: unknown (given up), c: skipped; partial: stopped");
  expect(doneOf(run)).toBe(3);
});

test("a simple answer is names and values, another is JSON", () => {
  expect(factsOf('{"heap_before_bytes": 1048576, "took_seconds": 0.0042, "kicked": 3, "who": "ann"}')).toEqual([["heap before", "1.0 MiB", false], ["took", "4.2 ms", false], ["kicked", "3", true], ["who", "ann", true]]);
  for (const text of ['{"a": {"b": 1}}', "[1]", "3", "{}", "no JSON"]) expect(factsOf(text), text).toBeNull();
});

test("an outcome that nobody knows looks as bad as a failure", () => {
  expect(["ok", "failed", "unknown", "partial", "refused", "running", "skipped", "of a newer centre"].map(toneOf)).toEqual(["good", "bad", "bad", "warn", "warn", "accent", "", ""]);
});

test.each(["", "service=color-game%2Fuser-service", "service=color-game%2Fuser-service&on=4vc446jtds%2Cpf0qfvam69&control=gogc"])("the address %j survives", (q) => {
  expect(new URLSearchParams(formatView(parseView(Object.fromEntries(new URLSearchParams(q))))).toString()).toBe(q);
});

test("what is no id in an address is left out", () => expect(parseView({ on: "4vc446jtds,../../etc,x" }).instances).toEqual(["4vc446jtds"]));
test("a service's key in two", () => expect(splitService("a/b")).toEqual({ project: "a", service: "b" }));
