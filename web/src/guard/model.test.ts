import { expect, test } from "vitest";
import { lacks } from "./model";

test.each([
  [true, ["user", "a1"], "", "user", true], [true, ["user", "a1"], "leak", "", true], [true, ["user", "a1"], "leak", " a1 ", false], [true, ["user"], "  ", "user", true], [true, ["user"], "leak", "User", true], [false, [], "", "", false],
])("reason needed %s, names %j, given %j and %j: lacking %s", (reason, confirm, why, name, want) => expect(lacks({ reason, confirm, refused: "" }, why, name)).toBe(want));
