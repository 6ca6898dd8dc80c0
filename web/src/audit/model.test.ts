import { expect, test } from "vitest";
import { formatAudit, fromLocalInput, headText, localInput, narrowed, parseAudit, parseHead, stepsOf, storyOf, stretch, targetText, type AuditEntry } from "./model";

const entry = (e: Partial<AuditEntry>): AuditEntry => ({
  id: "01", seq: 1, hash: "", at: 0, ended: 0, actor: "", action: "", subject: "", project: "color", service: "user", instances: [], reason: "", mutating: true, dryRun: false, key: "", request: "", result: "ok", message: "", answer: "", answerLost: false, steps: [], ...e,
});

test.each(["", "q=coins&actor=local%3Aann&action=control&target=user-service&outcome=failed%2Cunknown&changes=1&time=24h&page=400%2C350&id=01m82dgf1t0mr7nxkczft6mhkj", "time=between&from=1790000000000&to=1790000060000"])("the address %j survives", (q) => {
  expect(new URLSearchParams(formatAudit(parseAudit(Object.fromEntries(new URLSearchParams(q))))).toString()).toBe(q);
});

test("what no page would write is not believed", () => {
  const v = parseAudit({ outcome: "ok,great", time: "ever", from: "1790000000000", page: "x,12", id: "<script>" });
  expect([v.outcomes, v.span, v.from, v.pages, v.id]).toEqual([["ok"], "", 0, ["12"], ""]);
  expect(narrowed(parseAudit({ page: "12", id: "01m82dgf1t0mr7nxkczft6mhkj" }))).toBe(false);
});

test("a stretch ends now, or where it was told", () => {
  const now = 1_790_000_000_000;
  expect([stretch(parseAudit({}), now), stretch(parseAudit({ time: "1h" }), now), stretch(parseAudit({ time: "between", to: "1789999999000" }), now)]).toEqual([{ from: 0, to: 0 }, { from: now - 3600e3, to: 0 }, { from: 0, to: 1_789_999_999_000 }]);
});

test("a time goes into a field and comes back, to the minute", () => {
  const at = Math.floor(1_790_000_012_345 / 60e3) * 60e3;
  expect(fromLocalInput(localInput(at))).toBe(at);
  expect([localInput(0), fromLocalInput(""), fromLocalInput("soon")]).toEqual(["", 0, 0]);
});

test("the end of a record as it was noted", () => {
  const text = `412:${"9f".repeat(32)}`;
  expect(headText(parseHead(` ${text}\n`)!)).toBe(text);
  for (const bad of ["", "412", "412:9f2c…", `x:${"9f".repeat(32)}`]) expect(parseHead(bad), bad).toBeNull();
});

test("whom it was aimed at, and what there is to tell", () => {
  const name = (id: string) => `host-${id}`;
  expect([entry({ instances: ["a"] }), entry({ instances: ["a", "b"] }), entry({}), entry({ service: "" })].map((e) => targetText(e, name))).toEqual(["user / host-a", "user ×2", "user", "color"]);
  expect([entry({ reason: "leak", message: "ok" }), entry({ message: "no such room" })].map(storyOf)).toEqual([{ reason: "leak", message: "" }, { reason: "", message: "no such room" }]);
});

test.each([
  ["control.run", "partial", "a: ok, b: skipped"], ["control.run", "unknown", "a: ok, b: unknown"], ["control.run", "running", "a: ok, b: "], ["control.run", "refused", "a: ok, b: "], ["grpc.call", "ok", "a: ok, b: "],
])("%s that ended %s: %s", (action, result, want) => {
  const e = entry({ action, result, instances: ["a", "b"], steps: [{ instance: "a", result: "ok", message: "" }] });
  expect(stepsOf(e).map((s) => `${s.instance}: ${s.result}`).join(", ")).toBe(want);
});
