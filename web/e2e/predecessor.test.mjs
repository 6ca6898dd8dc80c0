import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessibleInBothThemes, fits, launch, open, says, until } from "./harness.mjs";
import { end, ownCentre } from "./owncentre.mjs";

const users = async (but = "") => ((await centre.call("FleetService/ListInstances")).instances ?? []).find((i) => i.service === "user-service" && i.id !== but && i.state === "INSTANCE_STATE_UP");

let browser;
let centre;
before(async () => {
  browser = await launch();
  centre = await ownCentre("predecessor");
});
after(async () => {
  await browser.close();
  await centre.close();
});

test("of a process that was killed, the next one shows how it ended and the last that it sent", async () => {
  const first = centre.start("colorgame", "user-service", "--center", centre.url);
  const dead = await until("the service", () => users());
  const text = "rules:\n  - name: near-the-end\n    for: {service: user-service}\n    when: {metric: goroutines, above: 1}\n    do: [{snapshot: goroutine}]\n    limits: {cooldown: 10m}\n";
  await centre.call("TriggerService/PutTriggerFile", { name: "test.yaml", text });
  const last = await until("its capture", async () => {
    const { captures = [] } = await centre.call("CaptureService/ListCaptures", { pageSize: 10 });
    return captures.find((c) => c.actor === "rule:near-the-end" && c.state === "CAPTURE_STATE_DONE");
  });
  await end(first, "SIGKILL");
  centre.start("colorgame", "user-service", "--center", centre.url);
  const next = await until("its successor", async () => {
    const i = await users(dead.id);
    return i?.predecessor ? i : undefined;
  });
  assert.equal(next.predecessor.instanceId, dead.id);

  for (const [theme, locale, words] of [["dark", "en-US", [/Before it/, /the last it sent/, /rule near-the-end/]], ["light", "zh-TW", [/前一個行程/, /它最後送出的擷取/, /規則 near-the-end/]]]) {
    const page = await open(browser, { theme, locale });
    await page.goto(`${centre.url}/instances/${next.id}`);
    await page.waitForSelector("[data-t=last-capture]");
    for (const w of words) await says(page, "[data-t=predecessor]", w);
    await fits(page, "a successor");
    if (theme === "dark") await accessibleInBothThemes(page, "a successor");
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/predecessor-${theme}.png` });
    await page.click("[data-t=last-capture] a");
    await page.waitForURL(`**/captures/${last.id}?*`);
    assert.deepEqual(page.errors, []);
    await page.context().close();
  }
});
