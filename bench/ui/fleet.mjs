// How much of the page's main thread a fleet takes that beats once a second:
//
//   node bench/ui/fleet.mjs            # 5,000 agents
//   N=1000 SECONDS=10 node bench/ui/fleet.mjs
//
// A tick is a second, in which one message of the fleet comes; its figure is all
// that the page's main thread did in it: script, layout, paint. Core time is
// what counts: on a machine that others use too, the clock tells of them. Ends
// with 1 beyond the budget.
import { centre, launch, machine, mainThreadTasks, quantile, sleep, start, traced } from "./lib.mjs";
import { join } from "node:path";

const n = Number(process.env.N ?? 5000);
const seconds = Number(process.env.SECONDS ?? 15);
const budget = 30;

const c = await centre({ args: ["--heartbeat", "1s"], programs: { crowd: "./bench/ui/crowd" } });
const crowd = start(join(c.dir, "crowd"), ["-n", String(n), "-centre", c.address]);
const browser = await launch();
let worst = 0;
try {
  const call = (method) => fetch(`${c.url}/opscenter.api.v1.${method}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }).then((r) => r.json());
  const up = async () => ((await call("FleetService/ListInstances")).instances ?? []).filter((i) => i.state === "INSTANCE_STATE_UP").length;
  for (let tries = 0; (await up()) < n; tries++) {
    if (tries > 60) throw new Error(`${await up()} of ${n} agents are up after a minute`);
    await sleep(1000);
  }
  console.log(machine(browser) + "\n");
  console.log("| view | ticks | core time of the main thread per tick, median | least | most | by the clock, median | longest task |\n|---|---|---|---|---|---|---|");
  for (const [name, query] of [["grouped by service", ""], ["sorted by CPU, no groups", "?group=none&sort=-cpu"], ["filtered by text, sorted by condition", "?q=zone%3Dz1&sort=-state"]]) {
    const context = await browser.newContext({ viewport: { width: 1920, height: 1080 } });
    const page = await context.newPage();
    await page.goto(c.url + "/" + query);
    await page.waitForSelector("[data-live=live]");
    await page.waitForSelector("[role=row][data-type=instance]");
    await sleep(4000); // the sparklines' past has been asked for
    const events = await traced(browser, page, ["toplevel"], () => sleep(seconds * 1000));
    const tasks = mainThreadTasks(events);
    const begin = Math.min(...tasks.map((t) => t.at));
    const ticks = Array.from({ length: seconds }, () => ({ cpu: 0, ms: 0 }));
    for (const t of tasks) {
      const s = Math.floor((t.at - begin) / 1000);
      if (s >= seconds) continue;
      ticks[s].cpu += t.cpu;
      ticks[s].ms += t.ms;
    }
    const cpu = ticks.map((t) => t.cpu);
    const median = quantile(cpu, 0.5);
    worst = Math.max(worst, median);
    console.log(`| ${name} | ${seconds} | ${median.toFixed(1)} ms | ${Math.min(...cpu).toFixed(1)} ms | ${Math.max(...cpu).toFixed(1)} ms | ${quantile(ticks.map((t) => t.ms), 0.5).toFixed(1)} ms | ${Math.max(...tasks.map((t) => t.ms)).toFixed(1)} ms |`);
    await context.close();
  }
} finally {
  await browser.close();
  await crowd.stop();
  await c.stop();
}
if (worst > budget) {
  console.log(`\n${worst.toFixed(1)} ms are beyond the budget of ${budget} ms`);
  process.exitCode = 1;
}
