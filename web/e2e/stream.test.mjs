import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { centre, launch, open, says, self, visit, watchErrors } from "./harness.mjs";

let browser;
let own;
before(async () => {
  browser = await launch();
  own = await self();
});
after(() => browser.close());

test("nine tabs of one browser are live over one stream", async () => {
  const first = await open(browser);
  await visit(first, "/");
  for (let n = 0; n < 8; n++) {
    const page = await first.context().newPage();
    watchErrors(page);
    await visit(page, "/");
    await page.waitForSelector(`[role=row][data-id="${own.id}"]`);
    assert.deepEqual(page.errors, []);
  }
  await first.context().close();
});

test("without a shared worker the page does it alone, says when it is cut off, and comes back", async () => {
  const page = await open(browser);
  await page.addInitScript(() => delete globalThis.SharedWorker);
  let cut = false;
  await page.route("**/opscenter.api.v1.WatchService/Watch", (route) => (cut ? route.abort() : route.continue()));
  await visit(page, "/");
  await page.waitForSelector(`[role=row][data-id="${own.id}"]`);
  cut = true;
  await page.reload();
  await page.waitForSelector('[data-live="reconnecting"]');
  await says(page, "[data-live]", /Reconnecting/);
  cut = false;
  // The page tries by itself as well: on a busy machine it can be back first.
  await page.evaluate(() => document.querySelector("[data-live] button")?.click());
  await page.waitForSelector('[data-live="live"]');
  await page.waitForSelector(`[role=row][data-id="${own.id}"]`);
  await page.context().close();
});

test("a chunk of another version makes an old tab start anew", async () => {
  const page = await open(browser);
  await visit(page, "/");
  await page.route("**/assets/CapturesPage-*.js", (route) => route.fulfill({ status: 404, body: "" }));
  const reloaded = page.waitForEvent("load");
  await page.click("nav >> text=Captures");
  await reloaded;
  await page.unroute("**/assets/CapturesPage-*.js");
  await page.click("nav >> text=Captures");
  await page.waitForURL(/\/captures$/);
  await page.waitForSelector("h1 >> text=Captures");
  await page.context().close();
});

test("the page comes with a policy that forbids what is not ours", async () => {
  const r = await fetch(`${centre}/captures/any`, { headers: { Accept: "text/html" } });
  assert.equal(r.status, 200);
  const policy = r.headers.get("content-security-policy");
  for (const rule of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) assert.ok(policy.includes(rule), rule);
  assert.equal((await fetch(`${centre}/assets/index-gone.js`)).status, 404);
});
