// Takes pictures of every screen of a running centre (OPS_URL), in both themes and
// languages and at two widths, into the directory given as argument. The centre
// should hold a capture with something wrong and one of a healthy service:
// scripts/screenshots.sh sees to it. What the guide has samples of is shown on
// those. ONLY=name,name takes only these screens.
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { chromium } = createRequire(new URL("../web/package.json", import.meta.url))("playwright-core");
const centre = process.env.OPS_URL;
const dir = process.argv[2];
if (!centre || !dir) {
  console.error("usage: OPS_URL=… node scripts/screenshots.mjs DIRECTORY CAPTURE INSTANCE HEALTHY");
  process.exit(2);
}
const [, , , capture, instance, healthy] = process.argv;
mkdirSync(dir, { recursive: true });

async function call(method, request) {
  const r = await fetch(`${centre}/opscenter.api.v1.${method}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) });
  const body = await r.json();
  if (!r.ok) throw new Error(`${method}: ${body.message}`);
  return body;
}
/** A sample of the guide, as a capture. */
const sample = async (scenario) => (await call("GuideService/OpenSample", { scenario })).captureId;
const [fine, lock, leak] = await Promise.all([sample(0), sample(4), sample(5)]);

/** Each screen: where it is, what shows that it is there, what is done before the picture. */
const screens = [
  ["fleet", "/"],
  ["palette", "/", "[data-id]", async (page) => {
    await page.keyboard.press("Control+k");
    await page.fill("[data-t=palette-search]", "ga");
  }],
  ["keys", "/captures", "main table", (page) => page.keyboard.press("?")],
  ["new-capture", "/", "[data-id]", (page) => page.keyboard.press("c")],
  ["captures", "/captures", "main table"],
  ["capture", `/captures/${capture}`, "[data-finding]"],
  ["finding", `/captures/${capture}`, "[data-finding]", (page) => page.locator("[data-t=proofs]").first().click()],
  ["healthy", `/captures/${healthy}?checked=1`, "[data-t=diagnosis]"],
  ["flame", `/captures/${lock}/flame?profile=cpu`, "canvas"],
  ["timeline", `/captures/${lock}/timeline`, "canvas"],
  ["goroutines", `/captures/${leak}/goroutines`, "[data-group]", (page) => page.locator("[data-group]").first().click()],
  ["metrics", `/captures/${lock}/metrics`, "[data-chart=memory] canvas"],
  ["files", `/captures/${lock}/files`, "tr[data-artifact]"],
  ["compare", `/compare?a=${fine}/*&b=${lock}/*`, "h1"],
  ["difference", `/compare?a=${fine}/*&b=${lock}/*&show=profiles`, "canvas"],
  ["instance", `/instances/${instance}`, "canvas"],
  ["console", "/console", "main"],
  ["control", "/control?service=color-game/user-service", "main h1"],
  ["audit", "/audit", "main h1"],
  ["rules", "/rules", "main h1"],
  ["notifications", "/notifications", "main h1"],
  ["account", "/account", "main h1"],
  ["nothing", "/nothing-here", "main h1"],
  ["no-match", "/?q=no-such-instance", "main .empty"],
  ["troubled", "/?state=trouble", "main h1"],
  ["guide", "/guide", "[data-rule]"],
  ...[1, 2, 3, 4, 5].map((n) => [`chapter-${n}`, `/guide/${n}`, "[data-t=sample] [data-finding]"]),
  ["rule", "/guide/rules/pool-leaked", "[data-part=means]"],
];
// A screen is opened once in each language and then looked at in every size and theme,
// several screens at a time: what takes long is opening.
const sizes = [[1280, 800], [1920, 1080]];
const themes = ["light", "dark"];
const atOnce = Number(process.env.JOBS ?? 3);
const patience = 30_000;
const settle = 350; // what a canvas and the layout need after a change of size or theme
const only = process.env.ONLY?.split(",");
const jobs = screens.filter(([name]) => !only || only.includes(name)).flatMap((screen) => ["en-US", "zh-TW"].map((locale) => [locale, ...screen]));
const failed = [];

async function take(browser, [locale, name, path, ready, act]) {
  const context = await browser.newContext({ viewport: { width: sizes[0][0], height: sizes[0][1] }, colorScheme: themes[0], locale, reducedMotion: "reduce" });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(patience);
    const response = await page.goto(centre + path, { waitUntil: "load" });
    if (!response.ok()) throw new Error(`${path}: ${response.status()}`);
    await page.waitForSelector("[data-live=live]");
    if (ready) await page.waitForSelector(ready);
    if (act) await act(page);
    await page.waitForTimeout(1200); // the first second of live figures
    for (const [width, height] of sizes) {
      await page.setViewportSize({ width, height });
      for (const theme of themes) {
        await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
        await page.waitForTimeout(settle);
        await page.screenshot({ path: join(dir, `${name}-${theme}-${locale}-${width}.png`) });
      }
    }
    console.log(`${name} ${locale}`);
  } finally {
    await context.close();
  }
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
try {
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let job; (job = jobs.shift()); ) {
      // One screen that cannot be had does not cost the others.
      await take(browser, job).catch((err) => failed.push(`${job[1]} ${job[0]}: ${String(err.message).split("\n")[0]}`));
    }
  }));
} finally {
  await browser.close();
}
if (failed.length) {
  console.error(`no picture of:\n  ${failed.join("\n  ")}`);
  process.exitCode = 1;
}
