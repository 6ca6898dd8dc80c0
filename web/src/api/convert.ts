// From the wire's messages to the page's words, in one place. 64-bit integers
// become numbers: nothing here counts beyond 2^53.
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type * as pb from "../gen/opscenter/api/v1/model_pb";
import { HealthLevel as PbHealthLevel } from "../gen/opscenter/api/v1/model_pb";
import type { HealthThreshold as PbHealthThreshold } from "../gen/opscenter/api/v1/health_pb";
import type { CaptureChange as PbCaptureChange, FleetChange as PbFleetChange, MetricsSample as PbMetricsSample } from "../gen/opscenter/api/v1/api_pb";
import { CaptureState as PbCaptureState, InstanceState as PbInstanceState } from "../gen/opscenter/api/v1/model_pb";
import type * as cap from "../model/capture";
import type * as ins from "../model/instance";
import type { FleetChange } from "../model/fleet";

export const ms = (t: Timestamp | undefined): number => (t ? Number(t.seconds) * 1000 + Math.round(t.nanos / 1e6) : 0);
export const seconds = (d: Duration | undefined): number => (d ? Number(d.seconds) + d.nanos / 1e9 : 0);

const instanceStates: Record<PbInstanceState, ins.InstanceState> = {
  [PbInstanceState.UNSPECIFIED]: "suspect",
  [PbInstanceState.UP]: "up",
  [PbInstanceState.SUSPECT]: "suspect",
  [PbInstanceState.GONE]: "gone",
};

const captureStates: Record<PbCaptureState, cap.CaptureState> = {
  [PbCaptureState.UNSPECIFIED]: "requested",
  [PbCaptureState.REQUESTED]: "requested",
  [PbCaptureState.COLLECTING]: "collecting",
  [PbCaptureState.COMMITTING]: "committing",
  [PbCaptureState.DONE]: "done",
  [PbCaptureState.PARTIAL]: "partial",
  [PbCaptureState.FAILED]: "failed",
  [PbCaptureState.CANCELLED]: "cancelled",
};

export function heartbeat(h: pb.Heartbeat): ins.Heartbeat {
  return {
    at: ms(h.at),
    cpuCores: h.cpuCores,
    goroutines: Number(h.goroutines),
    goroutinesRunning: Number(h.goroutinesRunning),
    goroutinesRunnable: Number(h.goroutinesRunnable),
    goroutinesWaiting: Number(h.goroutinesWaiting),
    goroutinesSyscall: Number(h.goroutinesSyscall),
    liveHeapBytes: Number(h.liveHeapBytes),
    heapObjects: Number(h.heapObjects),
    rssBytes: Number(h.rssBytes),
    memoryLimitBytes: Number(h.memoryLimitBytes),
    gcCpuFraction: h.gcCpuFraction,
    gcCycles: Number(h.gcCycles),
    schedLatencyP99Seconds: h.schedLatencyP99Seconds,
    throttledFraction: h.throttledFraction,
    poolWaiters: Number(h.poolWaiters),
    mutexWaitRate: h.mutexWaitRate,
    cpuQuotaCores: h.cpuQuotaCores,
    gomaxprocs: h.gomaxprocs,
    threads: Number(h.threads),
  };
}

export function instance(i: pb.Instance): ins.Instance {
  const { build: b, process: p, predecessor: d } = i;
  return {
    id: i.id,
    project: i.project,
    service: i.service,
    source: i.source,
    agentless: i.agentless,
    address: i.address,
    labels: { ...i.labels },
    state: instanceStates[i.state] ?? "suspect",
    stateSince: ms(i.stateSince),
    stateReason: i.stateReason,
    stateSays: i.stateSays,
    joined: ms(i.joined),
    lastSeen: ms(i.lastSeen),
    build: b
      ? { goVersion: b.goVersion, modulePath: b.modulePath, moduleVersion: b.moduleVersion, vcsRevision: b.vcsRevision, vcsTime: ms(b.vcsTime), vcsModified: b.vcsModified, goos: b.goos, goarch: b.goarch, agentVersion: b.agentVersion }
      : null,
    process: p
      ? { pid: p.pid, hostname: p.hostname, startTime: ms(p.startTime), gomaxprocs: p.gomaxprocs, numCpu: p.numCpu, cpuQuotaCores: p.cpuQuotaCores, memoryLimitBytes: Number(p.memoryLimitBytes), goMemoryLimitBytes: Number(p.goMemoryLimitBytes), gogc: p.gogc, executable: p.executable }
      : null,
    kinds: [...i.kinds],
    heartbeat: i.heartbeat?.at ? heartbeat(i.heartbeat) : null,
    predecessor: d
      ? { instanceId: d.instanceId, ended: ms(d.ended), uptimeSeconds: seconds(d.uptime), lastRssBytes: Number(d.lastRssBytes), memoryLimitBytes: Number(d.memoryLimitBytes), verdict: d.verdict }
      : null,
    self: i.self,
    health: health(i.health),
    slot: 0,
  };
}

const healthLevels: Record<PbHealthLevel, ins.Health["level"] | null> = {
  [PbHealthLevel.UNSPECIFIED]: null,
  [PbHealthLevel.OK]: "ok",
  [PbHealthLevel.WARNING]: "warning",
  [PbHealthLevel.CRITICAL]: "critical",
};

function health(h: pb.Health | undefined): ins.Health | null {
  const level = h ? healthLevels[h.level] : null;
  if (!h || !level) return null;
  return { level, issues: h.issues.map((i) => ({ check: i.check, level: healthLevels[i.level] === "critical" ? "critical" : "warning", since: ms(i.since), value: i.value, threshold: i.threshold })) };
}

export const threshold = (t: PbHealthThreshold): ins.Threshold => ({ check: t.check, warning: t.warning, critical: t.critical, holdSeconds: seconds(t.hold), off: t.off });

export function fleetChange(c: PbFleetChange): FleetChange {
  return {
    reset: c.reset, instances: c.instances.map(instance), removedIds: [...c.removedIds],
    ...(c.beats.length ? { beats: c.beats.flatMap((b) => (b.heartbeat?.at ? [{ id: b.instanceId, lastSeen: ms(b.lastSeen), heartbeat: heartbeat(b.heartbeat), health: health(b.health) }] : [])) } : {}),
  };
}

const loss = (l: pb.Loss): cap.Loss => ({ kind: l.kind, reason: l.reason, message: l.message });

function artifact(a: pb.Artifact): cap.Artifact {
  return {
    name: a.name, kind: a.kind, phase: a.phase, takenAt: ms(a.takenAt), windowStart: ms(a.windowStart), windowEnd: ms(a.windowEnd),
    sizeBytes: Number(a.sizeBytes), sha256: a.sha256, losses: a.losses.map(loss), partial: a.partial, derived: a.derived,
  };
}

function target(t: pb.Target): cap.Target[] {
  if (!t.instance) return [];
  return [{
    instance: instance(t.instance),
    state: captureStates[t.state] ?? "requested",
    reason: t.reason,
    windowStart: ms(t.windowStart),
    windowEnd: ms(t.windowEnd),
    stoppedEarly: t.stoppedEarly,
    losses: t.losses.map(loss),
    artifacts: t.artifacts.map(artifact),
    progress: t.progress ? { elapsedSeconds: seconds(t.progress.elapsed), durationSeconds: seconds(t.progress.duration), activity: t.progress.activity } : null,
    receivedBytes: Number(t.receivedBytes),
  }];
}

function headline(h: pb.Headline): cap.Headline {
  const severity = h.severity === "critical" || h.severity === "warning" || h.severity === "notice" ? h.severity : "";
  return { severity, rule: h.rule, title: { ...h.title }, critical: h.critical, warning: h.warning, notice: h.notice, unchecked: h.unchecked };
}

/** The states by which a list can be filtered, as the wire names them. */
export const statesOf = (names: readonly cap.CaptureState[]): PbCaptureState[] =>
  Object.entries(captureStates).flatMap(([k, v]) => (Number(k) && names.includes(v) ? [Number(k) as PbCaptureState] : []));

export function capture(c: pb.Capture): cap.Capture {
  const s = c.spec;
  return {
    id: c.id,
    project: c.project,
    service: c.service,
    spec: { durationSeconds: seconds(s?.duration), kinds: [...(s?.kinds ?? [])], fidelity: s?.fidelity ?? "", traceWindowSeconds: seconds(s?.traceWindow), traceMaxBytes: Number(s?.traceMaxBytes ?? 0), skipGc: s?.skipGc ?? false, lastSeconds: seconds(s?.last) },
    state: captureStates[c.state] ?? "requested",
    reason: c.reason,
    actor: c.actor,
    note: c.note,
    created: ms(c.created),
    finished: ms(c.finished),
    pinned: c.pinned,
    sizeBytes: Number(c.sizeBytes),
    targets: c.targets.flatMap(target),
    imported: c.imported,
    headline: c.headline ? headline(c.headline) : null,
    expires: ms(c.expires),
  };
}

export function captureChange(c: PbCaptureChange): cap.CaptureChange {
  return { reset: c.reset, captures: c.captures.map(capture), removedIds: [...c.removedIds] };
}

export function metricsSample(m: PbMetricsSample): ins.MetricsSample {
  return {
    instanceId: m.instanceId,
    at: ms(m.at),
    values: Object.fromEntries(m.values.map((v) => [v.name, { value: v.value, p99: v.histogram ? v.p99 : v.value }])),
    pools: m.pools.map((p) => ({
      name: p.name, kind: p.kind, remote: p.remote, maxOpen: Number(p.maxOpen), open: Number(p.open), inUse: Number(p.inUse), idle: Number(p.idle),
      waiting: Number(p.waiting), waitCount: Number(p.waitCount), waitSeconds: seconds(p.waitDuration),
    })),
  };
}
