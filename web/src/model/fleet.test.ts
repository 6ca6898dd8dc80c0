import { expect, test } from "vitest";
import { applyFleet, beatFields, changesNames, copyBeat, eachChanged, countStates, defaultView, facets, filterFleet, livingOf, nameRanks, packBeats, releaseName, releasesOf, rowsOf, scopesOf, sortInstances, totals, worstOf, type FleetView, type Row, type Slots } from "./fleet";
import { versionOf, type Heartbeat, type Instance } from "./instance";
import { beat, fleetOf, healthOf, instanceOf } from "./testdata";

const now = Date.UTC(2026, 10, 22, 12);
const view = (v: Partial<FleetView> = {}): FleetView => ({ ...defaultView, ...v });

// One line for each instance: id project/service state, then what matters.
const fleet = fleetOf(`
  a1 color/user   up      version=v1 cpu=1   goroutines=10  zone=a
  a2 color/user   up      version=v2 cpu=3   goroutines=900 zone=b
  a3 color/user   gone    version=v1 gone=5m
  a4 color/user   gone    version=v1 gone=3h
  b1 color/wallet suspect version=v1 cpu=0.5 goroutines=7   zone=a
  c1 slot/user    up      version=v9 silent
`, now);

/** Rows as text: groups flush left, instances indented. */
const text = (rows: Row[]) => rows.map((r) => (r.type === "group" ? `${r.title}${r.open ? "" : " (closed)"}` : `  ${r.id}`)).join("\n");
const ids = (list: { id: string }[]) => list.map((i) => i.id).join(" ");

test("a change replaces, adds and removes, and a reset forgets the rest", () => {
  const known = new Map(fleet.map((i) => [i.id, i]));
  applyFleet(known, { reset: false, instances: [{ ...fleet[0]!, state: "suspect" }], removedIds: ["b1", "never seen"] });
  expect(known.get("a1")!.state).toBe("suspect");
  expect([...known.keys()].join(" ")).toBe("a1 a2 a3 a4 c1");
  applyFleet(known, { reset: true, instances: [fleet[5]!], removedIds: [] });
  expect([...known.keys()].join(" ")).toBe("c1");
});

test.each([
  ["nothing asked: old tombstones are left out", {}, "a1 a2 a3 b1 c1", 1],
  ["gone: all tombstones", { state: "gone" }, "a3 a4", 0],
  ["project", { project: "slot" }, "c1", 0],
  ["service of two projects", { service: "user" }, "a1 a2 a3 c1", 1],
  ["version", { version: "v1" }, "a1 a3 b1", 1],
  ["a word in any place", { text: "WALLET" }, "b1", 0],
  ["a label", { text: "zone=a" }, "a1 b1", 0],
  ["every word must occur", { text: "zone=a user" }, "a1", 0],
  ["none", { text: "zone=q" }, "", 0],
] as [string, Partial<FleetView>, string, number][])("filter: %s", (_, v, want, hidden) => {
  const got = filterFleet(fleet, view(v), now);
  expect(ids(got.shown)).toBe(want);
  expect(got.hiddenGone).toBe(hidden);
});

const sick = fleetOf(`
  a1 color/user up      version=v1 health=ok
  a2 color/user up      version=v2 health=warning
  a3 color/user up      version=v2 health=critical
  a4 color/user suspect version=v1 health=warning
  a5 color/user gone    version=v1 gone=5m
  b1 color/fine up      version=v1
`, now);

test("conditions are counted under the other filters, all tombstones included", () => {
  expect(countStates(fleet, view({ service: "user", state: "ok" }))).toEqual({ critical: 0, warning: 0, suspect: 0, ok: 3, gone: 2 });
  expect(countStates(sick, view())).toEqual({ critical: 1, warning: 1, suspect: 1, ok: 2, gone: 1 });
});

test.each([["critical", "a3"], ["trouble", "a2 a3 a4"], ["ok", "a1 b1"], ["suspect", "a4"]] as const)("condition %s is %s", (state, want) => {
  expect(ids(filterFleet(sick, view({ state }), now).shown)).toBe(want);
});

test("the worst is first, and a group says its worst and its versions", () => {
  expect(ids(sortInstances([...sick], "state", true))).toBe("a3 a4 a2 a1 b1 a5");
  const groups = rowsOf(sick, view(), new Set()).flatMap((r) => (r.type === "group" ? [`${r.title}: ${worstOf(totals(r.members))} of ${livingOf(totals(r.members))}, ${r.versions.map((v) => v.join("×")).join(" ")}`] : []));
  expect(groups).toEqual(["color/fine: ok of 1, v1×1", "color/user: critical of 4, v1×2 v2×2"]);
  expect(text(rowsOf(sick, view({ group: "state" }), new Set()))).toBe("critical\n  a3\nwarning\n  a2\nsuspect\n  a4\nok\n  a1\n  b1\ngone\n  a5");
  expect(text(rowsOf(sick, view({ group: "release" }), new Set(["color/user v2", "color/fine v1"])))).toBe("v1 (closed)\nv1\n  a1\n  a4\n  a5\nv2 (closed)");
});

test("heartbeats come one by one or packed, for who is known", () => {
  const numbers = Object.fromEntries(beatFields.map((f, n) => [f, n + 1])) as unknown as Heartbeat;
  const bad = healthOf("memory=0.97/0.95!");
  const slotted = () => fleet.map((i, n) => ({ ...structuredClone(i), slot: i.id === "c1" ? 0 : n + 1 }));
  const beats = [
    { id: "a1", lastSeen: now, heartbeat: numbers, health: healthOf("") },
    { id: "nobody", lastSeen: now, heartbeat: numbers, health: null },
    { id: "a2", lastSeen: now + 1, heartbeat: beat({ at: 7 }), health: bad },
  ];
  const hub = new Map(slotted().map((i) => [i.id, i]));
  for (const change of [{ beats }, { packed: packBeats(hub, beats) }]) {
    const known = new Map<string, Instance>();
    const slots: Slots = [];
    applyFleet(known, { reset: true, instances: slotted(), removedIds: [] }, slots);
    const told = { reset: false, instances: [], removedIds: [], ...change };
    expect(applyFleet(known, told, slots), "a2 is in trouble now").toBe(true);
    expect(applyFleet(known, told, slots), "and stays so").toBe(false);
    const a1 = known.get("a1")!;
    expect({ ...a1, heartbeat: copyBeat(a1.heartbeat!) }).toEqual({ ...fleet[0]!, slot: 1, lastSeen: now, heartbeat: numbers, health: { level: "ok", issues: [] } });
    expect(known.get("a2")).toMatchObject({ lastSeen: now + 1, health: bad, heartbeat: { at: 7 } });
    const seen: string[] = [];
    eachChanged(known, slots, told, (i) => seen.push(i.id));
    expect([seen.join(" "), known.size, changesNames(told)]).toEqual(["a1 a2", 6, false]);
    applyFleet(known, { reset: false, instances: [], removedIds: ["a1"] }, slots);
    expect([slots[1], known.has("a1")]).toEqual([undefined, false]);
  }
});

test("groups by service, tombstones behind the living, closed groups hide theirs", () => {
  const { shown } = filterFleet(fleet, view(), now);
  expect(text(rowsOf(shown, view(), new Set(["color/wallet"])))).toBe("color/user\n  a1\n  a2\n  a3\ncolor/wallet (closed)\nslot/user\n  c1");
  expect(text(rowsOf(shown, view({ group: "none" }), new Set()))).toBe("  a1\n  a2\n  b1\n  c1\n  a3");
  expect(text(rowsOf(shown, view({ group: "version" }), new Set(["v1", "v9"])))).toBe("v1 (closed)\nv2\n  a2\nv9 (closed)");
});

test.each([
  ["goroutines", true, "a2 a1 b1 c1 a3 a4"],
  ["goroutines", false, "b1 a1 a2 c1 a3 a4"],
  ["cpu", true, "a2 a1 b1 c1 a3 a4"],
  ["state", false, "a1 a2 c1 b1 a3 a4"],
  ["state", true, "b1 a1 a2 c1 a3 a4"],
  ["name", true, "c1 b1 a2 a1 a4 a3"],
] as const)("sort by %s, descending %s: unknown last, either way", (key, desc, want) => {
  expect(ids(sortInstances([...fleet], key, desc))).toBe(want);
});

test("groups are sorted by what their rows show, and by name otherwise", () => {
  const groups = (v: Partial<FleetView>) => rowsOf([...fleet], view(v), new Set()).flatMap((r) => (r.type === "group" ? [`${r.id} ${totals(r.members).goroutines}`] : [])).join(", ");
  expect(groups({ sort: "goroutines" })).toBe("color/wallet 7, color/user 910, slot/user 0");
  expect(groups({ sort: "goroutines", desc: true })).toBe("color/user 910, color/wallet 7, slot/user 0");
  expect(groups({ sort: "name", desc: true })).toBe("color/user 910, color/wallet 7, slot/user 0");
});

test("a group's totals leave out the dead and the silent", () => {
  const t = totals(fleet.filter((i) => i.service === "user"));
  expect([t.ok, t.suspect, t.gone, t.cpuCores, t.goroutines]).toEqual([3, 0, 2, 4, 910]);
  expect(totals([]).gcMean).toBeNull();
  expect(totals([{ ...fleet[0]!, heartbeat: beat({ poolWaiters: -1 }) }]).waiters).toBe(0);
});

test("a selection becomes one capture for each service, without the dead", () => {
  expect(scopesOf(fleet).map((s) => `${s.project}/${s.service}: ${ids(s.instances)}`)).toEqual(["color/user: a1 a2", "color/wallet: b1", "slot/user: c1"]);
});

test("filters offer what there is, in order", () => {
  expect(facets(fleet)).toEqual({ projects: ["color", "slot"], versions: ["v1", "v2", "v9"], services: [{ project: "color", service: "user" }, { project: "color", service: "wallet" }, { project: "slot", service: "user" }] });
});

test("5,000 instances are worked out within a frame or two", () => {
  const many = Array.from({ length: 5000 }, (_, n) => ({ ...fleet[n % 2]!, id: `i${n}`, address: `host-${n * 7919}`, service: `s${n % 40}` }));
  const begin = performance.now();
  const rows = rowsOf(filterFleet(many, view({ text: "zone" }), now).shown, view({ sort: "cpu", desc: true }), new Set(), nameRanks(many));
  expect(rows).toHaveLength(5040);
  expect(performance.now() - begin).toBeLessThan(20_000);
});

test("versions and revisions side by side, how many of each and since when", () => {
  const build = (moduleVersion: string, vcsRevision: string, vcsModified = false) => ({ goVersion: "", modulePath: "", moduleVersion, vcsRevision, vcsTime: 0, vcsModified, goos: "", goarch: "", agentVersion: "" });
  const of = (id: string, joined: number, b: Instance["build"], more: Partial<Instance> = {}) => instanceOf({ id, joined, build: b, ...more });
  const list = [
    of("a", 100, build("v1.4", "aaaaaaaaaaaa")), of("b", 50, build("v1.4", "aaaaaaaaaaaa")),
    of("c", 200, build("v1.4", "bbbbbbbbbbbb")), // the same version, of another revision
    of("d", 300, build("(devel)", "cccccccccccc", true)), of("e", 0, null),
    of("f", 1, build("v1.3", ""), { state: "gone" }),
  ];
  expect(releasesOf(list).map((r) => `${releaseName(r) || "?"} ×${r.n} since ${r.since}`)).toEqual(["v1.4 (aaaaaaaaaa) ×2 since 50", "? ×1 since 0", "cccccccccc+ ×1 since 300", "v1.4 (bbbbbbbbbb) ×1 since 200"]);
  expect(releaseName({ version: "v0.0.0-20260102030405-aaaaaaaaaaaa+dirty", revision: "aaaaaaaaaaaaaaaa+" })).toBe("aaaaaaaaaa+");
  expect(versionOf(of("g", 0, build("v0.0.0-20260102030405-aaaaaaaaaaaa+dirty", "aaaaaaaaaaaaaaaa", true)))).toBe("aaaaaaaaaa+");
  expect(versionOf(of("h", 0, build("v1.4", "aaaaaaaaaaaaaaaa")))).toBe("v1.4");
});
