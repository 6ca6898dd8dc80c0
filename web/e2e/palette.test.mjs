import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, focused, follow, launch, open, says, self, visit } from "./harness.mjs";

let browser;
let own;
before(async () => {
  browser = await launch();
  own = await self();
});
after(() => browser.close());

test("anywhere in a few keys, and back to where one was", async () => {
  const page = await open(browser);
  await visit(page, "/");
  await page.waitForSelector(`[data-id="${own.id}"]`);
  await page.focus("[data-t=capture]");
  await page.keyboard.press("Control+k");
  await focused(page, "palette-search");
  await accessible(page, "the palette");
  await page.keyboard.press("Escape");
  await page.waitForSelector("[data-t=palette]", { state: "detached" });
  await focused(page, "capture"); // the focus comes back

  await follow(page, `${own.address} ${own.service}`, `instance/${own.id}`);
  await page.waitForURL(`**/instances/${own.id}`);

  // What was used comes first without a word, a command by its initials.
  await page.keyboard.press("Control+k");
  await page.waitForSelector(`[data-entry="instance/${own.id}"][aria-selected=true]`);
  await focused(page, "palette-search");
  await page.keyboard.type("lkeys");
  await page.waitForSelector('[data-entry="command/cmd.help"][aria-selected=true]');
  await page.keyboard.press("Enter");
  await page.waitForSelector("[role=dialog] dl");
  await says(page, "[role=dialog]", /Ctrl\s+K\s+Find anything/);
  await page.keyboard.press("Escape");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("in the other language and the dark, a word that nothing is called", async () => {
  const page = await open(browser, { theme: "dark", locale: "zh-TW" });
  await visit(page, "/captures");
  await page.click("[data-t=palette-open]");
  await focused(page, "palette-search");
  await page.keyboard.type("總覽");
  await page.waitForSelector('[data-entry="command/cmd.fleet"][aria-selected=true]');
  await accessible(page, "the palette, dark");
  await page.keyboard.type("qqq");
  await page.waitForSelector("text=沒有符合的項目");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});
