import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { accessible, fits, launch, open, visit } from "./harness.mjs";

// The chat is an HTTP server of this test; what it is told counts.
const told = [];
let answer = 200;
const chat = createServer((req, res) => {
  let body = "";
  req.on("data", (b) => (body += b));
  req.on("end", () => {
    told.push({ auth: req.headers.authorization, ...JSON.parse(body) });
    res.writeHead(answer).end(answer === 200 ? "ok" : "no such room");
  });
});

let browser;
let hook;
before(async () => {
  await new Promise((r) => chat.listen(0, "127.0.0.1", r));
  hook = `http://127.0.0.1:${chat.address().port}/secret-path`;
  browser = await launch();
});
after(async () => {
  await browser.close();
  chat.close();
});

test("a chat is added, tested, changed without its secrets, and forgotten", async () => {
  const page = await open(browser);
  await visit(page, "/notifications");
  await page.waitForSelector("text=Nobody is told of trouble yet");
  await accessible(page, "no channels");

  await page.keyboard.press("a");
  await page.selectOption("[data-t=channel-type]", "webhook");
  await page.fill("[data-t=channel-name]", "on call");
  await page.fill("[data-t=channel-url]", hook);
  await page.fill("[data-t=channel-token]", "hush");
  await page.click("[data-t=quiet]");
  await accessible(page, "the form");
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/form.png` });
  await page.click("[data-t=channel-save]");
  await page.waitForSelector("[data-t=channel-wrong]");
  assert.match(await page.innerText("[data-t=channel-wrong]"), /"on call" is no name of a channel: use letters, digits/);
  await page.fill("[data-t=channel-name]", "oncall");
  await page.click("[data-t=quiet]");
  await page.click("[data-t=channel-save]");

  const row = "[data-channel=oncall]";
  await page.click(`${row} [data-t=channel-test]`);
  await page.waitForSelector(`${row} >> text=1 message sent`);
  assert.equal(told.length, 1);
  assert.equal(told[0].auth, "Bearer hush");
  assert.match(told[0].title, /this channel works/);
  assert.ok(!(await page.content()).includes("secret-path"), "the address is a secret");
  await accessible(page, "a channel");
  await fits(page, "a channel");

  await page.click(`${row} [data-t=channel-edit]`);
  await page.waitForSelector("[role=dialog] >> text=Channel oncall");
  await page.click("[data-t=channel-save]");
  await page.waitForSelector("[role=dialog]", { state: "detached" });
  answer = 404;
  await page.click(`${row} [data-t=channel-test]`);
  await page.waitForSelector(`${row} [data-t=trouble]`);
  assert.match(await page.innerText(`${row} [data-t=trouble]`), /refuses with 404 Not Found: no such room/);
  assert.equal(told[1].auth, "Bearer hush", "the secrets stayed");
  if (process.env.SHOTS) {
    await page.click(`${row} summary`);
    await page.screenshot({ path: `${process.env.SHOTS}/light.png` });
  }

  await page.click(`${row} [data-t=channel-delete]`);
  await page.click("[role=alertdialog] .danger");
  await page.waitForSelector("text=Nobody is told of trouble yet");
  assert.deepEqual(page.errors.filter((e) => !/503|400|Failed to load resource/.test(e)), []);
  await page.context().close();
});

test("in the other language and the dark", async () => {
  const page = await open(browser, { theme: "dark", locale: "zh-TW" });
  await visit(page, "/notifications");
  await page.waitForSelector("text=目前沒有人會收到通知");
  await page.click("[data-t=channel-add]");
  await page.selectOption("[data-t=channel-type]", "line");
  await page.waitForSelector("text=Messaging API 頻道的 token");
  await accessible(page, "the form in the dark");
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/dark.png` });
  assert.deepEqual(page.errors, []);
  await page.context().close();
});
