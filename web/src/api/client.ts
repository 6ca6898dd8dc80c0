// The centre's calls as functions of the page's words. Every one takes the
// AbortSignal of whoever asked.
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { timestampFromMs, type Duration } from "@bufbuild/protobuf/wkt";
import { CaptureService, FleetService, SystemService } from "../gen/opscenter/api/v1/api_pb";
import { Permission } from "../gen/opscenter/api/v1/options_pb";
import type { Capture, CaptureSpec, CaptureState } from "../model/capture";
import type { DiagnosisSet } from "../model/diagnosis";
import type { Locale } from "../model/format";
import type { Heartbeat, Instance, Threshold } from "../model/instance";
import { basePath } from "./base";
import * as convert from "./convert";
import type { goroutineCalls } from "./goroutines";
import type { guideCalls } from "./guide";

export interface System {
  version: string;
  goVersion: string;
  actor: string;
  may: { download: boolean; capture: boolean; delete: boolean };
  /** Controls and gRPC calls. */
  mayControl: boolean;
  /** The record of who did what. */
  mayAudit: boolean;
  /** Users, tokens, channels and configuration. */
  mayAdmin: boolean;
  retentionSeconds: number;
  retentionBytes: number;
  storedBytes: number;
  diskFreeBytes: number;
  storageProblem: string;
  /** What is wrong with the configuration's file; "" = nothing, or the caller is no administrator. */
  configProblem: string;
  /** Since when, and when what holds was read, in ms. */
  configSince: number;
  configLoaded: number;
  traceViewerProblem: string;
  graphProblem: string;
  /** The full set, in order. */
  kinds: string[];
}

export interface TraceWindow {
  fromGeneration: number;
  toGeneration: number;
  startSeconds: number;
  lengthSeconds: number;
  sizeBytes: number;
  /** Relative to the base path. */
  path: string;
}

export interface StartCapture {
  project: string;
  service: string;
  /** Empty = all that are up. */
  instanceIds: string[];
  spec: CaptureSpec;
  note: string;
}

export interface CaptureFilter {
  project: string;
  service: string;
  instanceId: string;
  states: readonly CaptureState[];
  text: string;
  severity: string;
  pageSize: number;
  pageToken: string;
}

type Call = { signal?: AbortSignal };

const duration = (seconds: number): Duration => {
  const whole = Math.floor(seconds);
  return { $typeName: "google.protobuf.Duration", seconds: BigInt(whole), nanos: Math.round((seconds - whole) * 1e9) };
};

/** The transport to the centre whose page this is. */
export function centreTransport(origin: string, base: string): Transport {
  return createConnectTransport({ baseUrl: origin + base.replace(/\/$/, ""), useBinaryFormat: true, useHttpGet: true, interceptors: [(next) => (req) => next(req).catch(toTheDoor)] });
}

/** A session that has ended begins anew at the login page, where there is one. */
function toTheDoor(err: unknown): never {
  if (err instanceof ConnectError && err.code === Code.Unauthenticated && err.metadata.get("www-authenticate")?.startsWith("Bearer") && typeof document !== "undefined") {
    const base = basePath().replace(/\/$/, "");
    location.assign(`${base}/login?to=${encodeURIComponent(location.pathname.slice(base.length) + location.search)}`);
  }
  throw err;
}

/** A part of the calls that comes with the first page that makes one: what the fleet does not need is not part of the first load. */
function later<T>(load: () => Promise<T>): () => Promise<T> {
  let loaded: Promise<T> | undefined;
  return () => (loaded ??= load());
}

export type Api = ReturnType<typeof coreCalls> & ReturnType<typeof goroutineCalls> & ReturnType<typeof guideCalls>;

export function createApi(transport: Transport = centreTransport(location.origin, basePath())): Api {
  const views = later(async () => (await import("./goroutines")).goroutineCalls(transport));
  const guide = later(async () => (await import("./guide")).guideCalls(transport));
  return {
    goroutines: async (...a) => (await views()).goroutines(...a),
    runtime: async (...a) => (await views()).runtime(...a),
    sample: async (...a) => (await guide()).sample(...a),
    openSample: async (...a) => (await guide()).openSample(...a),
    rules: async (...a) => (await guide()).rules(...a),
    ...coreCalls(transport),
  };
}

/** The calls that the frame and the fleet need. */
function coreCalls(transport: Transport) {
  const system = createClient(SystemService, transport);
  const fleet = createClient(FleetService, transport);
  const captures = createClient(CaptureService, transport);
  return {
    async system(call: Call = {}): Promise<System> {
      const s = await system.getSystem({}, call);
      const has = (p: Permission) => s.permissions.includes(p);
      return {
        version: s.version, goVersion: s.goVersion, actor: s.actor,
        may: { download: has(Permission.DOWNLOAD), capture: has(Permission.CAPTURE), delete: has(Permission.DELETE) }, mayControl: has(Permission.CONTROL), mayAudit: has(Permission.AUDIT), mayAdmin: has(Permission.ADMIN),
        retentionSeconds: convert.seconds(s.retention), retentionBytes: Number(s.retentionBytes), storedBytes: Number(s.storedBytes), diskFreeBytes: Number(s.diskFreeBytes),
        storageProblem: s.storageProblem, configProblem: s.configProblem, configSince: convert.ms(s.configProblemSince), configLoaded: convert.ms(s.configLoaded), traceViewerProblem: s.traceViewerProblem, graphProblem: s.graphProblem, kinds: [...s.kinds],
      };
    },
    /** An instance with what its health is judged by. */
    async instance(id: string, call: Call = {}): Promise<{ instance: Instance; thresholds: Threshold[] }> {
      const r = await fleet.getInstance({ instanceId: id }, call);
      return { instance: convert.instance(r.instance!), thresholds: r.thresholds.map(convert.threshold) };
    },
    /** The kept heartbeats between two times in milliseconds. */
    async history(id: string, from: number, to: number, call: Call = {}): Promise<{ stepMs: number; points: Heartbeat[] }> {
      const r = await fleet.getHistory({ instanceId: id, from: timestampFromMs(Math.round(from)), to: timestampFromMs(Math.round(to)) }, call);
      return { stepMs: convert.seconds(r.step) * 1000 || 10_000, points: r.points.map(convert.heartbeat) };
    },
    async startCapture(s: StartCapture, call: Call = {}): Promise<Capture> {
      const { capture } = await captures.startCapture({
        project: s.project, service: s.service, instanceIds: s.instanceIds, note: s.note,
        spec: { duration: duration(s.spec.durationSeconds), kinds: s.spec.kinds, fidelity: s.spec.fidelity, traceWindow: duration(s.spec.traceWindowSeconds), traceMaxBytes: BigInt(s.spec.traceMaxBytes), skipGc: s.spec.skipGc, ...(s.spec.lastSeconds ? { last: duration(s.spec.lastSeconds) } : {}) },
      }, call);
      return convert.capture(capture!);
    },
    async stopCapture(id: string, call: Call = {}): Promise<void> {
      await captures.stopCapture({ captureId: id }, call);
    },
    async cancelCapture(id: string, call: Call = {}): Promise<void> {
      await captures.cancelCapture({ captureId: id }, call);
    },
    async capture(id: string, call: Call = {}): Promise<Capture> {
      const { capture } = await captures.getCapture({ captureId: id }, call);
      return convert.capture(capture!);
    },
    /** What the rules say of a capture that has ended; it may take some seconds to be said. */
    async diagnosis(id: string, lang: Locale, call: Call = {}): Promise<DiagnosisSet> {
      const [{ json }, { parseDiagnosis }] = await Promise.all([captures.getDiagnosis({ captureId: id, lang }, call), import("../model/diagnosis")]);
      return parseDiagnosis(json);
    },
    async listCaptures(f: Partial<CaptureFilter>, call: Call = {}): Promise<{ captures: Capture[]; nextPageToken: string }> {
      const r = await captures.listCaptures({ ...f, states: convert.statesOf(f.states ?? []) }, call);
      return { captures: r.captures.map(convert.capture), nextPageToken: r.nextPageToken };
    },
    async pinCapture(id: string, pinned: boolean, call: Call = {}): Promise<void> {
      await captures.pinCapture({ captureId: id, pinned }, call);
    },
    async deleteCapture(id: string, call: Call = {}): Promise<void> {
      await captures.deleteCapture({ captureId: id }, call);
    },
    async traceWindows(captureId: string, instanceId: string, artifact: string, call: Call = {}): Promise<{ windows: TraceWindow[]; loss: string }> {
      const r = await captures.listTraceWindows({ captureId, instanceId, artifact }, call);
      return {
        loss: r.loss,
        windows: r.windows.map((w) => ({ fromGeneration: Number(w.fromGeneration), toGeneration: Number(w.toGeneration), startSeconds: convert.seconds(w.start), lengthSeconds: convert.seconds(w.length), sizeBytes: Number(w.sizeBytes), path: w.path })),
      };
    },
  };
}
