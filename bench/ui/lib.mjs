// What the browser benchmarks share: a centre of their own with a page to
// measure, and numbers out of a trace of the browser.
import { spawn, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { loadavg, cpus, tmpdir } from "node:os";
import { join } from "node:path";

export const root = join(import.meta.dirname, "../..");
// The page's own tools: there is no second set of them.
const require = createRequire(join(root, "web/package.json"));
export const { chromium } = require("playwright-core");

export const freePort = () => new Promise((done) => {
  const s = createServer().listen(0, "127.0.0.1", () => {
    const { port } = s.address();
    s.close(() => done(port));
  });
});

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Starts a program; its stop ends it and waits. */
export function start(command, args, options = {}) {
  const p = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"], ...options });
  const ended = new Promise((done) => p.on("exit", done));
  return { pid: p.pid, ended, stop: () => (p.kill("SIGTERM"), ended) };
}

/** Builds the centre and other programs of this module and starts a centre with a directory of its own. */
export async function centre({ args = [], programs = {} } = {}) {
  const dir = mkdtempSync(join(tmpdir(), "opscenter-bench-"));
  for (const [name, path] of Object.entries({ ops: "./cmd/ops", ...programs })) execFileSync("go", ["build", "-o", join(dir, name), path], { cwd: root, stdio: "inherit" });
  const address = `127.0.0.1:${await freePort()}`;
  let ops;
  const up = async () => {
    ops = start(join(dir, "ops"), ["serve", "--listen", address, "--data", join(dir, "data"), "--log-level", "error", ...args], { cwd: dir });
    for (let n = 0; !(await fetch(`http://${address}/healthz`).then((r) => r.ok, () => false)); n++) {
      if (n > 100) throw new Error("the centre did not come up within 20 s");
      await sleep(200);
    }
  };
  await up();
  return {
    address, url: `http://${address}`, dir,
    get pid() {
      return ops.pid;
    },
    /** The same centre as a process of its own, whose memory is that of what follows. */
    async restart() {
      await ops.stop();
      await up();
    },
    async stop() {
      await ops.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

export const launch = () => chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** Where the figures come from, for the line above a table. */
export function machine(browser) {
  const go = execFileSync("go", ["version"], { encoding: "utf8" }).trim().split(" ")[2];
  return `${cpus().length} cores (${cpus()[0]?.model ?? "unknown"}), ${go}, Node ${process.versions.node}, Chromium ${browser.version()}, load average ${loadavg().map((l) => l.toFixed(1)).join(" ")}, ${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

export function quantile(values, q) {
  const v = [...values].sort((a, b) => a - b);
  return v.length ? v[Math.min(v.length - 1, Math.floor(q * v.length))] : NaN;
}

/** Records what the browser does while run runs. */
export async function traced(browser, page, categories, run) {
  await browser.startTracing(page, { categories });
  await run();
  const { traceEvents } = JSON.parse((await browser.stopTracing()).toString());
  return traceEvents;
}

/**
 * The outermost tasks of the page's main thread in milliseconds: when each
 * began, how long it took, and how long it had a core, which is less where
 * others want the cores too.
 */
export function mainThreadTasks(events) {
  const names = new Map(events.filter((e) => e.name === "thread_name").map((e) => [`${e.pid}/${e.tid}`, e.args.name]));
  const busy = new Map();
  for (const e of events) {
    if (e.ph !== "X" || e.name !== "RunTask" && e.name !== "ThreadControllerImpl::RunTask") continue;
    const thread = `${e.pid}/${e.tid}`;
    if (names.get(thread) !== "CrRendererMain") continue;
    const list = busy.get(thread) ?? [];
    list.push({ at: e.ts / 1000, ms: e.dur / 1000, cpu: (e.tdur ?? 0) / 1000 });
    busy.set(thread, list);
  }
  for (const [thread, list] of busy) busy.set(thread, outermost(list));
  // Of several renderers the page is the one that works.
  const sum = (list) => list.reduce((s, t) => s + t.ms, 0);
  return [...busy.values()].sort((a, b) => sum(b) - sum(a))[0] ?? [];
}

// A task that runs inside another one is part of it.
function outermost(tasks) {
  let end = -Infinity;
  return tasks.sort((a, b) => a.at - b.at || b.ms - a.ms).filter((t) => t.at >= end && ((end = t.at + t.ms), true));
}

/** Memory of a process as the kernel says, in MiB; NaN where there is no /proc. */
export function rssMiB(pid) {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;
  } catch {
    return NaN;
  }
}
