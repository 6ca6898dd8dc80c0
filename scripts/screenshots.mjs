// Takes pictures of every page of a running centre (OPS_URL), in both themes
// and languages, into the directory given as argument. The centre should hold a
// capture: scripts/screenshots.sh sees to it.
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { chromium } = createRequire(new URL("../web/package.json", import.meta.url))("playwright-core");
const centre = process.env.OPS_URL;
const dir = process.argv[2];
if (!centre || !dir) {
  console.error("usage: OPS_URL=… node scripts/screenshots.mjs DIRECTORY CAPTURE INSTANCE");
  process.exit(2);
}
const [, , , capture, instance] = process.argv;
mkdirSync(dir, { recursive: true });

const pages = { fleet: "/", captures: "/captures", capture: `/captures/${capture}`, instance: `/instances/${instance}` };
const tools = { pprof: `/pprof/${capture}/${instance}/cpu.pprof/` };
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
try {
  for (const [theme, locale] of [["light", "en-US"], ["dark", "en-US"], ["light", "zh-TW"]]) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: theme, locale, reducedMotion: "reduce" });
    for (const [name, path] of Object.entries({ ...pages, ...(theme === "light" && locale === "en-US" ? tools : {}) })) {
      const page = await context.newPage();
      const response = await page.goto(centre + path, { waitUntil: "load" });
      if (!response.ok()) throw new Error(`${path}: ${response.status()}`);
      await page.waitForTimeout(1500); // the first second of live figures
      const file = join(dir, `${name}-${theme}-${locale}.png`);
      await page.screenshot({ path: file });
      console.log(file);
      await page.close();
    }
    await context.close();
  }
} finally {
  await browser.close();
}
