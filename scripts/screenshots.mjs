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
  ["guide", "/guide", "[data-rule]"],
  ["chapter", "/guide/4", "[data-t=sample] [data-finding]"],
  ["rule", "/guide/rules/pool-leaked", "[data-part=means]"],
];
// Every look on a laptop, and the two that differ most on a large screen.
const looks = [["light", "en-US", 1280, 800], ["dark", "zh-TW", 1280, 800], ["dark", "en-US", 1280, 800], ["light", "zh-TW", 1280, 800], ["light", "en-US", 1920, 1080], ["dark", "zh-TW", 1920, 1080]];
const only = process.env.ONLY?.split(",");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
try {
  for (const [theme, locale, width, height] of looks) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, locale, reducedMotion: "reduce" });
    for (const [name, path, ready, act] of screens) {
      if (only && !only.includes(name)) continue;
      const page = await context.newPage();
      const response = await page.goto(centre + path, { waitUntil: "load" });
      if (!response.ok()) throw new Error(`${path}: ${response.status()}`);
      await page.waitForSelector("[data-live=live]");
      if (ready) await page.waitForSelector(ready);
      if (act) await act(page);
      await page.waitForTimeout(1200); // the first second of live figures; what is drawn
      const file = join(dir, `${name}-${theme}-${locale}-${width}.png`);
      await page.screenshot({ path: file });
      console.log(file);
      await page.close();
    }
    await context.close();
  }
} finally {
  await browser.close();
}
