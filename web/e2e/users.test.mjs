// Who may do what, said by an administrator in the page, at a centre that asks for a login.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { accessible, fits, launch, open, says, until } from "./harness.mjs";
import { freePort } from "./owncentre.mjs";

const ops = (...args) => execFileSync("ops", args, { encoding: "utf8" });
const installed = (() => {
  try {
    return Boolean(ops("version"));
  } catch {
    return false;
  }
})();

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

/** Logs in; own is what a password that somebody else made is changed to. */
async function enter(page, door, name, password, own) {
  await page.goto(`${door}/login`);
  await page.fill("[name=name], input[autocomplete=username]", name);
  await page.fill("input[type=password]", password);
  await page.keyboard.press("Enter");
  if (!own) return;
  await page.waitForSelector("[name=new]");
  await page.fill("[name=password]", password);
  await page.fill("[name=new]", own);
  await page.keyboard.press("Enter");
}

test("a user is added, given a role, gets a new password and is kept out", { skip: !installed && "needs ops in PATH" }, async () => {
  const dir = mkdtempSync(join(tmpdir(), "ops-users-"));
  const port = await freePort();
  const secret = /\S{16,}/.exec(ops("user", "add", "ann", "--admin", "--generate", "--data", dir).split("\n").find((l) => /^\s*\S{16,}\s*$/.test(l)) ?? "")?.[0];
  assert.ok(secret, "the password that was made is printed on a line of its own");
  const door = `http://127.0.0.1:${port}`;
  const centre = spawn("ops", ["serve", "--listen", `127.0.0.1:${port}`, "--data", dir, "--login", "required", "--log-level", "error"], { stdio: "ignore" });
  const ended = new Promise((done) => centre.on("exit", done));
  try {
    await until("the centre", () => fetch(`${door}/healthz`).then((r) => r.ok));
    const page = await open(browser);
    await enter(page, door, "ann", secret, "a password of her own");
    await page.waitForSelector("[data-live=live]");
    await page.goto(`${door}/users`);
    await page.waitForSelector("[data-user=ann]");
    await page.fill("[data-t=user-name]", "bob");
    await page.selectOption("[data-t=user-role]", "operator");
    await page.fill("[data-t=user-scope]", "color-game");
    await page.click("[data-t=user-add]");
    await page.waitForSelector("[data-user=bob] .role");
    await says(page, "[data-user=bob]", /operator@color-game/);
    await accessible(page, "users");
    await fits(page, "users");
    const first = await page.innerText("[data-t=secret]");

    await page.fill("[data-t=holder]", "user:bob");
    await page.selectOption("[data-t=give-role]", "viewer");
    await page.fill("[data-t=give-scope]", "slots");
    await page.click("[data-t=give]");
    await page.waitForSelector('[data-user=bob] button[aria-label*="viewer@slots"]');
    await page.click('[data-user=bob] button[aria-label*="viewer@slots"]');
    await page.waitForSelector('[data-user=bob] button[aria-label*="viewer@slots"]', { state: "detached" });

    await page.click("[data-user=bob] [data-act=reset]");
    await page.click("[role=alertdialog] .danger");
    await page.waitForFunction((old) => document.querySelector("[data-t=secret]")?.textContent !== old, first);
    const second = await page.innerText("[data-t=secret]");

    const his = await open(browser);
    await enter(his, door, "bob", first);
    await his.waitForSelector("[role=alert]");
    await enter(his, door, "bob", second, "a password of his own");
    await his.waitForSelector("[data-live=live]");
    await his.goto(`${door}/users`);
    await his.waitForSelector("[data-t=denied]");

    await page.click("[data-user=bob] [data-act=disable]");
    await page.click("[role=alertdialog] .danger");
    await page.waitForSelector("[data-user=bob] .off");
    await his.goto(`${door}/`);
    await his.waitForSelector("input[type=password]");

    await page.goto(`${door}/audit?action=user`);
    await page.waitForSelector("main table tbody tr");
    for (const c of [page, his]) await c.context().close();
  } finally {
    centre.kill("SIGTERM");
    await ended;
    rmSync(dir, { recursive: true, force: true });
  }
});
