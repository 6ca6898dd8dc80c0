import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { accessible, call, captured, centre, fits, launch, open, says, visit } from "./harness.mjs";

// The Color Game's login storm: its user-service compares a password with bcrypt
// for every request of a player.
const stack = process.env.COLORGAME_STACK;
const fault = (to) => promisify(execFile)("colorgame", ["fault", "1", to, "--stack", stack]);
const source = readFileSync(new URL("../../examples/colorgame/internal/user/user.go", import.meta.url), "utf8").split("\n");
const place = `user.go:${source.findIndex((l) => l.includes("bcrypt.CompareHashAndPassword")) + 1}`;
const game = { skip: !stack && "needs the Color Game: COLORGAME_STACK names the file of its demo" };

let browser;
before(async () => (browser = await launch()));
after(async () => {
  await browser.close();
  if (stack) await fault("off");
});

test("from a slow service to its line", game, async () => {
  await fault("on");
  const page = await open(browser);
  await visit(page, "/");
  await page.click("[data-t=capture]");
  await page.selectOption("[data-t=service]", "color-game/user-service");
  await page.fill("[data-t=duration]", "5");
  await page.click("[data-t=start]");
  const finding = page.locator("[data-t=diagnosis] [data-finding]").first();
  await finding.waitFor();
  assert.equal(await finding.locator("[data-t=place]").first().innerText(), place);
  assert.equal(await finding.locator("[data-severity]").first().getAttribute("data-severity"), "critical");
  assert.match(await finding.locator(".title").first().innerText(), /bcrypt/);
  const box = await finding.locator("[data-t=place]").first().boundingBox();
  assert.ok(box.y < 300, `the line is ${box.y}px down the page`);
  const path = new URL(page.url()).pathname;
  await fits(page, "a diagnosis");
  await accessible(page, "a diagnosis");

  // By keys alone: to the finding, and into its evidence.
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForURL((u) => u.searchParams.get("finding")?.includes("/cpu-password-hashing/"));
  const profile = finding.locator('[data-evidence="cpu"]').first();
  const [flame] = await Promise.all([page.context().waitForEvent("page"), profile.locator("[data-t=flame]").click()]);
  await says(flame, "body", /bcrypt/);
  assert.equal((await flame.locator("#errors").innerText()).trim(), "", "pprof finds the places of the finding");
  await flame.close();
  const [top] = await Promise.all([page.context().waitForEvent("page"), profile.locator("[data-t=top]").click()]);
  await top.waitForSelector("text=/blowfish/");
  await top.close();
  // The page's own views begin where the finding points.
  const address = page.url();
  await profile.locator("[data-t=flame-view]").click();
  await page.waitForURL((u) => u.pathname.endsWith("/flame"));
  await page.waitForSelector("text=/CompareHashAndPassword/");
  await page.click("[data-t=tab-diagnosis]"); // as it was left
  await finding.locator('[data-evidence="cpu"]').first().waitFor();
  assert.deepEqual(page.errors, []);

  // The address shows it to somebody else, in their language and theme.
  await page.context().close();
  for (const theme of ["light", "dark"]) {
    const other = await open(browser, { theme, locale: "zh-TW", width: 1920, height: 1080 });
    await visit(other, address.slice(centre.length));
    const same = other.locator("[data-t=diagnosis] [data-finding]").first();
    await same.locator('[data-evidence="cpu"]').first().waitFor();
    await same.locator(".title").first().filter({ hasText: /密碼雜湊/ }).waitFor();
    assert.equal(await same.locator("[data-t=place]").first().innerText(), place);
    await other.click("[data-t=checked] button");
    await other.waitForURL(/checked=1/);
    await accessible(other, `an unfolded diagnosis, ${theme}`);
    await fits(other, `an unfolded diagnosis, ${theme}`);
    // The texts come anew with the language.
    await other.click("[data-t=lang]");
    await other.waitForSelector("[data-t=diagnosis] [data-finding] >> text=/hashes passwords/");
    assert.deepEqual(other.errors, []);
    await other.context().close();
  }

  // The fleet says it as well, on the service's row and at its foot, a click and a key away.
  const fleet = await open(browser);
  await visit(fleet, "/");
  const last = fleet.locator('[role=row][data-id="color-game/user-service"] [data-t=last-verdict]');
  await says(fleet, '[role=row][data-id="color-game/user-service"] [data-t=last-verdict]', new RegExp(place));
  await last.hover();
  await says(fleet, ".foot", /Last verdict, .*bcrypt/);
  await fleet.keyboard.press("v");
  await fleet.waitForURL((u) => u.pathname === path);
  await fleet.goBack();
  await last.click();
  await fleet.waitForURL((u) => u.pathname === path);
  assert.deepEqual(fleet.errors, []);
  await fleet.context().close();
  await call("CaptureService/DeleteCapture", { captureId: path.split("/").pop() });
});

test("what a narrow capture could not check is one click from being captured", async () => {
  const capture = await captured(1, "narrow", ["runtime"]);
  for (const theme of ["light", "dark"]) {
    const page = await open(browser, { theme });
    await visit(page, `/captures/${capture.id}`);
    await page.waitForSelector("[data-t=unclear], [data-t=diagnosis] [data-finding]");
    const gap = page.locator("[data-t=gaps] .row", { hasText: /Goroutine leak/ });
    assert.match(await gap.innerText(), /ops capture .*--kinds /);
    await accessible(page, `gaps, ${theme}`);
    await gap.locator("[data-t=next-capture]").click();
    await says(page, "[role=dialog]", /Affects 1 instance\b/);
    await page.waitForSelector("[role=dialog] .kinds input[value=goroutine]:checked");
    const ticked = await page.locator("[role=dialog] .kinds input:checked").evaluateAll((all) => all.map((i) => i.value));
    assert.ok(ticked.includes("goroutine") && !ticked.includes("heap"), `ticked: ${ticked}`);
    assert.deepEqual(page.errors, []);
    await page.context().close();
  }
  await call("CaptureService/DeleteCapture", { captureId: capture.id });
});
