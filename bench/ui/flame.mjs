// What a flame graph of 200,000 boxes costs a frame, and how long a large profile
// takes from the address to the picture, next to pprof's own web page:
//
//   node bench/ui/flame.mjs                  # frames, and profiles of 5, 15 and 50 MB
//   SIZES=5 PEER=0 node bench/ui/flame.mjs   # a small one, without the peer
//
// A frame is one whole redraw and the pixels it makes, for which reading one pixel
// back waits; its figure is the core time of the page's main thread. Every opening is a fresh centre, or a fresh pprof, in a fresh
// browser; memory is the peak of the server's process. The peer takes 12 GB for
// the largest. Ends with 1 beyond a budget.
import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { centre, freePort, launch, machine, quantile, root, sleep, start, traced } from "./lib.mjs";

const withPeer = process.env.PEER !== "0";
const peerGB = Number(process.env.PEER_GB ?? 14);
const sizes = (process.env.SIZES ?? "5,15,50").split(",").map(Number);
const stacks = (mb) => Math.round(mb * 35_200); // of the synthetic profile, per megabyte
const patience = 180_000;
const budgets = { frame: 12, faster: 10, smaller: 10, from: 50 };
const beyond = [];

const id = "01kb0000000000000000000002";
const address = `/captures/${id}/flame?instance=boot-0&profile=cpu`;
const painted = "[data-t=flame]:not([data-shown='0'])";
const status = (pid, field) => Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? NaN) / 1024;
const onScreen = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

/** A centre that has the profile and has diagnosed it, started anew. */
async function withProfile(mb) {
  const c = await centre({ programs: { bundle: "./bench/ui/bundle", profiles: "./bench/ui/profiles" } });
  const file = join(c.dir, "cpu.pprof");
  execFileSync(join(c.dir, "profiles"), ["-samples", String(stacks(mb)), file]);
  execFileSync(join(c.dir, "bundle"), ["-kind", "cpu", "-id", id, file, join(c.dir, "bundle.zip")]);
  const imported = await fetch(`${c.url}/api/import`, { method: "POST", headers: { "Content-Type": "application/zip" }, body: readFileSync(join(c.dir, "bundle.zip")) });
  if (!imported.ok) throw new Error(`the bundle was not taken: ${await imported.text()}`);
  await fetch(`${c.url}/opscenter.api.v1.CaptureService/GetDiagnosis`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ captureId: id }) }).then((r) => r.text());
  await c.restart();
  return Object.assign(c, { file });
}

async function ours(c, then) {
  const browser = await launch();
  try {
    const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
    const idle = status(c.pid, "VmHWM");
    const at = performance.now();
    await page.goto(c.url + address);
    await page.waitForSelector(painted, { timeout: patience });
    await onScreen(page);
    const found = { ms: performance.now() - at, mib: status(c.pid, "VmHWM"), idle, from: machine(browser) };
    await then?.(page);
    return found;
  } finally {
    await browser.close();
  }
}

async function stock(file) {
  const tool = execFileSync("go", ["tool", "-n", "pprof"], { encoding: "utf8", cwd: root }).trim();
  const port = await freePort();
  const at = performance.now();
  const p = start(tool, ["-http", `127.0.0.1:${port}`, "-no_browser", file], { stdio: "ignore" });
  let [most, died] = [0, ""];
  p.ended.then((code) => (died ||= `it ended (${code})`));
  const guard = setInterval(() => {
    if (died) return;
    most = Math.max(most, status(p.pid, "VmHWM"));
    if (most > peerGB * 1024) died = `stopped at ${peerGB} GB`;
    else if (performance.now() - at > patience) died = `stopped after ${patience / 1000} s`;
    if (died) void p.stop();
  }, 200);
  const browser = await launch();
  try {
    const url = `http://127.0.0.1:${port}/ui/flamegraph`;
    const open = async () => {
      while (!died && !(await fetch(`http://127.0.0.1:${port}/ui/`, { method: "HEAD", redirect: "manual" }).then(() => true, () => false))) await sleep(50);
      const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
      await page.goto(url, { timeout: patience, waitUntil: "commit" });
      await page.waitForFunction(() => document.querySelectorAll("#stack-chart > *").length > 10, null, { timeout: patience });
      await onScreen(page);
    };
    await Promise.race([open(), (async () => { while (!died) await sleep(200); throw new Error(died); })()]);
    return { ms: performance.now() - at, mib: Math.max(most, status(p.pid, "VmHWM")), died: "" };
  } catch (err) {
    return { ms: performance.now() - at, mib: most, died: died || String(err).split("\n")[0].slice(0, 80) };
  } finally {
    clearInterval(guard);
    died ||= "over";
    await browser.close();
    await p.stop();
  }
}

async function frames(page) {
  console.log("| a frame of 1440 × 900, core time | boxes | least | median | 95 % |\n|---|---|---|---|---|");
  for (const [name, more] of [["all of it", ""], ["a tenth of the width", "&x=0.1-0.2"], ["a hundredth", "&x=0.1-0.11"], ["all, with a search", "&q=Method1"]]) {
    await page.goto(new URL(address + more, page.url()).href);
    await page.waitForSelector(painted, { timeout: patience });
    await sleep(1500);
    const events = await traced(page.context().browser(), page, ["devtools.timeline"], () => page.evaluate(async () => {
      const box = document.querySelector("[data-t=flame-canvas]");
      const context = box.querySelector("canvas").getContext("2d");
      const real = window.requestAnimationFrame;
      for (let n = 0; n < 60; n++) {
        // The page asks for a frame when it is scrolled; it gets one that waits for its pixels.
        const draw = await new Promise((got) => {
          window.requestAnimationFrame = (f) => (got(f), 1);
          box.dispatchEvent(new Event("scroll"));
        });
        window.requestAnimationFrame = real;
        await new Promise((done) => real((at) => {
          draw(at);
          context.getImageData(0, 0, 1, 1);
          done();
        }));
      }
    }));
    const times = events.filter((e) => e.name === "FireAnimationFrame" && e.tdur).map((e) => e.tdur / 1000).sort((a, b) => b - a).slice(0, 60);
    const median = quantile(times, 0.5);
    const tail = quantile(times, 0.95);
    if (tail > budgets.frame) beyond.push(`a frame of ${name}: ${tail.toFixed(1)} ms, ${budgets.frame} are wanted`);
    console.log(`| ${name} | ${Number(await page.getAttribute("[data-t=flame]", "data-shown")).toLocaleString("en")} | ${Math.min(...times).toFixed(1)} ms | ${median.toFixed(1)} ms | ${tail.toFixed(1)} ms |`);
  }
}

const rows = [];
for (const mb of sizes) {
  const c = await withProfile(mb);
  try {
    const largest = mb === Math.max(...sizes);
    const o = await ours(c, largest ? frames : undefined);
    const s = withPeer ? await stock(c.file) : null;
    rows.push({ mb: statSync(c.file).size / 1e6, o, s });
    if (s && !s.died && mb >= budgets.from && (s.ms < budgets.faster * o.ms || s.mib < budgets.smaller * o.mib)) beyond.push(`${mb} MB: ${(s.ms / o.ms).toFixed(1)} × faster, ${(s.mib / o.mib).toFixed(1)} × less memory, ${budgets.faster} and ${budgets.smaller} are wanted`);
  } finally {
    await c.stop();
  }
}
console.log(`\n${rows[0].o.from}\n`);
console.log("| profile, gzip | pprof's page | memory | **ours** | memory | faster | less memory |\n|---|---|---|---|---|---|---|");
for (const { mb, o, s } of rows) {
  const least = s?.died ? "≥ " : "";
  const peer = s ? `${s.died ? `did not finish: ${s.died}` : `${(s.ms / 1000).toFixed(1)} s`} | ${least}${s.mib.toFixed(0)} MiB` : "not run | ";
  console.log(`| ${mb.toFixed(1)} MB | ${peer} | ${(o.ms / 1000).toFixed(2)} s | ${o.mib.toFixed(0)} MiB (idle ${o.idle.toFixed(0)}) | ${s ? `${least}${(s.ms / o.ms).toFixed(1)} × | ${least}${(s.mib / o.mib).toFixed(1)} ×` : " | "} |`);
}
if (beyond.length) {
  console.log(`\nBeyond the budget: ${beyond.join("; ")}`);
  process.exitCode = 1;
}
