import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, call, captured, centre, fits, launch, open, says, visit } from "./harness.mjs";

// The centre's own goroutines: there are always some, and they are always the same.
let browser, capture;
before(async () => {
  browser = await launch();
  capture = await captured(1, "flame graph");
});
after(async () => {
  await browser.close();
  if (capture) await call("CaptureService/DeleteCapture", { captureId: capture.id });
});

const ready = (page) => page.waitForSelector("[data-t=flame][aria-busy=false]:not([data-shown='0'])");
/** All that is known of the function that is selected. */
const detail = async (page) => {
  await page.waitForSelector("[data-t=flame-detail][aria-busy=false]");
  return page.innerText("[data-t=flame-detail]");
};
const query = (page, key) => new URL(page.url()).searchParams.get(key);

test("from the capture to a function, and the address shows it to somebody else", async () => {
  const page = await open(browser);
  await visit(page, `/captures/${capture.id}`);
  await page.click("[data-t=tab-flame]");
  await page.click("[data-kind=goroutine]");
  await page.waitForURL(/profile=goroutine/);
  await ready(page);
  await fits(page, "a flame graph");

  // Looking for something removes nothing; it says what it comes to.
  await page.keyboard.press("/");
  await page.keyboard.type("net/http.(*conn).serve");
  await page.waitForSelector("[data-t=flame-found] >> text=/of the whole · [0-9]+ match/");
  await page.waitForURL((u) => u.searchParams.get("q") === "net/http.(*conn).serve");
  await page.keyboard.press("Enter");
  await says(page, "[data-t=flame-line]", /net\/http\.\(\*conn\)\.serve.*of all/s);

  // By keys into the graph: the cursor's box is zoomed to, and that can be taken back.
  await page.focus("[data-t=flame-canvas]");
  await page.keyboard.press("Enter");
  await page.waitForURL(/at=/);
  await page.waitForSelector("[data-t=flame-detail] >> text=/server.go:[0-9]+/");
  assert.equal(query(page, "fn"), "net/http.(*conn).serve");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !new URL(location.href).searchParams.get("at"));
  await page.goBack();
  await page.waitForURL(/at=/);

  await page.click("[data-t=act-sandwich]");
  await page.waitForSelector("[data-chip=sandwich]");
  await page.waitForURL(/sandwich=/);
  await ready(page);
  const address = page.url();
  const there = await detail(page);
  assert.match(there, /Calls/);
  assert.deepEqual(page.errors, []);
  await page.context().close();

  for (const theme of ["light", "dark"]) {
    const other = await open(browser, { theme });
    await visit(other, address.slice(centre.length));
    await ready(other);
    await other.waitForSelector("[data-chip=sandwich]");
    assert.equal(await detail(other), there);
    assert.equal(await other.inputValue("[data-t=flame-search]"), "net/http.(*conn).serve");
    await accessible(other, `a flame graph, ${theme}`);
    await fits(other, `a flame graph, ${theme}`);
    assert.deepEqual(other.errors, []);
    await other.context().close();
  }
});

test("the table leads to the graph, transforms are chips, and what is not there is said", async () => {
  const page = await open(browser);
  await visit(page, `/captures/${capture.id}/flame?profile=goroutine&focus=main.notThere`);
  await ready(page);
  await page.waitForSelector("[data-t=flame-missing] >> text=main.notThere is not in this profile.");
  await page.click("[data-chip=focus]");
  const rows = page.locator("[data-t=flame-table] [data-fn]");
  await page.fill("[data-t=flame-search]", "gopark");
  await page.waitForFunction(() => [...document.querySelectorAll("[data-t=flame-table] [data-fn]")].every((r) => r.dataset.fn.includes("gopark")));
  await rows.first().click();
  await page.waitForSelector("[data-t=flame-detail] >> text=runtime.gopark");
  await page.keyboard.press("h");
  await page.waitForSelector("[data-chip=hide-runtime]");
  await page.waitForSelector("[data-t=flame-table] >> text=No function matches.");
  await page.click("[data-t=flame-reset]");
  await page.waitForFunction(() => !document.querySelector("[data-t=flame-trail] [data-chip]"));
  await page.click("[data-t=flame-callers]");
  await page.waitForSelector("[data-chip=callers]");
  await page.click("[data-t=flame-lines]");
  await page.waitForURL(/lines=1/);
  await ready(page);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a problem is told, and tried again", async () => {
  const page = await open(browser, { locale: "zh-TW" });
  await page.route("**/opscenter.api.v1.ProfileService/**", (r) => r.fulfill({ status: 503, contentType: "application/json", body: JSON.stringify({ code: "unavailable", message: "the profile is being moved: try again" }) }));
  await visit(page, `/captures/${capture.id}/flame?profile=goroutine`);
  await page.waitForSelector("text=the profile is being moved: try again");
  await page.unroute("**/opscenter.api.v1.ProfileService/**");
  await page.click("text=重試");
  await ready(page);
  await page.context().close();
});
