// Takes pictures of every page of a running centre (OPS_URL), in both themes
// and languages, into the directory given as argument. The centre should hold a
// capture with something wrong and one of a healthy service:
// scripts/screenshots.sh sees to it.
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

const pages = { fleet: "/", captures: "/captures", capture: `/captures/${capture}`, healthy: `/captures/${healthy}?checked=1`, instance: `/instances/${instance}` };
const tools = { pprof: `/pprof/${capture}/${instance}/cpu.pprof/` };
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
try {
  for (const [theme, locale, width, height] of [["light", "en-US", 1280, 800], ["dark", "en-US", 1280, 800], ["light", "zh-TW", 1280, 800], ["dark", "zh-TW", 1920, 1080]]) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, locale, reducedMotion: "reduce" });
    for (const [name, path] of Object.entries({ ...pages, ...(theme === "light" && locale === "en-US" ? tools : {}) })) {
      const page = await context.newPage();
      const response = await page.goto(centre + path, { waitUntil: "load" });
      if (!response.ok()) throw new Error(`${path}: ${response.status()}`);
      if (name in pages) await page.waitForSelector("[data-live=live]");
      if (name === "capture") await page.waitForSelector("[data-finding]");
      await page.waitForTimeout(1500); // the first second of live figures
      const shoot = async (name) => {
        const file = join(dir, `${name}-${theme}-${locale}.png`);
        await page.screenshot({ path: file });
        console.log(file);
      };
      await shoot(name);
      if (name === "capture") {
        await page.locator("[data-t=proofs]").first().click();
        await page.waitForTimeout(500);
        await shoot("finding");
      }
      await page.close();
    }
    await context.close();
  }
} finally {
  await browser.close();
}
