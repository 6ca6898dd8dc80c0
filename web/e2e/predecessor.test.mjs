import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { accessibleInBothThemes, fits, launch, open } from "./harness.mjs";

// A centre and a service of the test's own: what dies here is nobody else's.
const dir = await mkdtemp(join(tmpdir(), "predecessor-"));
const port = await new Promise((done) => {
  const s = createServer().listen(0, "127.0.0.1", () => {
    const { port } = s.address();
    s.close(() => done(port));
  });
});
const centre = `http://127.0.0.1:${port}`;
const started = [];
const start = (...args) => {
  const p = spawn(args[0], args.slice(1), { stdio: "ignore" });
  started.push(p);
  return p;
};
const end = (p, signal) =>
  new Promise((done) => {
    if (p.exitCode !== null || p.signalCode !== null) return done();
    p.once("exit", done);
    p.kill(signal);
  });

async function call(method, request = {}) {
  const r = await fetch(`${centre}/opscenter.api.v1.${method}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) });
  const body = await r.json();
  if (!r.ok) throw new Error(`${method}: ${body.message}`);
  return body;
}

/** What fn finds, which may take a while on a busy machine. */
async function until(what, fn) {
  for (const by = Date.now() + 90_000; Date.now() < by; ) {
    const found = await fn().catch(() => undefined);
    if (found) return found;
    await new Promise((r) => setTimeout(r, 200));
  }
  assert.fail(`${what}: not within 90 s`);
}

const users = async (but = "") => ((await call("FleetService/ListInstances")).instances ?? []).find((i) => i.service === "user-service" && i.id !== but && i.state === "INSTANCE_STATE_UP");

let browser;
before(async () => (browser = await launch()));
after(async () => {
  await browser.close();
  for (const p of started.reverse()) await end(p, "SIGKILL");
  await rm(dir, { recursive: true, force: true });
});

test("of a process that was killed, the next one shows how it ended and the last that it sent", async () => {
  start("ops", "serve", "--listen", `127.0.0.1:${port}`, "--data", dir, "--log-level", "error");
  await until("the centre", () => fetch(centre).then((r) => r.ok));
  const first = start("colorgame", "user-service", "--center", centre);
  const dead = await until("the service", () => users());
  const text = "rules:\n  - name: near-the-end\n    for: {service: user-service}\n    when: {metric: goroutines, above: 1}\n    do: [{snapshot: goroutine}]\n    limits: {cooldown: 10m}\n";
  await call("TriggerService/PutTriggerFile", { name: "test.yaml", text });
  const last = await until("its capture", async () => {
    const { captures = [] } = await call("CaptureService/ListCaptures", { pageSize: 10 });
    return captures.find((c) => c.actor === "rule:near-the-end" && c.state === "CAPTURE_STATE_DONE");
  });
  await end(first, "SIGKILL");
  start("colorgame", "user-service", "--center", centre);
  const next = await until("its successor", async () => {
    const i = await users(dead.id);
    return i?.predecessor ? i : undefined;
  });
  assert.equal(next.predecessor.instanceId, dead.id);

  for (const [theme, locale, words] of [["dark", "en-US", [/Before it/, /the last it sent/, /rule near-the-end/]], ["light", "zh-TW", [/前一個程序/, /它最後送出的擷取/, /規則 near-the-end/]]]) {
    const page = await open(browser, { theme, locale });
    await page.goto(`${centre}/instances/${next.id}`);
    await page.waitForSelector("[data-t=last-capture]", { timeout: 60_000 });
    const said = await page.innerText("[data-t=predecessor]");
    for (const w of words) assert.match(said, w);
    await fits(page, "a successor");
    if (theme === "dark") await accessibleInBothThemes(page, "a successor");
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/predecessor-${theme}.png` });
    await page.click("[data-t=last-capture] a");
    await page.waitForURL(`**/captures/${last.id}?*`);
    assert.deepEqual(page.errors, []);
    await page.context().close();
  }
});
