// What every browser test needs: the system's chromium, a page whose errors
// fail the test, axe, and the centre's address.
import assert from "node:assert/strict";
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";

/** Longest wait for what has to come, in milliseconds: a crowded machine is slow, not wrong. */
const patience = 60_000;

/** The centre under test, without a slash at the end; its own process is the instance that is captured. */
export const centre = (process.env.OPS_URL ?? "http://127.0.0.1:8080").replace(/\/$/, "");

const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: flags });

/** A fresh browser profile with one page; what the console says in red is kept in page.errors. */
export async function open(browser, { theme = "light", locale = "en-US", width = 1280, height = 800 } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, locale, reducedMotion: "reduce", acceptDownloads: true });
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  watchErrors(page);
  return page;
}

export function watchErrors(page) {
  page.errors = [];
  page.on("console", (m) => m.type() === "error" && page.errors.push(m.text()));
  page.on("pageerror", (e) => page.errors.push(String(e)));
}

/** Goes to a path of the page and waits until it shows how things are. */
export async function visit(page, path) {
  await page.goto(centre + path);
  await page.waitForSelector('[data-live="live"]');
}

const pause = (ms) => new Promise((r) => setTimeout(r, ms));

/** What fn finds, which may take a while on a busy machine. */
export async function until(what, fn, within = 90_000) {
  for (const by = Date.now() + within; Date.now() < by; ) {
    const found = await fn().catch(() => undefined);
    if (found) return found;
    await pause(200);
  }
  assert.fail(`${what}: not within ${within / 1000} s`);
}

/** Waits until the first of what is there says it, and returns all that it says. */
export async function says(page, selector, pattern) {
  let text = "";
  for (const by = Date.now() + patience; Date.now() < by; await pause(50)) {
    text = await page.locator(selector).first().innerText();
    if (pattern.test(text)) break;
  }
  assert.match(text, pattern, selector);
  return text;
}

/** Waits until there are so many. */
export async function count(page, selector, n) {
  let there = -1;
  for (const by = Date.now() + patience; Date.now() < by && there !== n; await pause(50)) there = await page.locator(selector).count();
  assert.equal(there, n, selector);
}

/** Waits until the keys go there: what opens takes the focus a moment later. */
export const focused = (page, name) => page.waitForFunction((t) => document.activeElement?.getAttribute("data-t") === t, name);

/** Opens the palette, types, and follows the entry when it is the one that Enter takes. */
export async function follow(page, text, entry) {
  await page.keyboard.press("Control+k");
  await focused(page, "palette-search");
  await page.keyboard.type(text);
  await page.waitForSelector(`[data-entry="${entry}"][aria-selected=true]`);
  await page.keyboard.press("Enter");
}

/**
 * Fails for anything that axe finds serious or critical. Of a page that has passed and
 * only changed its theme, colours are all that is to be looked at again: rules says so.
 */
export async function accessible(page, what, { rules } = {}) {
  // No page of its own to gather frames in, and no word of what is fine: half the time.
  const axe = new AxeBuilder({ page }).setLegacyMode(true).options({ resultTypes: ["violations"], ...(rules ? { runOnly: { type: "rule", values: rules } } : {}) });
  const { violations } = await axe.analyze();
  const bad = violations.filter((v) => v.impact === "serious" || v.impact === "critical");
  assert.deepEqual(bad.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.target.join(" ")).join(" | ")}`), [], `axe on ${what}`);
}

/** The same page in both themes. */
export async function accessibleInBothThemes(page, what) {
  await accessible(page, what);
  const now = await page.evaluate(() => document.documentElement.dataset.theme);
  const other = now === "dark" ? "light" : "dark";
  await page.emulateMedia({ colorScheme: other, reducedMotion: "reduce" });
  await page.waitForFunction((t) => document.documentElement.dataset.theme === t, other);
  await accessible(page, `${what}, ${other}`, { rules: ["color-contrast", "link-in-text-block"] });
  await page.emulateMedia({ colorScheme: now, reducedMotion: "reduce" });
  await page.waitForFunction((t) => document.documentElement.dataset.theme === t, now);
}

/**
 * Draws the pointer over an element until that has come to something: points gives where,
 * of its size. What stands above a chart may come or go meanwhile and move it away.
 */
export async function drag(page, selector, points, done) {
  for (const by = Date.now() + patience; Date.now() < by; ) {
    const box = await page.locator(selector).first().boundingBox();
    if (!box) continue;
    const [from, to] = points(box);
    await page.mouse.move(box.x + from[0], box.y + from[1]);
    await page.mouse.down();
    await page.mouse.move(box.x + to[0], box.y + to[1], { steps: 5 });
    await page.mouse.up();
    for (let n = 0; n < 40; n++) {
      if (await done()) return;
      await pause(50);
    }
  }
  assert.fail(`drawing over ${selector} came to nothing`);
}

/** Fails if the page needs to scroll sideways. */
export async function fits(page, what) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(over, 0, `${what} is ${over}px too wide`);
}

/** Calls the centre's API as JSON. */
export async function call(method, request = {}) {
  const r = await fetch(`${centre}/opscenter.api.v1.${method}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) });
  const body = await r.json();
  if (!r.ok) throw new Error(`${method}: ${body.message}`);
  return body;
}

/** The centre's own process. */
export async function self() {
  const { instances = [] } = await call("FleetService/ListInstances");
  const own = instances.find((i) => i.self);
  assert.ok(own, "the centre's own process is an instance");
  return own;
}

/** Captures the centre itself and waits for the end; without kinds, all of them. */
export async function captured(seconds = 1, note = "browser test", kinds = []) {
  const own = await self();
  for (;;) {
    try {
      const { capture } = await call("CaptureService/StartCapture", { project: own.project, service: own.service, instanceIds: [own.id], spec: { duration: `${seconds}s`, kinds }, note });
      return await ended(capture.id);
    } catch (err) {
      const rest = / has to rest: try again in (\d+)s/.exec(err.message); // after many tests in a row
      if (!rest) throw err;
      await pause(rest[1] * 1000);
    }
  }
}

/** Waits for the end of a capture. */
export async function ended(id) {
  for (const by = Date.now() + 120_000; Date.now() < by; ) {
    const { capture: c } = await call("CaptureService/GetCapture", { captureId: id });
    if (["CAPTURE_STATE_DONE", "CAPTURE_STATE_PARTIAL"].includes(c.state)) return c;
    assert.ok(!["CAPTURE_STATE_FAILED", "CAPTURE_STATE_CANCELLED"].includes(c.state), `${c.state}: ${c.reason}`);
    await pause(250);
  }
  throw new Error("the capture did not end within two minutes");
}
