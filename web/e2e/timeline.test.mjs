// The timeline in a browser: a capture of the centre itself, from the whole trace to
// one interval, and the address that shows it again.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, captured, drag, fits, focused, launch, open, says, visit } from "./harness.mjs";

let browser;
let capture;

before(async () => {
  [browser, capture] = await Promise.all([launch(), captured(2, "timeline test")]);
});
after(() => browser?.close());

const shown = (page) => page.waitForSelector('[data-t="timeline"][data-busy="false"]');
const range = (page) => page.textContent('[data-t="range"]');

/** Waits for an address that has something. */
const address = (page, part) => page.waitForURL((u) => decodeURIComponent(u.href).includes(part));
const looksAt = (page, id) => page.waitForURL((u) => u.searchParams.get("g") === id);

/** Waits until it says exactly that. */
const shows = (page, name, text) => page.waitForFunction(([t, is]) => document.querySelector(`[data-t="${t}"]`)?.textContent === is, [name, text]);

/** Waits until the drawing has more than so many different colours. */
const colours = (page, n) =>
  page.waitForFunction((n) => {
    const c = document.querySelector("canvas.below");
    return c?.width && new Set(new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer)).size > n;
  }, n);

test("from the whole trace to one wait, and back by its address", async () => {
  const page = await open(browser, { theme: "dark" });
  await visit(page, `/captures/${capture.id}`);
  await page.click('[data-t="tab-timeline"]');
  await shown(page);
  await colours(page, 3); // states are drawn in theirs
  await accessible(page, "the timeline, dark");
  await fits(page, "the timeline");

  // A group unfolds into its goroutines.
  const fold = page.locator('.name.group [data-t="fold"]').first();
  await fold.click();
  await page.waitForSelector(".name.goroutine");
  await page.waitForSelector('.name.group [data-t="fold"][aria-expanded=true]');
  await address(page, "groups=");

  // Keys zoom around the pointer, and pan.
  const whole = await range(page);
  const box = await page.locator('[data-t="canvas"]').boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + 120);
  await page.waitForSelector('[data-t="hover"] b'); // what is pointed at is told
  for (let n = 0; n < 4; n++) await page.keyboard.press("w");
  await address(page, "t=");
  const near = await range(page);
  assert.notEqual(near, whole);
  await page.keyboard.press("d");
  await page.waitForFunction((was) => document.querySelector('[data-t="range"]').textContent !== was, near);
  await shown(page);

  // A goroutine tells what it waited for, where, and who ended it.
  await page.locator(".name.goroutine button").first().click();
  await page.waitForSelector('[data-t="interval"]');
  await address(page, "g=");
  await page.keyboard.press("f");
  await page.keyboard.press("p");
  await address(page, "pin=");
  await page.keyboard.press("m");
  await address(page, "mark=");
  await page.click('[data-t="only-sync"]');
  await address(page, "only=sync");
  await shown(page);
  await accessible(page, "a goroutine, dark");

  // The address opened fresh shows the same.
  const link = page.url();
  const fresh = await open(browser);
  await fresh.goto(link);
  await shown(fresh);
  await fresh.waitForSelector('[data-t="interval"]');
  await shows(fresh, "range", await range(page));
  await shows(fresh, "interval", await page.textContent('[data-t="interval"]'));
  await fresh.waitForSelector('[data-t="only-sync"][aria-pressed=true]');
  await fresh.waitForSelector(".name.chosen"); // its row is there
  await accessible(fresh, "a goroutine, light");
  assert.deepEqual(fresh.errors, []);

  // Escape steps back: the selection, then what else is special.
  await page.keyboard.press("Escape");
  await page.waitForSelector('[data-t="interval"]', { state: "detached" });
  await page.keyboard.press("Escape");
  await shows(page, "range", whole);
  assert.deepEqual(page.errors, []);
  await Promise.all([page.context().close(), fresh.context().close()]);
});

test("a stretch adds up, search finds a goroutine, the longest wait is a click away", async () => {
  const page = await open(browser);
  await visit(page, `/captures/${capture.id}/timeline`);
  await shown(page);
  await page.keyboard.down("Shift");
  await drag(page, '[data-t="canvas"]', () => [[60, 70], [300, 180]], () => page.url().includes("sel="));
  await page.keyboard.up("Shift");
  await says(page, '[data-t="statistics"]', /%/);
  const again = page.url();
  await page.reload();
  await page.waitForSelector('[data-t="statistics"]');
  assert.equal(page.url(), again);

  // By keys alone, and said aloud.
  await page.keyboard.press("Escape");
  await page.focus('[data-t="canvas"]');
  const spoken = () => page.textContent('[data-t="spoken"]');
  await page.keyboard.press("ArrowDown");
  await page.waitForFunction(() => document.querySelector('[data-t="spoken"]').textContent);
  const firstRow = await spoken();
  await page.keyboard.press("ArrowDown");
  await page.waitForFunction((was) => document.querySelector('[data-t="spoken"]').textContent !== was, firstRow);
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Home");
  await page.waitForFunction((was) => document.querySelector('[data-t="spoken"]').textContent.split(",")[0] === was.split(",")[0], firstRow);

  await page.locator('[data-t="longest"]').first().click();
  await page.waitForSelector('[data-t="interval"]');
  await address(page, "g=");
  const id = new URL(page.url()).searchParams.get("g");
  await page.keyboard.press("Escape");
  await page.waitForSelector('[data-t="interval"]', { state: "detached" });
  await page.keyboard.press("/");
  await focused(page, "search");
  await page.keyboard.type(`G${id}`);
  await page.waitForSelector('[data-t="hits"] button');
  // Whatever is shown by now: Enter takes what was typed.
  await page.keyboard.press("Enter");
  await looksAt(page, id);
  await page.waitForSelector('[data-t="interval"]');
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("who woke whom is an arrow between their rows", async () => {
  const page = await open(browser);
  await visit(page, `/captures/${capture.id}/timeline`);
  await shown(page);
  // A wait for a lock or a channel that another goroutine ended: those at the top of
  // the list are as long as the trace.
  const longest = page.locator("li", { hasText: /sync block|channel/ }).locator('[data-t="longest"]');
  let found = false;
  for (let n = (await longest.count()) - 1; !found && n >= 0; n--) {
    await longest.nth(n).click();
    await page.waitForSelector('[data-t="interval"]');
    found = (await page.locator('[data-t="waker"]').count()) > 0;
    if (!found) {
      await page.keyboard.press("Escape");
      await page.waitForSelector('[data-t="interval"]', { state: "detached" });
    }
  }
  assert.ok(found, "a wait was ended by somebody");
  await address(page, "g=");
  const woken = new URL(page.url()).searchParams.get("g");
  await page.keyboard.press("p");
  await page.keyboard.press("f");
  await address(page, "t=");
  const waker = (await page.textContent('[data-t="waker"]')).slice(1);
  await page.click('[data-t="waker"]');
  await looksAt(page, waker);
  await page.keyboard.press("p");
  await address(page, `pin=${woken},${waker}`);
  await shown(page);
  await page.waitForFunction(() => Number(document.querySelector('[data-t="canvas"]').dataset.arrows) > 0);
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a capture without a trace offers to take one", async () => {
  const bare = await captured(1, "no trace", ["goroutine"]);
  const page = await open(browser, { locale: "zh-TW" });
  await visit(page, `/captures/${bare.id}/timeline`);
  await page.click('[data-t="capture-trace"]');
  await page.waitForSelector('[role="dialog"]');
  await accessible(page, "the capture dialog with a trace alone");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});
