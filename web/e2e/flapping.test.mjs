import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessibleInBothThemes, count, fits, launch, open, says, until } from "./harness.mjs";
import { end, ownCentre } from "./owncentre.mjs";

let browser;
let centre;
before(async () => {
  browser = await launch();
  centre = await ownCentre("flapping");
});
after(async () => {
  await browser.close();
  await centre.close();
});

const row = (id) => `[role=row][data-id="${id}"]`;
const users = async () => ((await centre.call("FleetService/ListInstances", { includeGone: true })).instances ?? []).filter((i) => i.service === "user-service");

test("who comes and goes is one row that says so, and then a tombstone that says since when and who says it", async () => {
  const wire = await centre.wire();
  const service = centre.start("colorgame", "user-service", "--center", wire.url);
  const { id } = await until("the service", async () => (await users()).find((i) => i.state === "INSTANCE_STATE_UP"));
  let cut = 0; // as many connections as there had been
  await until("it is told", async () => {
    const [i] = await users();
    if (i.state !== "INSTANCE_STATE_UP") return false;
    if (i.health?.issues?.some((x) => x.check === "flapping")) return true;
    if (wire.connections() > cut) {
      cut = wire.connections();
      wire.cut();
    }
    return false;
  });
  const all = await users();
  assert.deepEqual(all.map((i) => i.id), [id], "it is one instance");

  const dark = await open(browser, { theme: "dark" });
  await dark.goto(`${centre.url}/?q=${id}`);
  await dark.waitForSelector(`${row(id)} >> text=/flapping, lost ([3-9]|\\d\\d)×/`);
  await count(dark, "[role=row][data-type=instance]", 1);
  await says(dark, "[data-state=warning]", /[1-9]/);
  await accessibleInBothThemes(dark, "a fleet with one that flaps");
  if (process.env.SHOTS) await dark.screenshot({ path: `${process.env.SHOTS}/flapping-dark.png` });
  const light = await open(browser, { locale: "zh-TW", width: 1920, height: 1080 });
  await light.goto(`${centre.url}/?q=${id}`);
  await light.waitForSelector(`${row(id)} >> text=/反覆斷線 ([3-9]|\\d\\d) 次/`);

  await end(service, "SIGTERM");
  for (const [page, words] of [[dark, /clean exit · since \S.* · it said so itself/], [light, /正常結束 · 自 \S.* · 行程自行回報/]]) {
    await page.waitForSelector(`${row(id)}.gone`);
    await page.hover(row(id));
    await says(page, "[data-t=tombstone]", words);
    await count(page, "[role=row][data-type=instance]", 1); // one row, one tombstone
    await fits(page, "a tombstone");
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/tombstone-${page === dark ? "dark" : "light"}.png` });
    await page.goto(`${centre.url}/instances/${id}`);
    await says(page, ".note", words);
    assert.deepEqual(page.errors, []);
    await page.context().close();
  }
  assert.equal((await users())[0].stateSays, "process");
});
