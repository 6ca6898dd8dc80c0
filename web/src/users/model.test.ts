import { expect, test } from "vitest";
import { joinOver, newPassword, sortOut, type JoinToken } from "./model";

test("roles stand with the users that hold them, and those of groups apart", () => {
  const user = (name: string) => ({ name, disabled: false, created: 1, login: 0, temporary: false });
  const { users, others } = sortOut([user("bob"), user("ann")], [
    { holder: "user:ann", grant: { role: "admin", scope: "*" } }, { holder: "group:sre", grant: { role: "controller", scope: "*" } }, { holder: "user:ann", grant: { role: "viewer", scope: "color-game" } },
  ]);
  expect(users.map((u) => `${u.name}: ${u.grants.map((g) => `${g.role}@${g.scope}`).join(" ")}`)).toEqual(["ann: admin@* viewer@color-game", "bob: "]);
  expect(others).toEqual([{ holder: "group:sre", grant: { role: "controller", scope: "*" } }]);
});

test.each([
  [{}, ""],
  [{ revoked: 5 }, "revoked"],
  [{ expires: 10 }, "expired"],
  [{ expires: 11 }, ""],
  [{ most: 1, uses: 1 }, "used.up"],
  [{ most: 0, uses: 99 }, ""],
])("a join token %o is %s", (t, want) => {
  expect(joinOver({ id: "", project: "", service: "", networks: [], by: "", expires: 0, most: 0, uses: 0, used: 0, revoked: 0, ...t } as JoinToken, 10)).toBe(want);
});

test("a password that is made is long enough, easy to read, and another every time", () => {
  expect(newPassword((b) => b.fill(0))).toBe("aaaaa-aaaaa-aaaaa-aaaaa");
  expect(newPassword((b) => b.map((_, i) => i * 9))).toMatch(/^[a-km-np-z2-9]{5}(-[a-km-np-z2-9]{5}){3}$/);
  expect(newPassword()).not.toBe(newPassword());
});
