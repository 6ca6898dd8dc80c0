// The components that carry most of the page, mounted with a centre made of text.
import { flushPromises, mount, type VueWrapper } from "@vue/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ref } from "vue";
import { createMemoryHistory } from "vue-router";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Api, StartCapture } from "../api/client";
import type { HubMessage } from "../api/watch";
import { captureWish, openCaptureDialog } from "../composables/captureDialog";
import { centreKey, createCentre } from "../composables/centre";
import { setLocale } from "../i18n";
import { scopesOf, rowsOf } from "../model/fleet";
import { dateTime } from "../model/format";
import { parseColumns } from "../model/columns";
import { SparkHistory } from "../model/history";
import { captureOf, fleetOf, healthOf, instanceOf, targetOf } from "../model/testdata";
import { createPageRouter } from "../router";
import CaptureDialog from "./CaptureDialog.vue";
import FleetTable from "./FleetTable.vue";
import LiveState from "./LiveState.vue";
import TargetPanel from "./TargetPanel.vue";

const now = Date.UTC(2026, 10, 22, 12);
const fleet = fleetOf(`
  a1 color/user   up      version=v1 cpu=3.8 goroutines=10
  a2 color/user   suspect version=v1 cpu=1   goroutines=20
  a3 color/user   gone    version=v1 gone=5m
  b1 color/wallet up      version=v1 cpu=1   goroutines=30
`, now);

let tell: (m: HubMessage) => void;
let started: StartCapture[];
let refuse: unknown;
let mounted: VueWrapper[];

beforeEach(() => {
  setLocale("en");
  started = [];
  refuse = null;
  mounted = [];
});
afterEach(() => {
  for (const m of mounted) m.unmount();
  captureWish.value = null;
  document.body.replaceChildren();
});

async function show(component: object, props: object = {}) {
  const api = {
    system: () => Promise.reject(new TypeError("not in this test")),
    startCapture: (s: StartCapture) => {
      started.push(s);
      return refuse ? Promise.reject(refuse) : Promise.resolve(captureOf("c-" + started.length, "requested"));
    },
    traceWindows: () => Promise.resolve({ windows: [{ fromGeneration: 1, toGeneration: 3, startSeconds: 0, lengthSeconds: 2.5, sizeBytes: 2048, path: "trace/c1/a1/trace.out/1-3/" }], loss: "the end is cut off" }),
  } as unknown as Api;
  const centre = createCentre(api, (on) => {
    tell = on;
    return { setMetrics() {}, retry() {}, close() {} };
  });
  tell({ type: "event", event: { topic: "fleet", change: { reset: true, instances: fleet, removedIds: [] } } });
  const router = createPageRouter(createMemoryHistory());
  const w = mount(component, { props, global: { plugins: [router], provide: { [centreKey as symbol]: centre } }, attachTo: document.body });
  mounted.push(w);
  await flushPromises();
  return { w, router, centre };
}

const dialog = () => document.querySelector<HTMLElement>("[role=dialog]")!;
/** The text as it reads, a space between pieces. */
function textOf(el: Element | null | undefined): string {
  const pieces: string[] = [];
  const walk = (n: Node) => (n.nodeType === Node.TEXT_NODE ? pieces.push(n.textContent ?? "") : n.childNodes.forEach(walk));
  if (el) walk(el);
  return pieces.join(" ").replace(/\s+/g, " ").trim();
}
const startButton = () => document.querySelector<HTMLButtonElement>("[data-t=start]")!;
const submit = async () => {
  document.querySelector("form")!.dispatchEvent(new Event("submit", { cancelable: true }));
  await flushPromises();
};

test("a whole service is asked for by name, so that the centre decides who is up", async () => {
  openCaptureDialog({ scopes: scopesOf(fleet.slice(0, 3)), whole: true });
  const { router } = await show(CaptureDialog);
  const push = vi.spyOn(router, "push");
  expect(textOf(dialog())).toContain("Affects 1 instance");
  await submit();
  expect(started).toHaveLength(1);
  expect(started[0]).toMatchObject({ project: "color", service: "user", instanceIds: [], note: "", spec: { durationSeconds: 10, kinds: [], fidelity: "full", traceWindowSeconds: 5 } });
  expect(push).toHaveBeenCalledWith({ name: "capture", params: { id: "c-1" } });
  expect(captureWish.value).toBeNull();
});

test("chosen instances are asked for by id, one capture for each service", async () => {
  openCaptureDialog({ scopes: scopesOf(fleet) });
  await show(CaptureDialog);
  expect(textOf(dialog())).toContain("2 captures, one for each service");
  expect(textOf(dialog())).toContain("Affects 3 instances");
  await submit();
  expect(started.map((s) => `${s.service}: ${s.instanceIds.join()}`)).toEqual(["user: a1,a2", "wallet: b1"]);
});

test("what the centre refuses is told in the dialog, which stays", async () => {
  refuse = new ConnectError("a capture of color/user runs already; wait for it or stop it", Code.ResourceExhausted);
  openCaptureDialog({ scopes: scopesOf([fleet[0]!]) });
  await show(CaptureDialog);
  await submit();
  expect(textOf(dialog().querySelector(".failed"))).toBe("A limit is reached a capture of color/user runs already; wait for it or stop it");
  expect(captureWish.value).not.toBeNull();
});

test("nothing starts while something is wrong", async () => {
  openCaptureDialog();
  await show(CaptureDialog);
  expect(startButton().disabled).toBe(true);
  await submit();
  expect(started).toEqual([]);
});

test("kinds that not every chosen instance has are marked", async () => {
  openCaptureDialog({ scopes: [{ project: "color", service: "wallet", instances: [instanceOf({ id: "b1", service: "wallet" })] }] });
  const { w } = await show(CaptureDialog);
  tell({ type: "event", event: { topic: "fleet", change: { reset: false, instances: [{ ...fleet[3]!, kinds: ["cpu", "heap"] }], removedIds: [] } } });
  await w.vm.$nextTick();
  const rows = [...document.querySelectorAll(".kind")].map(textOf);
  expect(rows.find((r) => r.startsWith("CPU profile"))).not.toContain("not here");
  expect(rows.find((r) => r.startsWith("Execution trace"))).toContain("not here");
});

function table(more: object = {}) {
  return show(FleetTable, { rows: rowsOf(fleet, { group: "service", sort: "name", desc: false }, new Set()), columns: parseColumns(""), sort: "name", desc: false, selected: new Set(["a1"]), history: new SparkHistory(), past: { version: ref(0) }, version: 0, now, mayCapture: true, verdicts: new Map(), ...more });
}

test("rows tell state, numbers and what is past its threshold", async () => {
  const ill = [{ ...fleet[0]!, heartbeat: { ...fleet[0]!.heartbeat!, rssBytes: 1 << 20 }, health: healthOf("cpu=0.97/0.95! pool-waiters=3/0", now - 240_000) }, ...fleet.slice(1)];
  const { w } = await table({ rows: rowsOf(ill, { group: "service", sort: "name", desc: false }, new Set()) });
  const rows = w.findAll("[role=row]").slice(1);
  expect(rows.map((r) => `${r.attributes("data-type")} ${r.attributes("data-id")} ${r.attributes("aria-level")} ${r.attributes("aria-selected") ?? "-"}`)).toEqual([
    "group color/user 1 -", "instance a1 2 true", "instance a2 2 false", "instance a3 2 false", "group color/wallet 1 -", "instance b1 2 false",
  ]);
  expect(rows[1]!.find(".v.bad").text()).toBe("95 %");
  expect(textOf(rows[1]!.find(".state").element)).toBe("Critical CPU 97 % > 95 % +1 4 min");
  expect(rows[1]!.find(".state").attributes("title")).toBe("CPU 97 % > 95 % · for 4 min\n3 wait for a pool · for 4 min");
  expect(textOf(rows[0]!.find(".tally").element)).toBe("2 instances 1 Critical 1 Suspect 1 Gone");
  expect(rows[3]!.text()).toContain("Gone");
  expect(rows[3]!.find<HTMLInputElement>("input").element.disabled).toBe(true);
  expect(rows[0]!.text()).toContain("2 instances");
});

test("a service's row names the line of its last verdict", async () => {
  const said = { severity: "warning" as const, rule: "cpu-hot-path", title: { en: "`main.pay` encodes JSON (pay.go:7)", "zh-TW": "" }, critical: 0, warning: 1, notice: 0, unchecked: 0 };
  const { w } = await table({ verdicts: new Map([["color/user", captureOf("c1", "done", { created: now - 120_000, headline: said })], ["color/wallet", captureOf("c2", "done", { created: now, headline: { ...said, severity: "", warning: 0, title: {} } })]]) });
  const [user, wallet] = w.findAll("[data-t=last-verdict]");
  expect([user!.text(), user!.attributes("title"), user!.attributes("href")]).toEqual(["pay.go:7", "Last verdict, 2 minutes ago: main.pay encodes JSON (pay.go:7)", "/captures/c1"]);
  expect([wallet!.text(), wallet!.classes("fine"), wallet!.attributes("title")]).toEqual(["", true, "Last verdict, now: nothing found"]);
});

test("a group selects its living, and the keys go where the cursor is", async () => {
  const { w } = await table();
  await w.findAll("[role=row]")[1]!.find("input").trigger("click");
  expect(w.emitted("select")!.at(-1)).toEqual([["a1", "a2"], true]);
  const grid = w.find("[role=treegrid]");
  const key = (k: string) => grid.trigger("keydown", { key: k });
  await key("Home");
  await key("ArrowLeft");
  expect(w.emitted("toggle")!.at(-1)).toEqual(["color/user"]);
  await key("ArrowDown");
  await key(" ");
  expect(w.emitted("select")!.at(-1)).toEqual([["a1"], false]);
  await key("End");
  await key("Enter");
  expect((w.emitted("open")!.at(-1)![0] as { id: string }).id).toBe("b1");
  await key("ArrowLeft");
  await key("Enter");
  expect(w.emitted("toggle")!.at(-1)).toEqual(["color/wallet"]);
});

test("of 5,000 rows only those on screen are made", async () => {
  const many = Array.from({ length: 5000 }, (_, n) => ({ ...fleet[0]!, id: `i${n}`, address: `host${n}` }));
  const { w } = await table({ rows: rowsOf(many, { group: "none", sort: "name", desc: false }, new Set()) });
  expect(w.find("[role=treegrid]").attributes("aria-rowcount")).toBe("5001");
  expect(w.findAll("[role=row]").length).toBeLessThan(60);
});

test("a target shows its losses first, then files with links into the tools", async () => {
  const file = (name: string, kind: string, more = {}) => ({ name, kind, phase: "window", takenAt: 0, windowStart: 0, windowEnd: 0, sizeBytes: 10, sha256: "ab".repeat(32), losses: [], partial: false, derived: false, ...more });
  const target = targetOf("a1", { state: "partial", artifacts: [file("heap.pprof", "heap"), file("heap.before.pprof", "heap"), file("runtime.json", "runtime"), file("trace.out", "trace", { partial: true })], losses: [{ kind: "cpu", reason: "in_use", message: "somebody else profiles" }] });
  const props = { capture: "c1", target, durationSeconds: 30, open: true, mayDownload: true, versus: { capture: "c0", instance: "a0", names: new Set(["heap.pprof"]) } };
  const { w } = await show(TargetPanel, props);
  expect(textOf(w.find(".losses").element)).toBe("What this cannot see cpu in use somebody else profiles");
  const hrefs = (name: string) => w.find(`[data-artifact="${name}"]`).findAll("a").map((a) => a.attributes("href"));
  expect(hrefs("heap.pprof")).toEqual(["/api/captures/c1/a1/heap.pprof", "/pprof/c1/a1/heap.pprof/", "/api/captures/c1/a1/heap.pprof/speedscope.json", "/pprof/c1/a1/heap.pprof/vs/c1/a1/heap.before.pprof/", "/pprof/c1/a1/heap.pprof/vs/c0/a0/heap.pprof/"]);
  expect(hrefs("runtime.json")).toEqual(["/api/captures/c1/a1/runtime.json"]);
  expect(w.find("[data-t=trace-window]").attributes("href")).toBe("/trace/c1/a1/trace.out/1-3/");
  expect(w.text()).toContain("Not readable: the end is cut off");
  expect(w.find('[data-artifact="trace.out"]').text()).toContain("cut off");

  const { w: locked } = await show(TargetPanel, { ...props, mayDownload: false });
  expect(locked.findAll("a[download]")).toEqual([]);
});

test("a running target shows how far it is", async () => {
  const target = targetOf("a1", { state: "collecting", receivedBytes: 2048, progress: { elapsedSeconds: 15, durationSeconds: 30, activity: "recording CPU" } });
  const { w } = await show(TargetPanel, { capture: "c1", target, durationSeconds: 30, open: false, mayDownload: true, versus: null });
  expect(w.find("[role=progressbar]").attributes("aria-valuenow")).toBe("48");
  expect(textOf(w.find(".running").element)).toBe("recording CPU 2.0 KiB received 48 %");
});

test("the state of the stream is told in words, with a way to try now", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const { w } = await show(LiveState);
  expect(w.text()).toBe("Connecting");
  tell({ type: "status", status: { state: "live", attempt: 0, retryAt: 0 } });
  await w.vm.$nextTick();
  expect([w.text(), w.attributes("data-live")]).toEqual(["Live", "live"]);
  tell({ type: "status", status: { state: "reconnecting", attempt: 2, retryAt: Date.now() + 2900 } });
  await w.vm.$nextTick();
  expect(textOf(w.element)).toBe("Reconnecting 3 s Try now");
  vi.useRealTimers();
});

test("while something is rolled out the service's row has its versions side by side", async () => {
  const rolling = fleetOf(`
    a1 color/user up version=v1.4
    a2 color/user up version=v1.5
    a3 color/user up version=v1.5
    b1 color/wallet up version=v2
  `, now);
  const { w } = await table({ rows: rowsOf(rolling, { group: "service", sort: "name", desc: false }, new Set()) });
  expect(w.findAll("[data-type=group]").map((r) => textOf(r.find(".mono.light").element))).toEqual(["v1.5 ×2 · v1.4 ×1", "v2"]);
  const since = dateTime(now - 60_000);
  const began = rolling.map((i) => ({ ...i, joined: now - 60_000, build: { ...i.build!, vcsRevision: "3f2a1b9c0d1111" } }));
  const { w: told } = await table({ rows: rowsOf(began, { group: "service", sort: "name", desc: false }, new Set()) });
  expect(told.findAll("[data-type=group]").map((r) => r.find(".mono.light").attributes("title"))).toEqual([`v1.5 (3f2a1b9c0d) ×2 since ${since}\nv1.4 (3f2a1b9c0d) ×1 since ${since}`, `v2 (3f2a1b9c0d) ×1 since ${since}`]);
});
