import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, drag, focused, launch, open, says, self, visit } from "./harness.mjs";

let browser;
let own;
before(async () => {
  browser = await launch();
  own = await self();
});
after(() => browser.close());

const row = (id) => `[role=row][data-id="${id}"]`;

test("the centre's own process is listed, live, with its numbers", async () => {
  const page = await open(browser);
  await visit(page, "/");
  await says(page, row(own.id), /this centre/);
  await says(page, row(own.id), /Up|Warning|Critical/); // on a busy machine it may say that it is busy
  await says(page, row(own.id), /\d %/);
  await says(page, row(own.id), /[KMG]iB/);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("what is shown is in the address, and the address shows it again", async () => {
  const page = await open(browser);
  await visit(page, "/");
  await page.fill("[data-t=filter]", own.id);
  await page.selectOption("[data-t=group]", "project");
  await page.waitForURL((u) => u.searchParams.get("q") === own.id && u.searchParams.get("group") === "project");
  await page.click("[role=columnheader] >> text=Goroutines");
  await page.waitForURL((u) => u.searchParams.get("sort") === "-goroutines");
  await page.reload();
  await page.waitForSelector(row(own.id));
  assert.equal(await page.inputValue("[data-t=filter]"), own.id);
  assert.equal(await page.getAttribute("[role=columnheader]:has-text('Goroutines')", "aria-sort"), "descending");
  await page.fill("[data-t=filter]", "no such instance");
  await page.waitForSelector("text=No instance matches");
  await page.click(".empty >> text=Clear filters");
  await page.waitForSelector(row(own.id));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("the table works by keys alone", async () => {
  const page = await open(browser);
  await visit(page, `/?q=${own.id}`);
  await page.waitForSelector(row(own.id));
  await page.focus("[role=treegrid]");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowLeft");
  await page.waitForSelector(row(own.id), { state: "detached" });
  await page.waitForURL((u) => u.searchParams.has("closed"));
  await page.keyboard.press("ArrowRight");
  await page.waitForSelector(row(own.id));
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press(" ");
  await page.waitForSelector(`${row(own.id)}[aria-selected=true]`);
  await page.waitForSelector(`[role=treegrid][aria-activedescendant*="${own.id}"]`);
  await page.keyboard.press("Escape");
  await page.waitForSelector(`${row(own.id)}[aria-selected=false]`);
  await page.keyboard.press("/");
  await focused(page, "filter");
  await page.keyboard.press("Escape");
  await page.focus("[role=treegrid]");
  await page.keyboard.press("c");
  await says(page, "[role=dialog]", /Affects 1 instance\b/);
  await page.keyboard.press("Escape");
  await page.waitForSelector("[role=dialog]", { state: "detached" });
  // The headers come after the table, which has the focus again a moment after the dialog is gone: Enter sorts by one.
  await page.waitForSelector("[role=treegrid]:focus");
  await page.keyboard.press("Tab");
  const sorted = () => document.activeElement.closest("[role=columnheader]")?.getAttribute("aria-sort");
  const before = await page.evaluate(sorted);
  assert.ok(before, "no header has the focus");
  await page.keyboard.press("Enter");
  await page.waitForFunction((was) => document.activeElement.closest("[role=columnheader]")?.getAttribute("aria-sort") !== was, before);
  await page.keyboard.press("?");
  await page.waitForSelector("[role=dialog] >> text=Keyboard shortcuts");
  await says(page, "[role=dialog]", /Go to the filter/);
  await page.keyboard.press("Escape");
  await page.waitForSelector("[role=dialog]", { state: "detached" });
  // Escape has emptied the filter above: the first row would be any service's.
  await visit(page, `/?q=${own.id}`);
  await page.waitForSelector(row(own.id));
  await page.focus("[role=treegrid]");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForURL(new RegExp(`/instances/${own.id}`));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("theme and language follow the browser until someone chooses", async () => {
  const page = await open(browser, { theme: "dark", locale: "zh-TW" });
  await visit(page, "/");
  const root = (lang, theme) => page.waitForSelector(`html[lang="${lang}"][data-theme="${theme}"]`);
  await root("zh-Hant-TW", "dark");
  await says(page, "h1", /^總覽$/);
  await page.click("[data-t=lang]");
  await page.click("[data-t=theme]");
  await root("en", "light");
  await page.reload();
  await root("en", "light");
  await says(page, "h1", /^Fleet$/);
  await page.context().close();
});

test("an instance shows who it is and how it has been", async () => {
  const page = await open(browser);
  await visit(page, `/instances/${own.id}`);
  await page.waitForSelector("figure canvas");
  const side = await page.innerText("aside");
  assert.ok(side.includes(own.id));
  assert.ok(side.includes(String(own.process.pid)));
  assert.ok(side.includes(own.build.goVersion.replace(/^go/, "")));
  // The first heartbeat of a process cannot tell of its CPU yet.
  await page.waitForFunction(() => /^CPU: now [\d.]+, highest [\d.]+$/.test(document.querySelector("figure [role=img]")?.getAttribute("aria-label") ?? ""));
  await page.click("[data-range='6h']");
  await page.waitForURL(/range=6h/);
  await page.waitForSelector("figure canvas");
  await drag(page, "figure .u-over", ({ width }) => [[20, 40], [width - 20, 40]], () => new URL(page.url()).searchParams.has("to"));
  await page.keyboard.press("Escape");
  await page.waitForURL((u) => !u.searchParams.has("from"));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("an instance is watched every second, and held still", async () => {
  const page = await open(browser);
  await visit(page, `/instances/${own.id}?range=live`);
  await page.waitForFunction(() => document.querySelectorAll("figure canvas").length >= 6);
  await says(page, "main", /Scheduler latency[\s\S]*p99[\s\S]*p50/);
  await page.keyboard.press("p");
  await page.waitForURL((u) => u.searchParams.has("from"));
  const stretch = ".bar.head .tag.accent";
  const held = await says(page, stretch, /\d/);
  await page.waitForTimeout(1500); // the next sample has come
  assert.equal(await page.innerText(stretch), held);
  await page.keyboard.press("p");
  await page.waitForURL((u) => !u.searchParams.has("from"));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("columns are chosen, and the choice is in the address", async () => {
  const page = await open(browser);
  await visit(page, "/?cols=cpu,threads");
  await page.waitForSelector(row(own.id));
  // A machine with a quota says so.
  await page.waitForFunction(() => /^Instance,State,CPU( of quota)?,Threads$/.test([...document.querySelectorAll("[role=columnheader] button")].map((h) => h.firstChild.textContent.trim()).join()));
  await page.click("[data-t=columns]");
  await page.click("[data-column=threads]");
  await page.waitForURL((u) => u.searchParams.get("cols") === "cpu");
  await accessible(page, "the columns");
  await page.keyboard.press("Escape");
  await page.waitForSelector("[data-column]", { state: "detached" });
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("by the mouse: a tick stays a tick, a row opens what it is about", async () => {
  const page = await open(browser);
  await visit(page, `/?q=${own.id}`);
  const tick = page.locator(`${row(own.id)} input[type=checkbox]`);
  await tick.click();
  await page.waitForSelector(`${row(own.id)}[aria-selected=true]`);
  await page.waitForSelector(`${row(own.id)} input:checked`);
  await tick.click();
  await page.waitForSelector(`${row(own.id)}[aria-selected=false]`);
  await page.waitForSelector(`${row(own.id)} input:not(:checked)`);
  await page.locator(`${row(own.id)} [role=gridcell]`).nth(3).dblclick();
  await page.waitForURL(new RegExp(`/instances/${own.id}`));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a selection has its bar of actions", async () => {
  const page = await open(browser);
  await visit(page, `/?q=${own.id}`);
  await page.waitForSelector(row(own.id));
  await page.focus("[role=treegrid]");
  await page.keyboard.press("Home");
  await page.keyboard.press(" ");
  await page.waitForSelector("[role=toolbar] >> text=1 selected");
  // Captured at most alone: it is compared with itself before, or told what to capture.
  await page.click("[data-t=compare-selected]");
  await Promise.race([page.waitForURL(/\/compare\?a=/), page.waitForSelector(".toast")]);
  if (new URL(page.url()).pathname === "/compare") {
    await page.goBack();
    await page.waitForSelector(row(own.id));
    await page.focus("[role=treegrid]");
    await page.keyboard.press("Home");
    await page.keyboard.press(" ");
  }
  await page.click("[data-t=open-selected]");
  await page.waitForURL(new RegExp(`/instances/${own.id}`));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("an unknown instance is told in words", async () => {
  const page = await open(browser);
  await visit(page, "/instances/0000nosuchinstance");
  await says(page, "[role=alert]", /There is no such thing/);
  await page.context().close();
});
