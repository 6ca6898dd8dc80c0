// The words of the fleet as the page speaks them. Times are milliseconds since
// the epoch, 0 = unknown; shares are 0 to 1; a limit of 0 means none.

export type InstanceState = "up" | "suspect" | "gone";

export interface Build {
  goVersion: string;
  modulePath: string;
  moduleVersion: string;
  vcsRevision: string;
  vcsTime: number;
  vcsModified: boolean;
  goos: string;
  goarch: string;
  agentVersion: string;
}

export interface Process {
  pid: number;
  hostname: string;
  startTime: number;
  gomaxprocs: number;
  numCpu: number;
  cpuQuotaCores: number;
  memoryLimitBytes: number;
  goMemoryLimitBytes: number;
  gogc: number;
  executable: string;
}

/** The dozen numbers of a process at one time. */
export interface Heartbeat {
  at: number;
  cpuCores: number;
  goroutines: number;
  goroutinesRunning: number;
  goroutinesRunnable: number;
  goroutinesWaiting: number;
  goroutinesSyscall: number;
  liveHeapBytes: number;
  heapObjects: number;
  rssBytes: number;
  memoryLimitBytes: number;
  gcCpuFraction: number;
  gcCycles: number;
  schedLatencyP99Seconds: number;
  throttledFraction: number;
  poolWaiters: number;
  mutexWaitRate: number;
  cpuQuotaCores: number;
  gomaxprocs: number;
  threads: number;
}

/** How the process before this one ended. */
export interface Predecessor {
  instanceId: string;
  ended: number;
  uptimeSeconds: number;
  lastRssBytes: number;
  memoryLimitBytes: number;
  /** "likely OOM", "clean exit" or "vanished". */
  verdict: string;
}

/** One check that an instance fails, as the centre judged. */
export interface HealthIssue {
  check: string;
  level: "warning" | "critical";
  /** When the trouble began. */
  since: number;
  /** Above the threshold, both in the unit of the check. */
  value: number;
  threshold: number;
}

export interface Health {
  level: "ok" | "warning" | "critical";
  /** Worst first. */
  issues: HealthIssue[];
}

/** From when on a check's number is trouble; critical 0 = never. */
export interface Threshold {
  check: string;
  warning: number;
  critical: number;
  holdSeconds: number;
  off: boolean;
}

export interface Instance {
  id: string;
  project: string;
  service: string;
  source: string;
  agentless: boolean;
  address: string;
  labels: Record<string, string>;
  state: InstanceState;
  stateSince: number;
  stateReason: string;
  /** Who says so: "centre", "process" or a source; "" = it is up. */
  stateSays: string;
  joined: number;
  lastSeen: number;
  build: Build | null;
  process: Process | null;
  kinds: string[];
  /** The latest one; of a gone instance, its last words; null = none was ever heard. */
  heartbeat: Heartbeat | null;
  predecessor: Predecessor | null;
  self: boolean;
  /** null = nobody can say: it is gone, or nothing was heard yet. */
  health: Health | null;
  /** A number by which a hub and its pages speak of it; 0 = it came another way. */
  slot: number;
}

export interface PoolStats {
  name: string;
  kind: string;
  remote: string;
  maxOpen: number;
  open: number;
  inUse: number;
  idle: number;
  /** -1 = the pool does not say. */
  waiting: number;
  waitCount: number;
  waitSeconds: number;
}

export interface MetricsSample {
  instanceId: string;
  at: number;
  pools: PoolStats[];
  /** Every runtime/metrics value by name; of a histogram the median, and its p99, of what was added since the sample before. */
  values: Record<string, { value: number; p99: number }>;
}

/** "project/service", the key of a service across projects. */
export const serviceKey = (i: { project: string; service: string }): string => `${i.project}/${i.service}`;

/** The module's version of what was built from a work tree without saying of which revision. */
export const unversioned = "(devel)";

/**
 * Whether Go made the version out of the revision, because nobody tagged it:
 * v0.0.0-20260102030405-0123456789ab. Beside another such, it is cut where they differ.
 */
export const madeOf = (version: string, revision: string): boolean => revision.length >= 12 && version.includes(revision.slice(0, 12));

/** The version people would name: the module's, else the revision's beginning. */
export function versionOf(i: Instance): string {
  const b = i.build;
  if (!b) return "";
  if (b.moduleVersion && b.moduleVersion !== unversioned && !madeOf(b.moduleVersion, b.vcsRevision)) return b.moduleVersion;
  if (b.vcsRevision) return b.vcsRevision.slice(0, 10) + (b.vcsModified ? "+" : "");
  return b.moduleVersion;
}

export const goVersionOf = (i: Instance): string => (i.build?.goVersion ?? "").replace(/^go/, "");

/** CPU in use as a share of the quota, or of GOMAXPROCS where there is none; null = unknown. */
export function cpuShare(h: Heartbeat | null): number | null {
  if (!h) return null;
  const of = h.cpuQuotaCores || h.gomaxprocs;
  return of > 0 ? h.cpuCores / of : null;
}

/** Whether somebody measured: no process has no memory. From outside only goroutines are seen. */
export const told = (h: { rssBytes: number; liveHeapBytes: number }): boolean => h.rssBytes > 0 || h.liveHeapBytes > 0;

/** RSS as a share of the memory limit; null = no limit. */
export function memoryShare(h: Heartbeat | null): number | null {
  return h && h.memoryLimitBytes > 0 ? h.rssBytes / h.memoryLimitBytes : null;
}
