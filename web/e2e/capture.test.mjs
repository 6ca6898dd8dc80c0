import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { accessible, call, captured, centre, fits, launch, open, says, self, visit } from "./harness.mjs";

let browser;
let own;
let dir;
before(async () => {
  browser = await launch();
  own = await self();
  dir = mkdtempSync(join(tmpdir(), "ops-e2e-"));
});
after(async () => {
  await browser.close();
  rmSync(dir, { recursive: true });
});

/** Fills the dialog for the centre itself and starts. */
async function start(page, seconds, note) {
  await visit(page, `/?q=${own.id}`);
  await page.click("[data-t=capture]");
  await page.waitForSelector("[role=dialog]");
  await page.selectOption("[data-t=service]", `${own.project}/${own.service}`);
  await page.fill("[data-t=duration]", String(seconds));
  await page.fill("[data-t=note]", note);
  await page.click("[data-t=start]");
  await page.waitForURL(/\/captures\/[0-9a-z-]+/);
  return new URL(page.url()).pathname.split("/").pop();
}

test("a capture from the dialog to its files and both tools", async () => {
  const page = await open(browser);
  await start(page, 2, "from the page");
  await page.waitForSelector('h1 ~ [data-state="done"], h1 ~ [data-state="partial"]');
  await page.click("[data-t=tab-files]");
  await says(page, ".summary", /from the page/);
  // The files are read when the state has changed, not with it.
  for (const name of ["cpu.pprof", "heap.pprof", "allocs.pprof", "goroutine.pprof", "block.pprof", "mutex.pprof", "trace.out", "runtime.json"]) await page.waitForSelector(`tr[data-artifact="${name}"]`);

  const cpu = page.locator('tr[data-artifact="cpu.pprof"]');
  const [download] = await Promise.all([page.waitForEvent("download"), cpu.locator("a[download]").first().click()]);
  assert.equal(download.suggestedFilename(), "cpu.pprof");
  const sum = createHash("sha256").update(readFileSync(await download.path())).digest("hex");
  assert.equal(await cpu.locator(".sha [title]").first().getAttribute("title"), sum);

  for (const [what, selector] of [["pprof", 'tr[data-artifact="cpu.pprof"] [data-t=pprof]'], ["before → after", 'tr[data-artifact="heap.pprof"] [data-t=diff-ends]']]) {
    const [tool] = await Promise.all([page.context().waitForEvent("page"), page.click(selector)]);
    await tool.waitForFunction(() => /\S/.test(document.title));
    assert.ok(!/404|not found/i.test(await tool.title()), what);
    await tool.close();
  }
  // Without a Go installation the page says why the viewer cannot run.
  await page.waitForSelector("[data-t=trace-window], .windows .lost");
  if (await page.locator("[data-t=trace-window]").count()) {
    const [viewer] = await Promise.all([page.context().waitForEvent("page"), page.locator("[data-t=trace-window]").first().click()]);
    await viewer.waitForSelector("text=/goroutine/i");
    await viewer.close();
  }

  await accessible(page, "a capture");
  await fits(page, "a capture");
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a running capture can be stopped and kept, or cancelled and dropped", async () => {
  const page = await open(browser);
  await start(page, 60, "to be stopped");
  await page.waitForSelector("[data-t=diagnosis-later]");
  await page.waitForFunction(() => Number(document.querySelector(".target [role=progressbar]")?.getAttribute("aria-valuenow")) > 0);
  await page.click("[data-t=stop]");
  await page.waitForSelector('h1 ~ [data-state="done"], h1 ~ [data-state="partial"]');
  await page.click("[data-t=tab-files]");
  await page.waitForSelector('tr[data-artifact="goroutine.pprof"]');
  await says(page, ".target header", /stopped early/);

  await start(page, 60, "to be cancelled");
  await page.waitForSelector("[role=progressbar]");
  await page.click("[data-t=cancel]");
  await page.waitForSelector("[role=alertdialog]");
  await page.click("text=Keep running");
  await page.waitForSelector("[role=alertdialog]", { state: "detached" });
  await page.click("[data-t=cancel]");
  await page.click("text=Cancel and drop");
  await page.waitForSelector('h1 ~ [data-state="cancelled"]');
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("the dialog says what is wrong before the centre has to", async () => {
  const page = await open(browser);
  await visit(page, "/captures");
  await page.keyboard.press("c");
  await page.waitForSelector("[role=dialog]");
  await page.selectOption("[data-t=service]", `${own.project}/${own.service}`);
  await page.fill("[data-t=duration]", "0");
  await page.waitForSelector("text=Use 1 to 600 seconds.");
  assert.ok(await page.isDisabled("[data-t=start]"));
  await page.fill("[data-t=duration]", "5");
  await page.waitForSelector("text=Use 1 to 600 seconds.", { state: "detached" });
  await page.click("text=Chosen ones");
  await page.waitForSelector("text=Choose at least one instance.");
  assert.ok(await page.isDisabled("[data-t=start]"));
  await page.context().close();
});

test("pin, find, compare and delete", async () => {
  const one = await captured(1, "the older one");
  const two = await captured(1, "the newer one");
  const page = await open(browser);
  await visit(page, "/captures");
  const line = page.locator(`tr[data-id="${one.id}"]`);
  await line.locator("button[aria-pressed=false]").click();
  await line.locator("button[aria-pressed=true]").waitFor();
  assert.equal((await call("CaptureService/GetCapture", { captureId: one.id })).capture.pinned, true);
  await line.locator("button[aria-pressed=true]").click();
  await line.locator("button[aria-pressed=false]").waitFor();

  await page.selectOption("[data-t=service-filter]", own.service);
  await page.waitForURL(/service=/);
  await accessible(page, "the list");

  await line.locator("a").first().click();
  await page.waitForURL(new RegExp(one.id));
  await page.click("[data-t=compare]");
  await page.click(`[role=dialog] input[value="${two.id}"]`);
  await accessible(page, "the comparison dialog");
  await page.click("[data-t=compare-choose]");
  await page.waitForURL((u) => u.pathname.endsWith("/compare") && u.searchParams.get("a") === `${two.id}/${own.id}` && u.searchParams.get("b") === `${one.id}/${own.id}`);
  await page.waitForSelector("[data-t=side-B] a");
  await page.goBack();

  await page.click("[data-t=delete]");
  await page.waitForSelector("[role=alertdialog]");
  await accessible(page, "the question before deleting");
  await page.click("[role=alertdialog] .danger");
  await page.waitForURL(/\/captures$/);
  await page.waitForSelector(`tr[data-id="${two.id}"]`);
  await line.waitFor({ state: "detached" });
  await assert.rejects(call("CaptureService/GetCapture", { captureId: one.id }));
  assert.deepEqual(page.errors, []);
  await page.context().close();
});

test("a bundle comes back in by button and by drop, and junk does not", async () => {
  const c = await captured(1, "to be exported");
  const bundle = join(dir, "bundle.zip");
  writeFileSync(bundle, Buffer.from(await (await fetch(`${centre}/api/captures/${c.id}/bundle.zip`)).arrayBuffer()));
  await call("CaptureService/DeleteCapture", { captureId: c.id });
  const page = await open(browser);
  await visit(page, "/captures");
  await page.setInputFiles("input[type=file]", bundle);
  await page.click(".toast >> text=Open");
  await page.waitForURL(/\/captures\/./);
  await page.waitForSelector("text=to be exported");
  await says(page, ".pagebar", /imported/);
  const id = new URL(page.url()).pathname.split("/").pop();
  await call("CaptureService/DeleteCapture", { captureId: id });

  await visit(page, "/captures");
  const drop = (name, bytes) =>
    page.evaluate(
      ([n, b]) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(b)], n));
        document.querySelector(".content").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
      },
      [name, [...bytes]],
    );
  await drop("bundle.zip", readFileSync(bundle));
  await page.waitForSelector("text=bundle.zip is imported");
  const { captures } = await call("CaptureService/ListCaptures", { service: own.service });
  for (const x of captures.filter((x) => x.imported && x.note === "to be exported")) await call("CaptureService/DeleteCapture", { captureId: x.id });
  await drop("notes.txt", Buffer.from("hello"));
  await page.waitForSelector(".toast.bad >> text=notes.txt is not a bundle");
  await drop("junk.zip", Buffer.from("PK junk"));
  await page.waitForSelector(".toast.bad:not(:has-text('notes.txt'))");
  await page.context().close();
});

test("a deep link to nothing is told in words", async () => {
  const page = await open(browser, { locale: "zh-TW" });
  await visit(page, "/captures/0000nosuchcapture");
  await says(page, "[role=alert]", /找不到這個項目/);
  await page.context().close();
});
