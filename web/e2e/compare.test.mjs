import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, call, captured, centre, fits, launch, open, says, self, visit } from "./harness.mjs";

let browser, own, one, two;
before(async () => {
  browser = await launch();
  own = await self();
  one = await captured(1, "before the release");
  two = await captured(1, "after the release");
});
after(async () => {
  await browser.close();
  for (const c of [one, two]) if (c) await call("CaptureService/DeleteCapture", { captureId: c.id });
});

const ready = (page) => page.waitForSelector("[data-t=flame][aria-busy=false]:not([data-shown='0'])");

test("two captures of the list, side by side", async () => {
  const page = await open(browser);
  await visit(page, "/captures");
  for (const c of [two, one]) await page.check(`tr[data-id="${c.id}"] input[type=checkbox]`);
  await page.click("[data-t=compare-two]");
  // The older one is what was before, whatever was chosen first.
  await page.waitForURL((u) => u.searchParams.get("a") === `${one.id}/*` && u.searchParams.get("b") === `${two.id}/*`);
  await page.waitForSelector("[data-t=appeared]");
  await says(page, "[data-t=side-A]", /before the release/);
  await page.click("[data-t=show-profiles]");
  await page.click("[data-kind=goroutine]");
  await page.waitForURL(/profile=goroutine/);
  await ready(page);
  await page.click("[data-t=diff-normalised]");
  await page.waitForURL(/mode=normalised/);
  await page.selectOption("[data-t=diff-least]", "1");
  await page.waitForURL(/min=1/);
  await ready(page);
  await page.locator("[data-t=flame-table] [data-fn]").first().click();
  await page.waitForSelector("[data-t=flame-detail] >> text=→");
  const address = page.url();
  assert.deepEqual(page.errors, []);
  await page.context().close();
  for (const theme of ["light", "dark"]) {
    const other = await open(browser, { theme, locale: "zh-TW" });
    await visit(other, address.slice(centre.length));
    await ready(other);
    await other.waitForSelector("[data-t=flame-detail]");
    assert.equal(await other.getAttribute("[data-t=diff-normalised]", "aria-pressed"), "true");
    await accessible(other, `a comparison, ${theme}`);
    await fits(other, `a comparison, ${theme}`);
    assert.deepEqual(other.errors, []);
    await other.context().close();
  }
});

test("from nothing: choose a side, then the ends of its window", async () => {
  const page = await open(browser, { theme: "dark" });
  await visit(page, "/");
  await page.click("[data-t=rail-compare]");
  await accessible(page, "an empty comparison");
  await page.click("[data-t=choose-B]");
  await page.click(`[role=dialog] input[value="${two.id}"]`);
  await accessible(page, "the picker");
  await page.click("[data-t=pick-use]");
  await page.click("[data-quick=window]");
  await page.waitForURL((u) => u.searchParams.get("a") === `${two.id}/*@before`);
  await page.waitForSelector("[data-t=outliers]");
  await page.click("[data-t=show-profiles]");
  await ready(page);
  await page.waitForSelector("[data-kind=heap]");
  await page.click("[data-t=swap]");
  await page.waitForURL((u) => u.searchParams.get("b") === `${two.id}/*@before`);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a side that is not there says so", async () => {
  const page = await open(browser);
  await visit(page, `/compare?a=01aaaaaaaaaaaaaaaaaaaaaaaa/*&b=${two.id}/${own.id}`);
  await page.waitForSelector("[data-t=side-A] .bad");
  await page.context().close();
});
