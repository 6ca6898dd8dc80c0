import { describe, expect, it } from "vitest";
import { mixed, newSheet, putRow } from "./sheet";

// A letter for each pixel: "." is nothing.
const text = (pixels: Uint32Array, width: number): string[] => Array.from({ length: pixels.length / width }, (_, y) => [...pixels.subarray(y * width, (y + 1) * width)].map((p) => (p ? String.fromCharCode(p) : ".")).join(""));
const line = (letters: string): Uint32Array => Uint32Array.from(letters, (c) => (c === "." ? 0 : c.charCodeAt(0)));

function put(y: number, marks: number): string[] {
  const s = newSheet(4, 5, new Uint32Array(20));
  s.line.set(line("ab.c"));
  s.low.set(line("am.c"));
  putRow(s, y, 3, marks);
  return text(s.pixels, 4);
}

describe("a row of boxes", () => {
  it("is the same line as often as it is high, and marked below", () => {
    expect(put(1, 0)).toEqual(["....", "ab.c", "ab.c", "ab.c", "...."]);
    expect(put(1, 1)).toEqual(["....", "ab.c", "ab.c", "am.c", "...."]);
  });

  it("is cut where the picture ends", () => {
    expect(put(-2, 1)).toEqual(["am.c", "....", "....", "....", "...."]);
    expect(put(4, 1)).toEqual(["....", "....", "....", "....", "ab.c"]);
    expect(put(9, 1)).toEqual(["....", "....", "....", "....", "...."]);
  });
});

it("a colour is mixed with the paper, part by part", () => {
  expect(mixed(0xff0000ff, 0xffffffff, 0.5).toString(16)).toBe("ff8080ff");
  expect(mixed(0xff204060, 0xff000000, 1).toString(16)).toBe("ff204060");
});
