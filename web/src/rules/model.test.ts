import { describe, expect, it } from "vitest";
import { clock, formatRules, parseRules, quantity, tally, type Standing } from "./model";

const standing = (s: string): Standing => ({ instance: "i", service: "s", address: "", standing: s, reason: "", value: 0, holdsSince: 0, fired: 0, refused: 0, used: 0, freeAt: 0, reasons: [] });

describe("rules", () => {
  it("keeps the view in the address", () => {
    for (const v of [{ project: "", rule: "", edit: "" }, { project: "color", rule: "stall", edit: "" }, { project: "", rule: "stall", edit: "own.yaml" }]) expect(parseRules(formatRules(v))).toEqual(v);
    expect(parseRules({ rule: ["a", "b"], edit: null })).toEqual({ project: "", rule: "", edit: "" });
  });
  it("says values in their unit", () => {
    expect([quantity(0.856, "share"), quantity(0.05, "seconds"), quantity(2 ** 29, "bytes"), quantity(2 ** 20 / 60, "bytes per second"), quantity(12345, "count")]).toEqual(["85.6 %", "50 ms", "512 MiB", "1 MiB/min", "12350"]);
  });
  it("counts down", () => expect([clock(41200), clock(3909000), clock(-5)]).toEqual(["0:42", "1:05:09", "0:00"]));
  it("puts first what needs a look", () => {
    expect(tally([standing("running"), standing("refused"), standing("running")])).toEqual([{ standing: "refused", n: 1 }, { standing: "running", n: 2 }]);
  });
});
