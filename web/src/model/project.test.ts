import { expect, test } from "vitest";
import { formatAudit, parseAudit } from "../audit/model";
import { formatRules, parseRules } from "../rules/model";
import { carryProject, findProjects, inProject, titleOf, type Project } from "./project";
import { formatCaptures, formatFleet, parseCaptures, parseFleet } from "./url";

const place = (address: string) => {
  const u = new URL(address, "http://centre");
  return { path: u.pathname, query: Object.fromEntries(u.searchParams) };
};

test.each([
  ["/?project=color&sort=cpu", "/captures", { project: "color" }],
  ["/captures?project=color", "/captures/c1?vs=c2", { vs: "c2", project: "color" }],
  ["/captures/c1?project=color", "/captures/c1?checked=1", { checked: "1", project: "color" }],
  ["/?project=color", "/control?service=slot%2Fuser", { service: "slot/user", project: "color" }],
  ["/control?project=color&service=slot%2Fuser", "/", { project: "color" }],
  ["/", "/captures", null],
  ["/?project=color", "/?sort=cpu", null],
  ["/audit?project=color", "/audit?q=x", null],
  ["/?project=color", "/captures?project=slot", null],
  ["/?project=color", "/captures?instance=i1", null],
  ["/?project=color", "/audit?target=i1", null],
])("from %s to %s", (from, to, want) => {
  expect(carryProject(place(to), place(from))).toEqual(want);
});

test("the pages that filter by project read what was carried, and write it the same", () => {
  const q = carryProject(place("/captures"), place("/?project=color-game"))!;
  expect(formatCaptures(parseCaptures(q))).toEqual({ project: "color-game" });
  expect(formatFleet(parseFleet(q))).toEqual({ project: "color-game" });
  expect(formatAudit(parseAudit(q))).toEqual({ project: "color-game" });
  expect(formatRules(parseRules(q))).toEqual({ project: "color-game" });
});

test("another project leaves behind what was of the one before", () => {
  const q = (address: string) => place(address).query;
  expect(inProject("/", q("/?project=color&service=user&sort=cpu&q=x"), "slot")).toEqual({ sort: "cpu", q: "x", project: "slot" });
  expect(inProject("/captures", q("/captures?project=color&page=a,b&verdict=critical"), "")).toEqual({ verdict: "critical", project: undefined });
  expect(inProject("/control", q("/control?service=color%2Fuser"), "slot")).toEqual({ service: "color/user", project: "slot" });
});

const project = (name: string, en = "", zh = ""): Project => ({ name, titles: { en, "zh-TW": zh }, declared: true, services: 1, instances: 2, keptSeconds: 0, keptBytes: 0 });

test("a project is called what the configuration says, in the reader's language where it can be", () => {
  expect(titleOf(project("color", "Color Game", "顏色遊戲"), "zh-TW")).toBe("顏色遊戲");
  expect(titleOf(project("color", "Color Game"), "zh-TW")).toBe("Color Game");
  expect(titleOf(project("color"), "en")).toBe("color");
});

test("projects are found by name and by title in any language", () => {
  const all = [project("color", "Color Game", "顏色遊戲"), project("slot", "Slots")];
  expect(findProjects(all, "").map((p) => p.name)).toEqual(["color", "slot"]);
  expect(findProjects(all, "顏色").map((p) => p.name)).toEqual(["color"]);
  expect(findProjects(all, "GAME col").map((p) => p.name)).toEqual(["color"]);
  expect(findProjects(all, "roulette")).toEqual([]);
});
