import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { accessible, call, centre, count, fits, follow, launch, open, says, until, visit } from "./harness.mjs";

const stack = process.env.COLORGAME_STACK && JSON.parse(readFileSync(process.env.COLORGAME_STACK, "utf8"));
const shots = process.env.SHOTS;
const shot = async (page, name) => shots && (await page.screenshot({ path: `${shots}/${name}.png` }));
const service = "color-game/gateway-service";

let browser;
const more = [];
const gateways = async () => ((await call("FleetService/ListInstances")).instances ?? []).filter((i) => i.service === "gateway-service" && i.state === "INSTANCE_STATE_UP");

before(async () => {
  browser = await launch();
  if (!stack) return;
  // A service that is one process shows nothing of batches.
  const users = stack.processes.find((p) => p.name === "user-service").api;
  for (let n = 0; n < 2; n++) more.push(spawn("colorgame", ["gateway-service", "--center", centre, "--users", users], { stdio: "ignore" }));
  await until("three gateways", async () => (await gateways()).length === 3);
});
after(async () => {
  await browser.close();
  await Promise.all(more.map((p) => new Promise((done) => (p.exitCode !== null || p.signalCode ? done() : (p.once("exit", done), p.kill("SIGINT"))))));
});

const allow = async (page, name) => {
  await page.fill("[data-t=reason]", "a browser test");
  await page.fill("[data-t=confirm]", name);
};

test("a setting with a time to live, and back at once", async (t) => {
  if (!stack) return t.skip("the game does not run");
  const page = await open(browser);
  const instance = (await gateways())[0];
  await visit(page, `/instances/${instance.id}`);
  await page.click("[data-name=gogc]");
  await page.waitForURL(/control=gogc/);
  await page.fill("[data-param=percent]", "5");
  await page.waitForSelector("text=Use 10 – 100000, off.");
  await page.fill("[data-param=percent]", "60");
  assert.ok(await page.isDisabled("[data-t=run-control]"), "nothing runs without a reason and the name");
  await page.click("[data-t=dry-run]");
  await page.waitForSelector("text=A dry run: nothing was changed.");
  await allow(page, "gateway-service");
  await page.waitForSelector("[data-t=run-control]:enabled");
  await page.click("[data-t=run-control]");
  await page.waitForSelector("[data-t=change] >> text=100 → 60");
  // Five minutes, and what a crowded machine takes to look.
  await says(page, "[data-t=back]", /back in (5:00|[34]:\d\d)/);
  await accessible(page, "a control over its page");
  await page.keyboard.press("Escape");
  await page.waitForSelector("[data-t=run-control]", { state: "detached" });
  assert.match(await page.textContent("[data-name=gogc]"), /changed(5:00|[34]:\d\d)60/);
  await fits(page, "an instance with controls");

  // By the address, as somebody who was sent it; the setting is seen by all.
  const other = await open(browser, { theme: "dark", locale: "zh-TW", width: 1920, height: 1080 });
  await visit(other, `/instances/${instance.id}?control=gogc`);
  await other.waitForSelector("[data-t=changed]");
  await accessible(other, "a control, dark");
  await shot(other, "control-instance-dark-zh");
  await allow(other, instance.id); // one instance may be confirmed by its own name
  await other.click("[data-t=revert]");
  await other.waitForSelector("[data-t=change] >> text=60 → 100");
  await other.waitForSelector("[data-t=changed]", { state: "detached" });
  assert.deepEqual([...page.errors, ...other.errors], []);
  await Promise.all([page.context().close(), other.context().close()]);
});

test("the game's own control on all instances, one first, and both on record", async (t) => {
  if (!stack) return t.skip("the game does not run");
  const page = await open(browser);
  const all = await until("three gateways", async () => ((await gateways()).length === 3 ? gateways() : undefined));
  await visit(page, "/?q=gateway-service");
  await page.waitForSelector(`[data-id="${all[0].id}"]`);
  await follow(page, "control gateway", `control-service/${service}`);
  await page.waitForURL(/\/control\?service=color-game(\/|%2F)gateway-service/);
  await page.click("[data-name=kick-slow]");
  await page.fill("[data-param=behind]", "17");
  await page.waitForSelector("text=Use 1 – 16.");
  await page.fill("[data-param=behind]", "16");
  await page.fill("[data-t=batch]", "1");
  await page.waitForSelector("[data-t=plan] >> text=1 → 1 → 1");
  await says(page, "[data-t=affects]", /3 instances of gateway-service/);
  await allow(page, "gateway-service");
  await page.click("[data-t=run-control]");
  await page.waitForSelector("[data-t=outcome][data-outcome=ok]");
  await count(page, "[data-t=results] [data-result=ok]", 3);
  // What comes next is confirmed anew.
  await page.waitForFunction(() => document.querySelector("[data-t=confirm]").value === "");
  await accessible(page, "controls of a service");
  await fits(page, "controls of a service");
  await shot(page, "control-light");

  // A long run is stopped: what has not begun is skipped, and the record says so.
  await page.click("[data-name=gc]");
  await page.fill("[data-t=pause-between]", "600");
  await allow(page, "gateway-service");
  await page.click("[data-t=run-control]");
  await page.waitForSelector("[data-t=results] [data-result=ok]");
  await page.click("[data-t=stop-run]");
  await page.waitForSelector("[data-t=outcome][data-outcome=partial]");
  await count(page, "[data-t=results] [data-result=skipped]", 2);
  await page.click("[data-t=on-record]");
  await page.waitForSelector("[data-t=audit-detail] [data-step]");

  await visit(page, "/audit?target=gateway-service");
  for (const subject of ["kick-slow", "gc"]) await page.waitForSelector(`[data-subject=${subject}]`);
  await page.fill("[data-t=audit-search]", "a browser test");
  await page.click("[data-outcome=partial]");
  await page.waitForURL(/outcome=partial/);
  await page.waitForSelector("[data-subject=kick-slow]", { state: "detached" });
  await page.click("[data-subject=gc]");
  await count(page, "[data-t=audit-detail] [data-step]", 3);
  await page.click("[data-t=verify]");
  await page.waitForSelector("[data-t=verify-report].good");
  await accessible(page, "the audit page");
  await fits(page, "the audit page");
  const download = page.waitForEvent("download");
  await page.click("[data-t=export]");
  assert.equal((await download).suggestedFilename(), "audit.jsonl");
  assert.deepEqual(page.errors, []);
  const address = page.url();
  await page.context().close();

  const other = await open(browser, { theme: "dark", locale: "zh-TW", width: 1920, height: 1080 });
  await visit(other, address.slice(centre.length));
  await other.waitForSelector("[data-t=audit-detail] [data-step]");
  await accessible(other, "the audit page, dark");
  await shot(other, "audit-dark-zh");
  await visit(other, `/control?service=${service}&control=gogc&on=${all[0].id}`);
  await other.waitForSelector("[data-param=percent]");
  await count(other, "[data-target] input:checked", 1);
  await accessible(other, "controls, dark");
  await shot(other, "control-dark-zh");
  assert.deepEqual(other.errors, []);
  await other.context().close();
});
