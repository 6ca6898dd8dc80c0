import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { captureOf, fleetOf } from "../../model/testdata";
import { Hub, silenceMs } from "./hub";
import type { HubMessage, WatchEvent } from "./protocol";

// A centre under the test's hand: every opened stream is a hose.
class Hose {
  #queue: (WatchEvent | Error | null)[] = [];
  #wake = () => {};
  closed = false;
  constructor(readonly ids: string[], readonly signal: AbortSignal) {}
  send(...e: (WatchEvent | Error | null)[]) {
    this.#queue.push(...e);
    this.#wake();
  }
  async *read(): AsyncGenerator<WatchEvent> {
    try {
      for (;;) {
        while (!this.#queue.length) {
          await new Promise<void>((resolve, reject) => {
            this.#wake = resolve;
            this.signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
          });
        }
        const e = this.#queue.shift()!;
        if (e === null) return;
        if (e instanceof Error) throw e;
        yield e;
      }
    } finally {
      this.closed = true;
    }
  }
}

let hoses: Hose[];
let hub: Hub;
const last = () => hoses.at(-1)!;
const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 });
  hoses = [];
  hub = new Hub({
    open: (ids, signal) => {
      const h = new Hose(ids, signal);
      hoses.push(h);
      return h.read();
    },
    random: () => 1,
  });
});
afterEach(() => vi.useRealTimers());

const [a, b] = fleetOf("a1 color/user up\nb1 color/user up", 0);
const fleet = (...instances: (typeof a)[]): WatchEvent => ({ topic: "fleet", change: { reset: true, instances: instances.map((i) => i!), removedIds: [] } });
const gone = (id: string): WatchEvent => ({ topic: "fleet", change: { reset: false, instances: [], removedIds: [id] } });

/** What a page was told, a line each. */
function page() {
  const said: string[] = [];
  const listener = hub.listen((m: HubMessage) => {
    if (m.type === "status") said.push(m.status.state + (m.status.attempt ? ` ${m.status.attempt}` : ""));
    else if (m.event.topic === "fleet") said.push(`fleet ${m.event.change.reset ? "= " : ""}${m.event.change.instances.map((i) => i.id).join()}${m.event.change.removedIds.map((i) => " -" + i).join("")}`);
    else if (m.event.topic === "capture") said.push(`captures ${m.event.change.captures.map((c) => c.id).join()}`);
    else said.push(`metrics ${m.event.sample.instanceId}`);
  });
  return { ...listener, take: () => said.splice(0).join("; ") };
}

test("pages share one stream, and a late one is told everything at once", async () => {
  const one = page();
  expect(one.take()).toBe("connecting");
  last().send(fleet(a), { topic: "capture", change: { reset: true, captures: [captureOf("c1", "done")], removedIds: [] } });
  await settle();
  expect(one.take()).toBe("live; fleet = a1; captures c1");
  last().send({ topic: "fleet", change: { reset: false, instances: [b!], removedIds: [] } }, gone("a1"));
  await settle();
  expect(one.take()).toBe("fleet b1; fleet  -a1");
  const two = page();
  expect(two.take()).toBe("live; fleet = b1; captures c1");
  expect(hoses).toHaveLength(1);
  one.close();
  expect(last().closed).toBe(false);
  two.close();
  await settle();
  expect(last().closed).toBe(true);
});

test("a broken stream is opened again after growing pauses, and at once when asked", async () => {
  const p = page();
  last().send(fleet(a));
  await settle();
  p.take();
  last().send(new TypeError("network"));
  await settle();
  expect(p.take()).toBe("reconnecting 1");
  await vi.advanceTimersByTimeAsync(499);
  expect(hoses).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(hoses).toHaveLength(2);
  last().send(null);
  await settle();
  expect(p.take()).toBe("reconnecting 2");
  await vi.advanceTimersByTimeAsync(999);
  expect(hoses).toHaveLength(2);
  p.retry();
  await settle();
  expect(hoses).toHaveLength(3);
  last().send(fleet(b));
  await settle();
  expect(p.take()).toBe("live; fleet = b1");
  for (let n = 0; n < 12; n++) {
    last().send(new TypeError("network"));
    await vi.advanceTimersByTimeAsync(15_000);
  }
  expect(hoses).toHaveLength(15);
});

test("pauses are spread, so that a thousand pages do not come back at the same time", async () => {
  hub = new Hub({ open: (ids, signal) => (hoses.push(new Hose(ids, signal)), last().read()), random: () => 0 });
  page();
  last().send(new TypeError("network"));
  await vi.advanceTimersByTimeAsync(249);
  expect(hoses).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(hoses).toHaveLength(2);
});

test("a silent stream is dead; keep-alives keep it", async () => {
  const p = page();
  last().send(fleet(a));
  await settle();
  for (let n = 0; n < 4; n++) {
    await vi.advanceTimersByTimeAsync(15_000);
    last().send({ topic: "alive" });
  }
  await vi.advanceTimersByTimeAsync(silenceMs - 1);
  expect(p.take()).toBe("connecting; live; fleet = a1");
  await vi.advanceTimersByTimeAsync(1);
  expect(p.take()).toBe("reconnecting 1");
});

test("a refused caller is told so", async () => {
  const p = page();
  last().send(new ConnectError("no", Code.PermissionDenied));
  await settle();
  expect(p.take()).toBe("connecting; denied 1");
});

test("hidden pages are told nothing until someone looks, and then everything", async () => {
  const one = page();
  const two = page();
  last().send(fleet(a));
  await settle();
  one.take();
  two.take();
  two.setVisible(false);
  last().send({ topic: "fleet", change: { reset: false, instances: [b!], removedIds: [] } });
  await settle();
  expect([one.take(), two.take()]).toEqual(["fleet b1", ""]);
  two.setVisible(true);
  expect(two.take()).toBe("live; fleet = a1,b1");
  one.setVisible(false);
  two.setVisible(false);
  await settle();
  expect(last().closed).toBe(true);
  one.setVisible(true);
  expect(hoses).toHaveLength(2);
  expect(one.take()).toBe("connecting; fleet = a1,b1");
});

test("metrics of an instance go to the page that asked, and the stream follows what pages ask", async () => {
  const one = page();
  const two = page();
  one.setMetrics(["i2", "i1"]);
  two.setMetrics(["i1"]);
  expect(last().ids).toEqual(["i1", "i2"]);
  expect(hoses).toHaveLength(2);
  last().send({ topic: "metrics", sample: { instanceId: "i2", at: 0, pools: [], values: {} } });
  await settle();
  expect([one.take(), two.take()]).toEqual(["connecting; live; metrics i2", "connecting; live"]);
  one.setMetrics(["i1"]);
  expect(last().ids).toEqual(["i1"]);
  two.setMetrics([]);
  expect(hoses).toHaveLength(3);
  expect(hoses.slice(0, 2).every((h) => h.signal.aborted)).toBe(true);
  one.setMetrics(Array.from({ length: 40 }, (_, n) => `i${n}`));
  expect(last().ids).toHaveLength(16);
});
