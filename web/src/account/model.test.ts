import { expect, test } from "vitest";
import { browserName, grantText, over, type Token } from "./model";

test.each([
  ["viewer", "*", "viewer"], ["viewer", "", "viewer"], ["operator", "color-game", "operator@color-game"], ["admin", "color-game/user-*", "admin@color-game/user-*"],
])("%s on %s is %s", (role, scope, want) => expect(grantText(role, scope)).toBe(want));

test("a token is over when it is revoked or has expired", () => {
  const token: Token = { id: "1", name: "ci", owner: "", grants: [], expires: 1000, used: 0, revoked: 0 };
  expect([over(token, 999), over(token, 1000), over({ ...token, revoked: 5 }, 1)]).toEqual(["", "expired", "revoked"]);
});

test.each([
  ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", "Chrome 140 · Linux"],
  ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0", "Edge 140 · Windows"],
  ["Mozilla/5.0 (Macintosh; Intel Mac OS X 14.5; rv:131.0) Gecko/20100101 Firefox/131.0", "Firefox 131 · macOS"],
  ["curl/8.5.0", "curl/8.5.0"], ["", ""],
])("%s is %s", (agent, want) => expect(browserName(agent)).toBe(want));
