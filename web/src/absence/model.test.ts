import { expect, test } from "vitest";
import { lacksOf, type Lack } from "./model";

const lack = (l: Partial<Lack>): Lack => ({ project: "color", service: "user", address: "", expected: 3, up: 1, since: 10, says: "projects.color.expect", problem: "", alarm: false, staleSince: 0, ...l });

test("who is gone altogether comes first, then who is short for longest, then single targets", () => {
  const all = [lack({ address: "10.0.0.1:6060", service: "x", since: 1 }), lack({ service: "late", since: 20 }), lack({ service: "early", since: 5 }), lack({ service: "none", up: 0, since: 30 }), lack({ project: "slots", service: "reel" })];
  expect(lacksOf(all, "color").map((l) => l.service)).toEqual(["none", "early", "late", "x"]);
  expect(lacksOf(all, "slots").map((l) => l.service)).toEqual(["reel"]);
  expect(lacksOf(all, "")).toHaveLength(5);
});
