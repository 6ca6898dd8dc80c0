import { expect, test } from "vitest";
import { carryProject } from "./project";
import { formatCaptures, formatFleet, parseCaptures, parseFleet } from "./url";

const place = (address: string) => {
  const u = new URL(address, "http://centre");
  return { path: u.pathname, query: Object.fromEntries(u.searchParams) };
};

test.each([
  ["/?project=color&sort=cpu", "/captures", { project: "color" }],
  ["/captures?project=color", "/captures/c1?vs=c2", { vs: "c2", project: "color" }],
  ["/", "/captures", null],
  ["/?project=color", "/?sort=cpu", null],
  ["/?project=color", "/captures?project=slot", null],
  ["/?project=color", "/captures?instance=i1", null],
  ["/?project=color", "/control?service=slot%2Fuser", null],
])("from %s to %s", (from, to, want) => {
  expect(carryProject(place(to), place(from))).toEqual(want);
});

test("the pages that filter by project read what was carried, and write it the same", () => {
  const q = carryProject(place("/captures"), place("/?project=color-game"))!;
  expect(formatCaptures(parseCaptures(q))).toEqual({ project: "color-game" });
  expect(formatFleet(parseFleet(q))).toEqual({ project: "color-game" });
});
