import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, accessibleInBothThemes, call, count, fits, launch, open, says, self, until, visit } from "./harness.mjs";

// The instance that watches itself is the centre's own process.
const file = "browser-test.yaml";
const note = "browser test of rules";
// What fired counts for a name, also after a change: each run has names of its own.
const bt = `bt-${Date.now().toString(36)}`;
let text;

let browser;
let own;
before(async () => {
  browser = await launch();
  own = await self();
  const rule = (name, when, limits) => `  - name: ${bt}-${name}\n    for: {service: ${own.service}}\n    when: ${when}\n    do: [{snapshot: goroutine}]\n    limits: ${limits}\n`;
  text = "rules:\n" +
    rule("quiet", "{metric: goroutines, above: 1000000}", "{cooldown: 1m}") +
    rule("tired", "{metric: goroutines, above: 1}", "{cooldown: 10m, times: 3, per: 1h}") +
    rule("done", "{metric: goroutines, above: 1}", "{cooldown: 10m, stop_after: 1}") +
    rule("modest", "{metric: goroutines, above: 1}", "{cooldown: 10m, max_cpu: 0.0001%}");
});
after(async () => {
  const left = await written();
  if (left) await call("TriggerService/PutTriggerFile", { name: file, before: left, text: "" });
  // The other tests find the centre as they left it.
  for (let n = 0; n < 5; n++) {
    const { captures = [] } = await call("CaptureService/ListCaptures", { pageSize: 100 });
    const ours = captures.filter((c) => c.actor?.startsWith("rule:bt-") || c.note === note);
    if (!ours.length) break;
    for (const c of ours) await call("CaptureService/DeleteCapture", { captureId: c.id }).catch(() => new Promise((r) => setTimeout(r, 1000)));
  }
  await browser.close();
});

/** The text of the file as it is now; "" = there is none. */
const written = async () => (await call("TriggerService/ListTriggers")).files?.find((f) => f.name === file)?.text ?? "";

const shot = async (page, name) => {
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png` });
};

test("presets are there and off, each with what it would cost", async () => {
  const page = await open(browser);
  await visit(page, "/rules");
  for (const name of ["cpu-burn", "waiting-for-connections", "goroutines-pile-up", "stall", "heap-grows", "before-the-kill"]) {
    const row = `[data-rule=${name}]`;
    await page.waitForSelector(row);
    assert.equal(await page.isChecked(`${row} input`), false, `${name} is off`);
  }
  await says(page, "[data-rule=stall] [data-t=cost]", /^flight recorder on: a few % of CPU, up to 16 MiB$/);
  assert.equal(await page.locator("[data-rule=cpu-burn] [data-t=cost]").count(), 0);
  await accessibleInBothThemes(page, "rules");
  await fits(page, "rules");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a file of rules is written, previewed, put in force, and tells how it stands and why", async () => {
  const page = await open(browser);
  await visit(page, "/rules");
  await page.click("[data-t=new]");
  await page.fill("[data-t=file]", file);
  await page.fill("[data-t=text]", text.replace("above: 1000000", "abov: 1000000"));
  // A file without a word is checked, too, if the fingers rest before they write.
  await page.waitForSelector(`[data-t=mistake]:text-is('${file}:4: unknown field "abov"')`);
  assert.ok(await page.isDisabled("[data-t=save]"), "what is wrong cannot be saved");
  await shot(page, "mistake");

  await page.fill("[data-t=text]", text);
  await page.waitForSelector("[data-t=right]");
  const preview = page.locator("[data-t=matches] > li");
  await count(page, "[data-t=matches] > li", 4);
  assert.match(await preview.nth(0).innerText(), /-quiet[\s\S]*1 instance/);
  assert.doesNotMatch(await preview.nth(0).innerText(), /would fire now/);
  assert.match(await preview.nth(1).innerText(), /-tired[\s\S]*would fire now: 1/);
  await accessible(page, "the editor");
  await shot(page, "editor");
  await page.click("[data-t=save]");
  await says(page, "[data-t=done]", /browser-test\.yaml is saved/);

  // The instance has them within seconds, and one acts after the other.
  const stands = (name, word) => page.waitForSelector(`[data-rule=${bt}-${name}] >> text="${word} 1"`);
  await stands("quiet", "watching");
  await stands("tired", "throttled");
  await stands("done", "finished");
  await stands("modest", "refused");

  await page.keyboard.press("Escape");
  await page.click(`[data-rule=${bt}-tired] .link`);
  await says(page, "[data-t=countdown]", /^free in \d/);
  await says(page, "[data-t=standings]", /it cools down[\s\S]*1\/3/);
  await page.waitForSelector("[data-t=history] [data-kind=archived] a[href*='/captures/']");
  await shot(page, "standings");
  await page.click(`[data-rule=${bt}-modest] .link`);
  await says(page, "[data-t=history] [data-kind=refused]", /nothing was done: the process uses [\d.]+ % of its cores, above the ceiling of 0\.0001 %/);
  await page.waitForURL(/rule=bt-.*-modest/);
  await accessible(page, "how a rule stands");
  await fits(page, "how a rule stands");

  // Switched off in its file, which is otherwise as it was.
  await page.click(`[data-enable=${bt}-quiet]`);
  await page.waitForSelector(`[data-rule=${bt}-quiet] .chip:text-is("off")`);
  assert.equal(await written(), text.replace(`- name: ${bt}-quiet\n`, `- name: ${bt}-quiet\n    enabled: false\n`));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a rule that acts says so, in the other language and the dark as well", async () => {
  const now = await written();
  // It acts for ten seconds and rests for ten, so that who looks late sees the next time.
  const acts = `rules:\n  - name: ${bt}-acts\n    for: {service: ${own.service}}\n    when: {metric: goroutines, above: 1}\n    do: [{capture: {for: 10s, kinds: [runtime]}}]\n    limits: {cooldown: 10s, times: 100, per: 1h}\n`;
  await call("TriggerService/PutTriggerFile", { name: file, before: now, text: acts });
  const page = await open(browser, { theme: "dark", locale: "zh-TW" });
  await visit(page, `/rules?rule=${bt}-acts`);
  await page.waitForSelector(`[data-rule=${bt}-acts] >> text="執行中 1"`, { timeout: 90_000 });
  await says(page, `[data-rule=${bt}-acts]`, /goroutine 數 ≥ 1/);
  await says(page, `[data-rule=${bt}-acts]`, /擷取 10\s秒（runtime）/);
  await page.waitForSelector(`[data-t=standings] >> text="執行中"`);
  await page.waitForSelector("[data-t=history] [data-kind=fired] >> text=goroutine 數為");
  await accessible(page, "a rule that acts");
  await shot(page, "acting");
  await page.waitForSelector("[data-t=history] [data-kind=archived]", { timeout: 90_000 });
  await call("TriggerService/PutTriggerFile", { name: file, before: acts, text: now });
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("the capture dialog offers the past of those who keep it, and else says how and at which cost", async () => {
  const page = await open(browser);
  await visit(page, `/instances/${own.id}`);
  await page.click("[data-t=capture]");
  await page.waitForSelector("[data-t=past-off]");
  assert.ok(await page.isDisabled("[data-t=past]"));
  await says(page, "[data-t=past-off]", /None of them keeps the past\. Switch it on .* It costs a busy service a few per cent/);
  assert.equal(await page.inputValue("[data-t=last]"), "");
  await page.click("[data-t=past-rule]");
  await page.waitForURL((u) => u.pathname === "/rules" && u.searchParams.get("rule") === "stall");
  await page.waitForSelector("[role=dialog]", { state: "detached" });
  await page.goBack();

  const now = await written();
  const keeping = `${now || "rules:\n"}  - name: ${bt}-past\n    for: {service: ${own.service}}\n    when: {slow: nothing-is-called-so, longer: 1h}\n    do: [{flight: 3s}]\n`;
  await call("TriggerService/PutTriggerFile", { name: file, before: now, text: keeping });
  await until("the recorder is on", async () => (await call("TriggerService/ListTriggers")).recorders?.some((r) => r.instanceId === own.id && r.on));
  await page.click("[data-t=capture]");
  await page.waitForSelector("[data-t=past-on]");
  await page.check("[data-t=past]");
  await page.fill("[data-t=last]", "61");
  await page.waitForSelector("text=Use 1 to 60 seconds.");
  await page.fill("[data-t=last]", "2");
  assert.equal(await page.locator("[data-t=duration]").count(), 0, "there is no window to come");
  await page.fill("[data-t=note]", note);
  await accessible(page, "the dialog");
  await shot(page, "dialog");
  await page.click("[data-t=start]");
  await page.waitForURL(/\/captures\//);
  const id = new URL(page.url()).pathname.split("/")[2];
  const { capture } = await call("CaptureService/GetCapture", { captureId: id });
  assert.equal(capture.spec.last, "2s");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});
