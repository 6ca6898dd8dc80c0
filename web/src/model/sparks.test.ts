import { expect, test } from "vitest";
import { trace, type Pen } from "./sparks";

/** What a pen drew: M and L with whole pixels, R for a dot, Z for the end of an area. */
function pen() {
  const said: string[] = [];
  const p: Pen = {
    moveTo: (x, y) => said.push(`M${Math.round(x)},${Math.round(y)}`),
    lineTo: (x, y) => said.push(`L${Math.round(x)},${Math.round(y)}`),
    rect: (x, y) => said.push(`R${Math.round(x)},${Math.round(y)}`),
    closePath: () => said.push("Z"),
  };
  return { p, text: () => said.join(" ") };
}

test.each([
  ["a line and the area below it", [0, 5, 10], "M11,39 L21,30 L31,22", "M11,40 L11,39 L21,30 L31,22 L31,40 Z"],
  ["what is missing breaks it, a lone point is a dot", [NaN, 10, NaN], "", "R20,21"],
  ["beyond the top is the top", [10, 99, NaN], "M11,22 L21,22", "M11,40 L11,22 L21,22 L21,40 Z"],
  ["nothing", [NaN, NaN, NaN], "", ""],
] as const)("%s", (_, points, line, area) => {
  const a = pen();
  const b = pen();
  trace(Float32Array.from(points), 10, { x: 10, y: 20, width: 21, height: 20 }, a.p, b.p);
  expect([a.text(), b.text()]).toEqual([line, area]);
});
