import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, call, captured, fits, focused, launch, open, says, visit } from "./harness.mjs";

let browser;
let capture;
before(async () => {
  browser = await launch();
  capture = await captured(1, "for its goroutines");
});
after(async () => {
  await browser.close();
  await call("CaptureService/DeleteCapture", { captureId: capture.id });
});

/** The next tab: the runtime metrics of the window. */
async function metrics(page, theme) {
  await page.click("[data-t=tab-metrics]");
  await page.waitForSelector("[data-chart=goroutines] canvas");
  await page.waitForSelector("[data-chart=memory] canvas");
  await accessible(page, `runtime metrics, ${theme}`);
  await fits(page, "runtime metrics");
}

test("from everybody to one stack, by keys, and the address shows it to somebody else", async () => {
  const page = await open(browser);
  await visit(page, `/captures/${capture.id}/goroutines`);
  await page.waitForSelector("[data-group]");
  const all = await page.locator('[role="grid"]').getAttribute("aria-rowcount");

  await page.keyboard.press("/");
  await focused(page, "search");
  await page.keyboard.type("opscenter");
  await page.waitForURL(/q=opscenter/);
  await page.waitForFunction((n) => document.querySelector('[role="grid"]')?.getAttribute("aria-rowcount") !== n, all);
  await page.keyboard.press("Escape");
  await page.locator('[role="grid"]').focus();
  await page.keyboard.press("ArrowDown");
  await page.waitForSelector("[data-t=stack]");
  await page.waitForURL(/group=[0-9a-f]{16}/);
  await page.waitForSelector("[data-t=stack] li");
  const folded = await page.locator("[data-t=stack] li").count();
  await page.keyboard.press("e");
  await page.waitForFunction((n) => document.querySelectorAll("[data-t=stack] li").length > n, folded);
  await accessible(page, "goroutines");
  await fits(page, "goroutines");

  const address = page.url().replace(/^.*?\/captures/, "/captures");
  const title = await page.innerText("[data-t=stack] header b");
  await metrics(page, "light");
  assert.deepEqual(page.errors, []);
  await page.context().close();
  const other = await open(browser, { theme: "dark", locale: "zh-TW", width: 1920, height: 1080 });
  await visit(other, address);
  assert.equal(await other.innerText("[data-t=stack] header b"), title);
  await accessible(other, "goroutines, dark");
  await other.locator("[data-t=change]").selectOption("gone");
  await other.waitForSelector("[data-t=reset], [data-group]");
  await metrics(other, "dark");
  assert.deepEqual(other.errors, []);
  await other.context().close();
});
