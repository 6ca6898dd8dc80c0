import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, accessibleInBothThemes, call, fits, follow, launch, open, says, visit } from "./harness.mjs";

let browser;
const sample = {};
before(async () => {
  browser = await launch();
  for (const n of [3, 4, 6]) {
    const { capture, kept } = await call("GuideService/GetSample", { scenario: n });
    sample[n] = capture.id;
    if (kept) await call("CaptureService/DeleteCapture", { captureId: capture.id });
  }
});
after(async () => {
  await browser.close();
  for (const id of Object.values(sample)) await call("CaptureService/DeleteCapture", { captureId: id }).catch(() => {});
});

test("from what one hears to the line, on a real capture, and into its views", async () => {
  const page = await open(browser);
  await visit(page, "/guide");
  await page.click("[data-chapter='4']");
  const finding = page.locator("[data-t=sample] [data-finding]").first();
  await finding.waitFor();
  assert.equal(await finding.locator("[data-severity]").first().getAttribute("data-severity"), "critical");
  assert.match(await finding.locator("[data-t=place]").first().innerText(), /^room\.go:\d+$/);
  await fits(page, "a chapter");

  // The capture that it advises, filled in.
  await page.click("[data-t=guide-capture]");
  await page.waitForSelector("[role=dialog] .kinds input[value=mutex]:checked");
  const ticked = await page.locator("[role=dialog] .kinds input:checked").evaluateAll((all) => all.map((i) => i.value));
  assert.ok(ticked.includes("mutex") && !ticked.includes("heap"), `ticked: ${ticked}`);
  await page.keyboard.press("Escape");

  // Its evidence opens the sample, which is then a capture like any other.
  await finding.locator("[data-t=proofs]").click();
  await finding.locator("[data-evidence]").first().waitFor();
  await accessible(page, "a chapter with its evidence");
  await page.click("[data-step='2']");
  await page.waitForURL(`**/captures/${sample[4]}/goroutines?*`);
  await page.waitForSelector("[data-t=stack]");
  await says(page, "[data-t=groups]", /placeStrict/);

  // And back from its finding.
  await page.click("[data-t=tab-diagnosis]");
  await page.locator("[data-finding] [data-t=guide]").first().click();
  await page.waitForURL("**/guide/4");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a rule's page, in the dark and the other language", async () => {
  const page = await open(browser, { theme: "dark", locale: "zh-TW", width: 1920, height: 1080 });
  await visit(page, "/guide");
  await page.waitForSelector("[data-rule=timer-leak]");
  await accessible(page, "the guide, dark");
  await page.click("[data-rule=timer-leak] a");
  await page.waitForSelector("[data-part=thresholds]");
  await says(page, "[data-part=means]", /計時器/);
  await accessible(page, "a rule, dark");
  await page.click("[data-t=rule-chapter]");
  await page.waitForURL("**/guide/5");
  await page.waitForSelector("[data-t=sample] [data-finding]");
  await page.click("a[href$='/guide/healthy']");
  await page.waitForSelector("[data-t=healthy]");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("what is over before anybody can click: the complaint leads to the rule, and one click arms it", async () => {
  const page = await open(browser);
  await visit(page, "/");
  await follow(page, "lag spike", "guide/6");
  await page.waitForURL("**/guide/6");
  const finding = page.locator("[data-t=sample] [data-finding]").first();
  await finding.waitFor();
  await says(page, "[data-t=sample]", /audit\.go:\d+/);

  // Armed and disarmed, as the rule's file says then.
  const enabled = async () => (await call("TriggerService/ListTriggers")).files.flatMap((f) => f.rules).find((r) => r.name === "stall").enabled ?? false;
  assert.equal(await enabled(), false);
  await page.click("[data-t=arm]");
  await page.waitForSelector("[data-t=disarm]");
  assert.equal(await enabled(), true);
  await accessibleInBothThemes(page, "a chapter with a rule");
  await fits(page, "a chapter with a rule");
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/chapter6.png` });
  await page.click("[data-t=disarm]");
  await page.waitForSelector("[data-t=arm]");
  assert.equal(await enabled(), false);
  await page.click("[data-t=armed-rule]");
  await page.waitForURL("**/rules?rule=stall");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});
