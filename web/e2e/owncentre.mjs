// A centre and services of a test's own: what dies there is nobody else's.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./harness.mjs";

/**
 * A port that nobody listens on, of those that systems do not give out by themselves:
 * one of theirs could be taken before its centre is up, even by a connection.
 */
export async function freePort() {
  for (let n = 0; n < 100; n++) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const probe = createServer();
    const free = await new Promise((done) => probe.once("error", () => done(false)).listen(port, "127.0.0.1", () => done(true)));
    if (!free) continue;
    await new Promise((done) => probe.close(done));
    return port;
  }
  assert.fail("no port is free");
}

const listening = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));

/** Ends a process and waits for it. */
export const end = (p, signal) =>
  new Promise((done) => {
    if (p.exitCode !== null || p.signalCode !== null) return done();
    p.once("exit", done);
    p.kill(signal);
  });

/** Starts a centre; close ends all that was started with it. */
export async function ownCentre(name) {
  const dir = await mkdtemp(join(tmpdir(), `${name}-`));
  const port = await freePort();
  // How the machine treats who is looked at is not what is looked at.
  const health = join(dir, "health.yaml");
  await writeFile(health, "defaults:\n  sched-latency: {off: true}\n  cpu: {off: true}\n  throttled: {off: true}\n");
  const url = `http://127.0.0.1:${port}`;
  const started = [];
  const wires = [];
  const start = (...args) => {
    const p = spawn(args[0], args.slice(1), { stdio: "ignore" });
    started.push(p);
    return p;
  };
  start("ops", "serve", "--listen", `127.0.0.1:${port}`, "--data", dir, "--health", health, "--log-level", "error");
  await until("the centre", () => fetch(url).then((r) => r.ok));
  return {
    url,
    start,
    async call(method, request = {}) {
      const r = await fetch(`${url}/opscenter.api.v1.${method}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) });
      const body = await r.json();
      if (!r.ok) throw new Error(`${method}: ${body.message}`);
      return body;
    },
    /** A way to the centre that can be cut: all connections at once. */
    async wire() {
      const open = new Set();
      let connections = 0;
      const server = createServer((near) => {
        connections++;
        const far = connect(port, "127.0.0.1");
        for (const [a, b] of [[near, far], [far, near]]) {
          open.add(a);
          a.pipe(b);
          a.on("error", () => b.destroy());
          a.on("close", () => (open.delete(a), b.destroy()));
        }
      });
      wires.push({ server, cut: () => open.forEach((s) => s.destroy()) });
      return { url: `http://127.0.0.1:${await listening(server)}`, cut: wires.at(-1).cut, connections: () => connections };
    },
    async close() {
      for (const p of started.reverse()) await end(p, "SIGKILL");
      for (const w of wires) {
        w.cut();
        await new Promise((done) => w.server.close(done));
      }
      await rm(dir, { recursive: true, force: true });
    },
  };
}
