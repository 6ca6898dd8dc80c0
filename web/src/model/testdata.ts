// Instances and captures for tests, out of text. Nothing of the page imports it.
import type { Capture, CaptureState, Target } from "./capture";
import type { Health, Heartbeat, Instance, InstanceState } from "./instance";

export const beat = (h: Partial<Heartbeat> = {}): Heartbeat => ({
  at: 0, cpuCores: 0, goroutines: 0, goroutinesRunning: 0, goroutinesRunnable: 0, goroutinesWaiting: 0, goroutinesSyscall: 0, liveHeapBytes: 0, heapObjects: 0, rssBytes: 0,
  memoryLimitBytes: 0, gcCpuFraction: 0, gcCycles: 0, schedLatencyP99Seconds: 0, throttledFraction: 0, poolWaiters: 0, mutexWaitRate: 0, cpuQuotaCores: 4, gomaxprocs: 4, threads: 0, ...h,
});

export const instanceOf = (i: Partial<Instance> & { id: string }): Instance => ({
  project: "color", service: "user", source: "agent", agentless: false, address: i.id, labels: {}, state: "up", stateSince: 0, stateReason: "", stateSays: "", joined: 0, lastSeen: 0,
  build: null, process: null, kinds: [], heartbeat: null, predecessor: null, self: false, health: null, slot: 0, ...i,
});

/** "memory=0.97/0.95! cpu=0.9/0.85": checks with value and threshold, an exclamation mark for critical ones. */
export function healthOf(text: string, since = 0): Health {
  const issues = text.split(" ").filter(Boolean).map((s) => {
    const [, check = "", value = "", threshold = "", bang = ""] = /^([a-z-]+)=([\d.]+)\/([\d.]+)(!?)$/.exec(s)!;
    return { check, level: bang ? ("critical" as const) : ("warning" as const), since, value: Number(value), threshold: Number(threshold) };
  });
  return { level: issues[0]?.level ?? "ok", issues };
}

const units: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000 };

/** "id project/service state key=value…" a line; gone=5m is since when, silent has no heartbeat. */
export function fleetOf(text: string, now: number): Instance[] {
  return text.trim().split("\n").map((line) => {
    const [id = "", key = "", state = "up", ...rest] = line.trim().split(/\s+/);
    const [project = "", service = ""] = key.split("/");
    const facts = new Map(rest.map((r) => r.split("=") as [string, string]));
    const gone = facts.get("gone");
    const labels = Object.fromEntries([...facts].filter(([k]) => k === "zone"));
    return instanceOf({
      id, project, service, state: state as InstanceState, labels,
      stateSince: gone ? now - Number(gone.slice(0, -1)) * units[gone.slice(-1)]! : now,
      build: { goVersion: "go1.26.8", modulePath: "", moduleVersion: facts.get("version") ?? "", vcsRevision: "", vcsTime: 0, vcsModified: false, goos: "", goarch: "", agentVersion: "" },
      health: facts.has("health") ? { level: facts.get("health") as Health["level"], issues: [] } : null,
      heartbeat: facts.has("silent") || gone ? null : beat({ at: now, cpuCores: Number(facts.get("cpu") ?? 0), goroutines: Number(facts.get("goroutines") ?? 0) }),
    });
  });
}

export const targetOf = (id: string, t: Partial<Target> = {}): Target => ({
  instance: instanceOf({ id }), state: "done", reason: "", windowStart: 0, windowEnd: 0, stoppedEarly: false, losses: [], artifacts: [], progress: null, receivedBytes: 0, ...t,
});

export const captureOf = (id: string, state: CaptureState, c: Partial<Capture> = {}): Capture => ({
  id, project: "color", service: "user", state, reason: "", actor: "", note: "", created: 0, finished: 0, pinned: false, sizeBytes: 0, targets: [], imported: false, headline: null, expires: 0,
  spec: { durationSeconds: 30, kinds: [], fidelity: "full", traceWindowSeconds: 5, traceMaxBytes: 0, skipGc: false, lastSeconds: 0 }, ...c,
});
