import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { accessible, fits, launch, open, says, visit } from "./harness.mjs";

// The chat is an HTTP server of this test; what it is told counts.
const told = [];
let answer = 200;
const chat = createServer((req, res) => {
  let body = "";
  req.on("data", (b) => (body += b));
  req.on("end", () => {
    told.push({ auth: req.headers.authorization, path: req.url, ...JSON.parse(body) });
    // Robots answer with a code of their own.
    res.writeHead(answer).end(answer !== 200 ? "no such room" : /robot|bot\/v2/.test(req.url) ? '{"code":0,"errcode":0}' : "ok");
  });
});

/** Of whose trouble the chats are told: what the game does meanwhile is none of it. */
const nobody = "no-such-project";

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
  await page.fill("[data-t=channel-projects]", nobody);
  await page.click("[data-t=quiet]");
  await accessible(page, "the form");
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/form.png` });
  await page.click("[data-t=channel-save]");
  await says(page, "[data-t=channel-wrong]", /"on call" is no name of a channel: use letters, digits/);
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
  await says(page, `${row} [data-t=trouble]`, /refuses with 404 Not Found: no such room/);
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

// What each chat is told, in the form that its documentation asks for.
const chats = [
  { type: "slack", url: "/services/T0/B0/x", says: (m) => m.blocks[0].text.text },
  { type: "telegram", url: "", token: "12:abc", to: "-100", says: (m) => (assert.equal(m.path, "/bot12:abc/sendMessage"), assert.equal(m.chat_id, "-100"), m.text) },
  { type: "line", url: "", token: "hush", to: "U1", says: (m) => (assert.equal(m.path, "/v2/bot/message/push"), assert.equal(m.auth, "Bearer hush"), assert.equal(m.to, "U1"), m.messages[0].text) },
  { type: "teams", url: "/workflows/x", says: (m) => m.attachments[0].content.body[0].text },
  { type: "feishu", url: "/open-apis/bot/v2/hook/x", secret: "sign me", says: (m) => (assert.ok(m.sign && m.timestamp), m.content.post.zh_cn.title) },
  { type: "dingtalk", url: "/robot/send?access_token=x", secret: "sign me", says: (m) => (assert.match(m.path, /access_token=x&sign=[^&]+&timestamp=\d+/), m.markdown.title) },
];

test("every chat is told in its own form and in the reader's language", async () => {
  answer = 200;
  const base = `http://127.0.0.1:${chat.address().port}`;
  const page = await open(browser, { locale: "zh-TW" });
  await visit(page, "/notifications");
  for (const c of chats) {
    await page.click("[data-t=channel-add]");
    await page.selectOption("[data-t=channel-type]", c.type);
    await page.fill("[data-t=channel-name]", c.type);
    await page.fill("[data-t=channel-url]", base + c.url);
    await page.fill("[data-t=channel-projects]", nobody);
    if (c.token) await page.fill("[data-t=channel-token]", c.token);
    if (c.to) await page.fill("[data-t=channel-to]", c.to);
    if (c.secret) await page.fill("[data-t=channel-secret]", c.secret);
    await page.click("[data-t=channel-save]");
    await page.waitForSelector("[role=dialog]", { state: "detached" });
    const before = told.length;
    await page.click(`[data-channel=${c.type}] [data-t=channel-test]`);
    await page.waitForSelector(`[data-channel=${c.type}] [data-t=sent] >> text=1`);
    assert.equal(told.length, before + 1, `${c.type} is told once`);
    assert.match(c.says(told[before]), /這個通知頻道可以使用|頻道/, `${c.type} in Chinese`);
    assert.equal(await page.locator(`[data-channel=${c.type}] [data-t=trouble]`).count(), 0, `${c.type} has no trouble`);
  }
  for (const secret of ["12:abc", "hush", "sign me", "access_token=x"]) assert.ok(!(await page.content()).includes(secret), `${secret} is a secret`);
  await accessible(page, "a channel of each chat");
  await fits(page, "a channel of each chat");
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/chats.png` });
  for (const c of chats) {
    await page.click(`[data-channel=${c.type}] [data-t=channel-delete]`);
    await page.click("[role=alertdialog] .danger");
    await page.waitForSelector(`[data-channel=${c.type}]`, { state: "detached" });
  }
  assert.deepEqual(page.errors, []);
  await page.context().close();
});
