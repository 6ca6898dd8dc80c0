// Every screen, each in both languages and both themes: nothing that axe finds
// serious or critical, nothing too wide, nothing the console says in red.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { accessible, accessibleInBothThemes, call, fits, launch, open, self, until, visit } from "./harness.mjs";
import { freePort } from "./owncentre.mjs";

let browser;
let own;
const sample = {};
before(async () => {
  browser = await launch();
  own = await self();
  for (const n of [0, 4]) sample[n] = (await call("GuideService/OpenSample", { scenario: n })).captureId;
});
after(() => browser.close());

const keys = (...list) => async (page) => {
  for (const k of list) await page.keyboard.press(k);
};

/** Name, address, what shows that it is there, what is done then and what shows that. */
const screens = () => [
  ["the fleet", "/", "[data-id]"],
  ["a fleet that nothing matches", "/?q=no-such-instance", "main .empty"],
  ["an instance", `/instances/${own.id}`, "figure canvas"],
  ["an instance that is not there", "/instances/0000nosuchinstance", "[role=alert]"],
  ["the capture dialog", "/", "[data-id]", (page) => page.click("[data-t=capture]"), "[role=dialog] .kinds"],
  ["the captures", "/captures", "main table"],
  ["a capture that is not there", "/captures/01aaaaaaaaaaaaaaaaaaaaaaaa", "[role=alert]"],
  ["a diagnosis, unfolded", `/captures/${sample[4]}?checked=1`, "[data-finding]", (page) => page.locator("[data-t=proofs]").first().click(), "[data-evidence]"],
  ["a flame graph", `/captures/${sample[4]}/flame?profile=cpu`, "[data-t=flame]:not([data-shown='0'])"],
  ["a timeline", `/captures/${sample[4]}/timeline`, "[data-row]"],
  ["goroutines", `/captures/${sample[4]}/goroutines`, "[data-group]", (page) => page.locator("[data-group]").first().click()],
  ["runtime metrics", `/captures/${sample[4]}/metrics`, "[data-chart=memory] canvas"],
  ["the files", `/captures/${sample[4]}/files`, "tr[data-artifact]"],
  ["a comparison", `/compare?a=${sample[0]}/*&b=${sample[4]}/*`, "[data-t=outliers]"],
  ["what changed in a profile", `/compare?a=${sample[0]}/*&b=${sample[4]}/*&show=profiles`, "[data-t=flame]:not([data-shown='0'])"],
  ["an empty comparison", "/compare", "main h1"],
  ["the guide", "/guide", "[data-rule]"],
  ...[1, 2, 3, 4, 5].map((n) => [`chapter ${n}`, `/guide/${n}`, "[data-t=sample] [data-finding]"]),
  ["a rule", "/guide/rules/pool-leaked", "[data-part=means]"],
  ["the palette", "/captures", "main h1", keys("Control+k"), "[data-t=palette-search]"],
  ["the list of keys", "/captures", "main h1", keys("?"), "[role=dialog]"],
  ["the console", "/console", "main h1"],
  ["controls", `/control?service=${own.project}/${own.service}`, "main h1"],
  ["the audit", "/audit", "main h1"],
  ["rules", "/rules", "main h1"],
  ["notifications", "/notifications", "main h1"],
  ["the account", "/account", "main h1"],
  ["an address that nothing has", "/nothing-here", "main h1"],
];

// In the second language the words are new and the colours are not: one theme of it
// is enough. Screens of one language share pages, three at a time.
for (const [locale, theme, width, height, look] of [["en-US", "light", 1280, 800, accessibleInBothThemes], ["zh-TW", "dark", 1920, 1080, accessible]])
  test(`every screen is accessible and fits: ${locale}, ${width}`, async () => {
    const todo = screens();
    const wrong = [];
    await Promise.all(Array.from({ length: 3 }, async () => {
      const page = await open(browser, { theme, locale, width, height });
      for (let screen; (screen = todo.shift()); ) {
        const [name, path, there, act, then] = screen;
        try {
          await visit(page, path);
          await page.waitForSelector(there);
          if (act) await act(page);
          if (then) await page.waitForSelector(then);
          await look(page, name);
          await fits(page, name);
        } catch (err) {
          wrong.push(`${name}: ${err.message}`);
        }
      }
      wrong.push(...page.errors.filter((e) => !/status of 404/.test(e)));
      await page.context().close();
    }));
    assert.deepEqual(wrong, []);
  });

const ops = (...args) => execFileSync("ops", args, { encoding: "utf8" });
const installed = (() => {
  try {
    return Boolean(ops("version"));
  } catch {
    return false;
  }
})();

test("the door of a centre that asks for a login", { skip: !installed && "needs ops in PATH" }, async () => {
  const dir = mkdtempSync(join(tmpdir(), "ops-door-"));
  const port = await freePort();
  ops("user", "add", "ann", "--admin", "--generate", "--data", dir);
  const door = `http://127.0.0.1:${port}`;
  const centre = spawn("ops", ["serve", "--listen", `127.0.0.1:${port}`, "--data", dir, "--login", "required", "--log-level", "error"], { stdio: "ignore" });
  const ended = new Promise((done) => centre.on("exit", done));
  try {
    await until("the centre", () => fetch(`${door}/healthz`).then((r) => r.ok));
    for (const [locale, theme] of [["en-US", "light"], ["zh-TW", "dark"]]) {
      const page = await open(browser, { locale, theme });
      await page.goto(`${door}/`);
      await page.waitForSelector("input[type=password]");
      await accessible(page, `the door, ${theme}`);
      await page.fill("[name=name], input[autocomplete=username]", "ann");
      await page.fill("input[type=password]", "not her password");
      await page.keyboard.press("Enter");
      await page.waitForSelector("[role=alert]");
      await accessible(page, `the door after a wrong password, ${theme}`);
      await fits(page, "the door");
      await page.context().close();
    }
  } finally {
    centre.kill("SIGTERM");
    await ended;
    rmSync(dir, { recursive: true, force: true });
  }
});
