// The diagnosis on the page, with a centre that says what the test wants.
import { flushPromises, mount, RouterLinkStub, type VueWrapper } from "@vue/test-utils";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Api } from "../api/client";
import { captureWish } from "../composables/captureDialog";
import { dispatch } from "../composables/commands";
import { centreKey, createCentre } from "../composables/centre";
import { setLocale } from "../i18n";
import type { Artifact, Target } from "../model/capture";
import { parseDiagnosis } from "../model/diagnosis";
import { captureOf, instanceOf, targetOf } from "../model/testdata";
import DiagnosisView from "./DiagnosisView.vue";

const file = (name: string, kind: string): Artifact => ({ name, kind, phase: "window", takenAt: 0, windowStart: 0, windowEnd: 0, sizeBytes: 1, sha256: "", losses: [], partial: false, derived: false });
const files = [file("mutex.before.pprof", "mutex"), file("mutex.pprof", "mutex"), file("goroutine.txt", "goroutine-dump"), file("trace.out", "trace")];

const lock = {
  id: "lock-held-across-io/main.(*Room).PlaceBet", rule: "lock-held-across-io", severity: "critical", score: 93, confidence: "high",
  title: "`main.(*Room).PlaceBet` holds a mutex <b>during I/O</b>", summary: "Players waited 38.0 s.", explanation: "The insert runs between Lock and Unlock.", remedies: ["Move the insert behind `Unlock`."],
  where: [{ role: "io", function: "main.(*Room).PlaceBet", file: "room.go", line: 24 }, { role: "wait", function: "main.(*Room).PlaceBet", file: "room.go", line: 22 }],
  evidence: [{ artifact: "mutex", share: 0.82, text: "38.0 s of delay", unit: "s", at: [{ function: "main.(*Room).PlaceBet", line: 0 }, { function: "main.(*Room).Leave", line: 0 }] }, { artifact: "trace", share: 0, text: "40 waits", moment: { from_seconds: 1, to_seconds: 2, goroutines: [7] } }, { artifact: "goroutine-dump", share: 0, text: "59 wait", at: [{ function: "main.(*Room).PlaceBet", line: 22 }] }, { artifact: "cpu", share: 0, text: "idle" }],
  counter_evidence: [{ artifact: "trace", share: 0, text: "only 1.2 s of trace" }], caused_by: null, next_capture: null,
};
const pile = { ...lock, id: "unbounded-concurrency/main.bet", rule: "unbounded-concurrency", severity: "warning", score: 61, title: "requests pile up", where: [{ role: "create", function: "main.bet", file: "server.go", line: 9 }], caused_by: lock.id };
const checks = [
  { rule: "heap-growth", verdict: "ok", reason: "the live heap stayed at 40 MiB" }, { rule: "cpu-throttled", verdict: "not_applicable", reason: "no cgroup" }, { rule: "deadlock", verdict: "ok", reason: "nobody waits" },
  { rule: "goroutine-leak", verdict: "could_not_check", reason: "needs goroutine", next_capture: { kinds: ["goroutine"], seconds: 20, fidelity: "balanced", command: "ops capture user/a1 --kinds goroutine" } },
];
const one = (id: string, findings: unknown[], checked: unknown[] = checks, losses: unknown[] = []) => ({ schema: "opscenter.diagnosis/v1", rules: "1-ab", instance: { id }, window: { seconds: 10 }, findings, checked, losses });

let said: unknown;
let asked: string[];
let mounted: VueWrapper[];
beforeEach(() => {
  setLocale("en");
  asked = [];
  mounted = [];
});
afterEach(() => {
  for (const m of mounted) m.unmount();
  captureWish.value = null;
  document.body.replaceChildren();
});

async function show(document_: unknown, props: object = {}, targets: Target[] = [targetOf("a1", { artifacts: files })]) {
  said = document_;
  const api = {
    system: () => Promise.reject(new TypeError("not in this test")),
    diagnosis: (id: string, lang: string) => {
      asked.push(`${id} ${lang}`);
      return said instanceof Error ? Promise.reject(said) : said === null ? new Promise(() => {}) : Promise.resolve(parseDiagnosis(JSON.stringify(said)));
    },
    traceWindows: () => Promise.resolve({ windows: [{ fromGeneration: 1, toGeneration: 3, startSeconds: 0, lengthSeconds: 2.5, sizeBytes: 2048, path: "trace/c1/a1/trace.out/1-3/" }], loss: "" }),
  } as unknown as Api;
  const centre = createCentre(api, (on) => {
    on({ type: "event", event: { topic: "fleet", change: { reset: true, instances: [instanceOf({ id: "a1" }), instanceOf({ id: "a9" })], removedIds: [] } } });
    return { setMetrics() {}, retry() {}, close() {} };
  });
  const w = mount(DiagnosisView, { props: { capture: captureOf("c1", "done", { targets }), instance: "", findings: [], checked: false, ...props }, global: { provide: { [centreKey as symbol]: centre }, stubs: { RouterLink: RouterLinkStub } }, attachTo: document.body });
  mounted.push(w);
  await flushPromises();
  return w;
}
const unfolded = { findings: [`a1/${lock.id}`] };

test("the line to change first stands with what happens and what to do, and foreign text stays text", async () => {
  const w = await show(one("a1", [pile, lock]));
  const cards = w.findAll("[data-finding]");
  expect(cards.map((c) => c.attributes("data-finding"))).toEqual([lock.id, pile.id]);
  const card = cards[0]!;
  expect(card.find("[data-t=place]").text()).toBe("room.go:24");
  expect(card.find(".title").text()).toBe("main.(*Room).PlaceBet holds a mutex <b>during I/O</b>");
  expect(card.find(".title code").text()).toBe("main.(*Room).PlaceBet");
  expect(card.find(".title b").exists()).toBe(false);
  expect(card.find(".summary").text()).toBe("Players waited 38.0 s.");
  expect(card.find("ol").text()).toBe("Move the insert behind Unlock.");
  expect(w.find(".heading").text()).toContain("1 critical");
  expect(w.find(".heading").text()).toContain("1 effect");
});

test("an effect stands inside its cause, with its line alone until it is unfolded", async () => {
  const w = await show(one("a1", [lock, pile]));
  const effect = w.find(`[data-finding="${lock.id}"] .effects [data-finding]`);
  expect(effect.find("[data-t=place]").text()).toBe("server.go:9");
  expect(effect.find(".summary").exists()).toBe(false);
  await effect.find("[data-t=finding]").trigger("click");
  expect(w.emitted("view")).toEqual([[{ findings: [`a1/${pile.id}`] }]]);
});

test("every proof opens the file that it was read from", async () => {
  const w = await show(one("a1", [lock]), unfolded);
  const links = (kind: string) => w.find(`[data-evidence="${kind}"]`).findAll("a[href]").map((a) => a.attributes("href"));
  const ways = w.findAllComponents(RouterLinkStub).map((l) => l.props("to") as { params: { tab: string } });
  expect(ways.find((to) => to.params?.tab === "flame")).toEqual({ name: "capture", params: { id: "c1", tab: "flame" }, query: { instance: "a1", profile: "mutex", focus: ["main.(*Room).PlaceBet", "main.(*Room).Leave"], fn: "main.(*Room).PlaceBet" } });
  expect(ways.find((to) => to.params?.tab === "goroutines")).toEqual({ name: "capture", params: { id: "c1", tab: "goroutines" }, query: { instance: "a1", snap: "goroutine.txt", at: "main.(*Room).PlaceBet:22" } });
  expect(ways.find((to) => to.params?.tab === "timeline")).toEqual({ name: "capture", params: { id: "c1", tab: "timeline" }, query: { instance: "a1", t: "700-2300", g: "7", at: "1500" } });
  expect(w.findAllComponents(RouterLinkStub).map((l) => l.props("to"))).toContainEqual({ name: "guide-chapter", params: { chapter: "4" } });
  expect(links("mutex")).toEqual(["/pprof/c1/a1/mutex.pprof/flamegraph?f=" + encodeURIComponent("(^|/)(main\\.\\(\\*Room\\)\\.PlaceBet|main\\.\\(\\*Room\\)\\.Leave)$"), "/pprof/c1/a1/mutex.pprof/top"]);
  expect(links("goroutine-dump")).toEqual(["/api/captures/c1/a1/goroutine.txt"]);
  expect(links("trace")).toEqual(["/trace/c1/a1/trace.out/1-3/"]);
  expect(w.find('[data-evidence="cpu"]').text()).toContain("not kept in this capture");
  expect(w.find(".against").text()).toContain("only 1.2 s of trace");
  expect(w.find('[data-evidence="mutex"] .share').text()).toContain("82 %");
  expect(w.findAll(".places li").map((li) => li.find("code").text())).toEqual(["room.go:24", "room.go:22"]);
  await w.find("[data-t=finding]").trigger("click");
  expect(w.emitted("view")).toEqual([[{ findings: [] }]]);
});

test("keys go from finding to finding", async () => {
  const w = await show(one("a1", [lock, pile]));
  const press = (code: string) => dispatch(new KeyboardEvent("keydown", { code, key: code.slice(3).toLowerCase() }));
  const heads = w.findAll("[data-t=finding]").map((h) => h.element);
  press("KeyJ");
  expect(document.activeElement).toBe(heads[0]);
  press("KeyJ");
  press("KeyJ");
  expect(document.activeElement).toBe(heads[1]);
  press("KeyK");
  expect(document.activeElement).toBe(heads[0]);
});

test("what could not be checked opens the dialog with exactly what is missing, on that process", async () => {
  const w = await show(one("a1", []));
  expect(w.find("[data-t=healthy]").text()).toContain("1 of 4 rules lacked evidence");
  expect(w.find("[data-t=gaps]").text()).toContain("ops capture user/a1 --kinds goroutine");
  await w.find("[data-t=next-capture]").trigger("click");
  expect(captureWish.value).toMatchObject({ whole: false, spec: { kinds: ["goroutine"], durationSeconds: 20, fidelity: "balanced" } });
  expect(captureWish.value!.scopes.flatMap((s) => s.instances.map((i) => i.id))).toEqual(["a1"]);
});

test("where the process is gone, those that followed it are asked", async () => {
  const w = await show(one("old", []), {}, [targetOf("old")]);
  await w.find("[data-t=next-capture]").trigger("click");
  expect([captureWish.value!.whole, captureWish.value!.scopes.flatMap((s) => s.instances.map((i) => i.id))]).toEqual([true, ["a1", "a9"]]);
});

test("what was fine is folded, with its figures", async () => {
  const w = await show(one("a1", [], checks, [{ artifact: "trace", reason: "truncated", message: "the trace ended at 128 MiB" }]));
  expect(w.find("[data-t=checked]").text()).toContain("2 rules · 1 does not apply here");
  expect(w.text()).not.toContain("stayed at 40 MiB");
  await w.find("[data-t=checked] button").trigger("click");
  expect(w.emitted("view")).toEqual([[{ checked: true }]]);
  await w.setProps({ checked: true });
  expect(w.find("[data-t=checked]").text()).toContain("Heap growththe live heap stayed at 40 MiB");
  expect(w.find("[data-t=diagnosis-losses]").text()).toContain("the trace ended at 128 MiB");
});

test("with most of the evidence missing nothing is called fine", async () => {
  const w = await show(one("a1", [], [checks[3], { ...checks[3], rule: "deadlock" }, checks[0]]));
  expect([w.find("[data-t=healthy]").exists(), w.find("[data-t=unclear]").exists()]).toEqual([false, true]);
  const blind = await show(one("a1", [], [checks[3]]));
  expect(blind.find("[data-t=blind]").text()).toContain("Nothing could be checked");
});

test("several instances: the worst first, one in full, outliers named", async () => {
  const s = { schema: "opscenter.diagnosis-set/v1", instances: [one("a1", []), one("a2", [lock]), one("a3", [])], fleet: [{ instance: "a2", metric: "score", value: 93, median: 0, unit: "points", text: "a2 alone" }] };
  const w = await show(s, {}, ["a1", "a2", "a3"].map((id) => targetOf(id, { artifacts: files })));
  expect(w.findAll("[data-diagnosed]").map((r) => `${r.attributes("data-diagnosed")} ${r.find("[data-severity]").attributes("data-severity")}`)).toEqual(["a2 critical", "a1 fine", "a3 fine"]);
  expect(w.find(".whose").text()).toBe("a2");
  expect(w.find("[data-finding] .facts").text()).toContain("on 1 of 3 instances");
  expect(w.find("[data-t=outliers]").text()).toContain("a2 alone");
  await w.find('[data-diagnosed="a3"] button').trigger("click");
  expect(w.emitted("view")).toEqual([[{ instance: "a3" }]]);
  await w.setProps({ instance: "a3" });
  expect([w.find(".whose").text(), w.find("[data-t=healthy]").exists()]).toEqual(["a3", true]);
});

test("while the rules read, the page says so; a failure is told and can be tried again", async () => {
  expect((await show(null)).find("[data-t=diagnosing]").text()).toContain("The rules are reading the evidence");
  const w = await show(new ConnectError("the archive is busy; try again", Code.Unavailable));
  expect(w.find("[role=alert]").text()).toContain("the archive is busy; try again");
  said = one("a1", [lock]);
  await w.find("[role=alert] button").trigger("click");
  await flushPromises();
  expect(w.find("[data-t=place]").text()).toBe("room.go:24");
});

test("the other language is asked for, and what was said stays until it comes", async () => {
  const w = await show(one("a1", [lock]));
  said = one("a1", [{ ...lock, title: "持有鎖時等待資料庫" }]);
  setLocale("zh-TW");
  await w.vm.$nextTick();
  expect(w.find(".title").text()).toContain("holds a mutex");
  await flushPromises();
  expect([w.find(".title").text(), asked]).toEqual(["持有鎖時等待資料庫", ["c1 en", "c1 zh-TW"]]);
});

test("who is called is captured with one click, where the fleet knows who that is", async () => {
  const callee = { kinds: [], seconds: 0, fidelity: "", command: "ops capture user", remote: "user:9090" };
  const known = await show(one("a1", [{ ...lock, next_capture: callee }]));
  expect(known.find("[data-t=capture-callee]").text()).toBe("Capture user, which is called");
  await known.find("[data-t=capture-callee]").trigger("click");
  expect(captureWish.value).toMatchObject({ whole: true, scopes: [{ project: "color", service: "user" }] });
  const unknown = await show(one("a1", [{ ...lock, next_capture: { ...callee, remote: "10.9.9.9:1" } }]));
  expect(unknown.find("[data-t=capture-callee]").exists()).toBe(false);
});

test("where nothing is wrong it goes on elsewhere, for longer, or with a rule", async () => {
  const w = await show(one("a1", []));
  const steps = w.find("[data-t=next-steps]");
  expect(steps.find("[data-t=next-siblings]").text()).toBe("Capture the other instance of user");
  expect(steps.find("[data-t=next-neighbours]").exists()).toBe(false);
  await steps.find("[data-t=next-longer]").trigger("click");
  expect(captureWish.value?.spec?.durationSeconds).toBe(60);
  expect(captureWish.value?.scopes[0]?.instances.map((i) => i.id)).toEqual(["a1"]);
  expect(steps.findComponent(RouterLinkStub).props("to")).toEqual({ name: "rules", query: { rule: "stall" } });
  const sick = await show(one("a1", [lock]));
  expect(sick.find("[data-t=next-steps]").exists()).toBe(false);
});
