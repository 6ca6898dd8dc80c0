// A timeline of a large trace, next to go tool trace:
//
//   node bench/ui/timeline.mjs           # a trace of 100 MB, 20 million intervals
//   SIZE=20 PEER=0 node bench/ui/timeline.mjs
//
// Three figures: from the click on the tab to the first picture, with the centre's
// peak of memory; the core time of a frame while one zooms and pans; how long the
// centre takes for a tile at every zoom. The peer is asked for the first byte of its
// timeline's JSON, which a browser must then still read and draw: it takes a hundred
// times its file in memory, PEER_GB at most. Needs 16 GB for the peer, 1 GB without.
// Ends with 1 beyond a budget.
import { execFileSync, spawn } from "node:child_process";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { centre, freePort, launch, machine, quantile, root, sleep, traced } from "./lib.mjs";

const size = Number(process.env.SIZE ?? 100);
const peerGB = Number(process.env.PEER_GB ?? 14);
const withPeer = process.env.PEER !== "0";
const budgets = { frame: 12, tile: 50, gzipKB: 100, faster: 40, smaller: 40 };
const id = "01kb0000000000000000000001";
const beyond = [];

const status = (pid, field) => Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? NaN) / 1024;
const ms = (n) => (n < 1000 ? `${n.toFixed(n < 10 ? 1 : 0)} ms` : `${(n / 1000).toFixed(2)} s`);
const mib = (n) => `${n.toFixed(0)} MiB`;
const check = (what, ok) => ok || beyond.push(what);

const c = await centre({ programs: { bundle: "./bench/ui/bundle", trace: "./bench/trace" } });
const browser = await launch();
try {
  const trace = join(c.dir, "trace.out");
  execFileSync(join(c.dir, "trace"), ["-record", trace, "-size", String(size)], { stdio: "inherit" });
  execFileSync(join(c.dir, "bundle"), ["-id", id, trace, join(c.dir, "bundle.zip")], { stdio: "inherit" });
  const imported = await fetch(`${c.url}/api/import`, { method: "POST", headers: { "Content-Type": "application/zip" }, body: readFileSync(join(c.dir, "bundle.zip")) });
  if (!imported.ok) throw new Error(`the bundle was not taken: ${await imported.text()}`);
  const call = async (method, request) => {
    const r = await fetch(`${c.url}/opscenter.api.v1.${method}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) });
    const body = await r.json();
    if (!r.ok) throw new Error(`${method}: ${body.message}`);
    return body;
  };
  // The diagnosis of what was imported is not a part of this.
  await call("CaptureService/GetDiagnosis", { captureId: id });
  await c.restart();

  console.log(machine(browser) + "\n");
  const { picture, peak, page, transferred } = await firstPicture();
  const peer = withPeer ? await goToolTrace(trace) : null;
  console.log(`A trace of ${(statSync(trace).size / 2 ** 20).toFixed(0)} MB: to the first picture of it\n`);
  console.log("| way | time | peak RSS |\n|---|---|---|");
  console.log(`| **click on the tab to painted rows** (memory: the centre, all of it) | ${ms(picture)} | ${mib(peak)} |`);
  if (peer) {
    console.log(`| go tool trace, from its start to the first byte of its timeline | ${peer.died ? `did not finish: ${peer.died}` : ms(peer.time)} | ${peer.died ? "≥ " : ""}${mib(peer.peak)} |`);
    console.log(`\n${(peer.time / picture).toFixed(0)} × faster, ${(peer.peak / peak).toFixed(0)} × less memory${peer.died ? ", at least" : ""}.`);
    // Where the peer did not finish: what it does finish.
    for (let less = size / 2, was = peer; was.died && less >= 5; less /= 2) {
      execFileSync(join(c.dir, "trace"), ["-record", join(c.dir, "less.out"), "-size", String(Math.round(less))], { stdio: "inherit" });
      was = await goToolTrace(join(c.dir, "less.out"));
      console.log(`go tool trace of ${Math.round(less)} MB: ${was.died || `${ms(was.time)}, ${mib(was.peak)}`}`);
    }
    check(`less than ${budgets.faster} × faster than go tool trace`, peer.died || peer.time / picture >= budgets.faster);
    check(`less than ${budgets.smaller} × smaller than go tool trace`, peer.died || peer.peak / peak >= budgets.smaller);
  }
  const overview = await open();
  await frames(page, overview);
  await tiles(overview);
  const chunk = readdirSync(join(root, "web/dist/assets")).filter((f) => f.startsWith("TimelineTab"));
  const gzip = chunk.reduce((sum, f) => sum + gzipSync(readFileSync(join(root, "web/dist/assets", f)), { level: 6 }).length, 0) / 1024;
  console.log(`\nThe tab is ${gzip.toFixed(0)} KB gzip; the whole page, opened at the timeline, ${transferred.toFixed(0)} KB.`);
  check(`${gzip.toFixed(0)} KB gzip`, gzip <= budgets.gzipKB);

  async function firstPicture() {
    const context = await browser.newContext({ viewport: { width: 1920, height: 1080 } });
    const page = await context.newPage();
    await page.goto(`${c.url}/captures/${id}/files`);
    await page.waitForSelector("[data-live=live]");
    await page.waitForSelector("[data-t=tab-timeline]");
    await page.waitForLoadState("networkidle").catch(() => {});
    // In the page itself: what the driver takes is not counted.
    const picture = await page.evaluate(() => new Promise((done) => {
      const start = performance.now();
      document.querySelector("[data-t=tab-timeline]").click();
      const look = () => {
        const canvas = document.querySelector("canvas.below");
        if (canvas?.width > 300) {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, Math.min(canvas.height, 400));
          if (new Set(new Uint32Array(data.buffer)).size > 3) return done(performance.now() - start);
        }
        requestAnimationFrame(look);
      };
      look();
    }));
    const transferred = await page.evaluate(() => performance.getEntriesByType("resource").filter((e) => /\/assets\//.test(e.name)).reduce((sum, e) => sum + e.encodedBodySize, 0) / 1024);
    return { picture, peak: status(c.pid, "VmHWM"), page, transferred };
  }

  async function open() {
    // The stream's last message, as JSON: what tracks there are.
    const body = Buffer.from(JSON.stringify({ trace: { captureId: id, instanceId: "boot-0" } }));
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length, 1);
    const r = await fetch(`${c.url}/opscenter.api.v1.TimelineService/OpenTimeline`, { method: "POST", headers: { "Content-Type": "application/connect+json" }, body: Buffer.concat([head, body]) });
    const answer = Buffer.from(await r.arrayBuffer());
    for (let at = 0; at < answer.length; at += 5 + answer.readUInt32BE(at + 1)) {
      const message = JSON.parse(answer.subarray(at + 5, at + 5 + answer.readUInt32BE(at + 1)));
      if (message.overview) return message.overview;
    }
    throw new Error("the centre did not describe the trace");
  }

  async function frames(page, overview) {
    console.log(`\nFrames of ${(overview.intervals / 1e6).toFixed(1)} million intervals, 1920 × 1080, while one zooms and pans: core time of the main thread in each\n`);
    console.log("| view | frames | median | 95 % | most |\n|---|---|---|---|---|");
    const box = await page.locator("[data-t=canvas]").boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + 200);
    const views = [["groups", async () => {}], ["64 goroutines unfolded", async () => {
      const few = [...overview.groups].sort((a, b) => Math.abs(a.goroutines - 64) - Math.abs(b.goroutines - 64))[0];
      await page.locator(`[data-row="f${few.function}"] button`).click();
      await page.waitForSelector(".name.goroutine");
      await page.evaluate(() => (document.querySelector(".scroller").scrollTop = 300));
      await sleep(1500);
    }]];
    for (const [name, prepare] of views) {
      await page.click("[data-t=whole]", { timeout: 300 }).catch(() => {}); // it shows all of it already
      await prepare();
      await page.mouse.move(box.x + box.width / 2, box.y + 200);
      const events = await traced(browser, page, ["devtools.timeline"], async () => {
        for (const key of [..."wwwwwwwwwwwwwwwwddddddddaaaaaaaassssssssssssssss"]) {
          await page.keyboard.press(key);
          await sleep(80);
        }
        await sleep(1000);
      });
      const drawn = events.filter((e) => e.name === "FireAnimationFrame" && e.tdur > 300).map((e) => e.tdur / 1000);
      const p95 = quantile(drawn, 0.95);
      console.log(`| ${name} | ${drawn.length} | ${ms(quantile(drawn, 0.5))} | ${ms(p95)} | ${ms(Math.max(...drawn))} |`);
      check(`frames of ${name} take ${ms(p95)}`, p95 <= budgets.frame);
    }
  }

  async function tiles(overview) {
    const ref = { captureId: id, instanceId: "boot-0" };
    const biggest = [...overview.groups].sort((a, b) => Number(b.stateNs[0]) - Number(a.stateNs[0]))[0].function;
    const members = (await call("TimelineService/ListGoroutines", { trace: ref, group: biggest, limit: 30 })).goroutines;
    const tracks = [...overview.procs.map((p) => ({ proc: p.id ?? 0 })), ...overview.groups.slice(0, 12).map((g) => ({ group: g.function })), ...members.map((g) => ({ goroutine: g.id }))];
    const duration = Number(overview.durationNs);
    const times = [];
    for (let level = Math.floor(Math.log2(duration / 1400)); level >= 8; level--) {
      const span = 512 * 2 ** level;
      const last = Math.floor(duration / span);
      for (const index of new Set([0, Math.floor(last / 3), Math.floor(last / 2), Math.max(0, last - 1)])) {
        const began = performance.now();
        await call("TimelineService/GetTiles", { trace: ref, tracks, level, index: String(index) });
        times.push(performance.now() - began);
      }
    }
    console.log(`\nTiles of ${tracks.length} rows × 512 columns, as JSON and over HTTP, ${times.length} at every zoom: median ${ms(quantile(times, 0.5))}, 95 % ${ms(quantile(times, 0.95))}, most ${ms(Math.max(...times))}.`);
    check(`tiles take ${ms(quantile(times, 0.95))}`, quantile(times, 0.95) <= budgets.tile);
  }

  async function goToolTrace(file) {
    const program = execFileSync("go", ["tool", "-n", "trace"], { encoding: "utf8", cwd: root }).trim();
    const address = `127.0.0.1:${await freePort()}`;
    const began = performance.now();
    const p = spawn(program, [`-http=${address}`, file], { stdio: "ignore", env: { ...process.env, BROWSER: "true" } });
    let died = "";
    let peak = 0;
    const stop = (why) => {
      died ||= why;
      p.kill("SIGKILL");
    };
    p.on("exit", (code, signal) => (died ||= `it ended (${signal ?? code})`));
    const guard = setInterval(() => {
      if (died) return;
      peak = Math.max(peak, status(p.pid, "VmHWM"));
      if (peak > peerGB * 1024) stop(`stopped at ${peerGB} GB`);
      else if (performance.now() - began > 300_000) stop("stopped after five minutes");
    }, 200);
    try {
      while (!died) {
        const r = await fetch(`http://${address}/jsontrace?view=proc&start=0&end=1`).catch(() => null);
        if (r?.ok && (await r.body.getReader().read().catch(() => ({ done: true }))).done === false) break;
        await sleep(50);
      }
      const time = performance.now() - began;
      return { time, peak: died ? peak : Math.max(peak, status(p.pid, "VmHWM")), died };
    } finally {
      clearInterval(guard);
      p.kill("SIGKILL");
    }
  }
} finally {
  await browser.close();
  await c.stop();
}
if (beyond.length) {
  console.log(`\nBeyond the budget: ${beyond.join("; ")}`);
  process.exitCode = 1;
}
