// Profiles from the centre, as the page's columns.
import { createClient, type Transport } from "@connectrpc/connect";
import { ProfileService, type ProfileRow, type ProfileSide as WireSide } from "../gen/opscenter/api/v1/profile_pb";
import type { Loss } from "../model/capture";
import type { Frames } from "../model/flame/tree";
import { basePath } from "./base";
import { centreTransport } from "./client";
import { seconds } from "./convert";

export interface ProfileSource {
  capture: string;
  /** Empty = all that have the artifact. */
  instances: string[];
  artifact: string;
}

export interface ProfileQuery {
  source: ProfileSource;
  base: ProfileSource | null;
  type: string;
  lines: boolean;
}

export interface ProfileType {
  type: string;
  unit: string;
}

/** What was read of one side. */
export interface ProfileSide {
  instances: string[];
  artifact: string;
  total: number;
  samples: number;
  /** 0 = a moment, or unknown. */
  durationSeconds: number;
  losses: Loss[];
}

export interface FlameData {
  types: ProfileType[];
  type: number;
  frames: Frames;
  columns: FlameColumns;
  pruned: number;
  prunedShare: number;
  negative: number;
  source: ProfileSide;
  base: ProfileSide | null;
}

export interface FlameColumns {
  frame: Uint32Array;
  depth: Uint16Array;
  self: Float64Array;
  base: Float64Array | null;
}

export interface FunctionLine {
  line: number;
  self: number;
  total: number;
  baseSelf: number;
  baseTotal: number;
}

export interface FunctionWorth {
  whole: FunctionLine;
  lines: FunctionLine[];
}

type Call = { signal?: AbortSignal };

// The bytes lie anywhere in the message: a copy lies where numbers may.
const aligned = (b: Uint8Array): ArrayBuffer => b.slice().buffer;

const side = (s: WireSide | undefined): ProfileSide => ({
  instances: s?.instanceIds ?? [], artifact: s?.artifact ?? "", total: Number(s?.total ?? 0), samples: Number(s?.samples ?? 0), durationSeconds: seconds(s?.duration),
  losses: (s?.losses ?? []).map(({ kind, reason, message }) => ({ kind, reason, message })),
});

const wire = (q: ProfileQuery) => {
  const source = (s: ProfileSource) => ({ captureId: s.capture, instanceIds: s.instances, artifact: s.artifact });
  return { source: source(q.source), ...(q.base ? { base: source(q.base) } : {}), sampleType: q.type, lines: q.lines };
};

export type ProfileApi = ReturnType<typeof createProfileApi>;

export function createProfileApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(ProfileService, transport);
  return {
    async flame(q: ProfileQuery, call: Call = {}): Promise<FlameData> {
      const r = await client.getFlame({ query: wire(q) }, call);
      return {
        types: r.types.map(({ type, unit }) => ({ type, unit })), type: r.type,
        frames: { names: r.names, files: r.files, lines: r.lines },
        columns: { frame: new Uint32Array(aligned(r.frame)), depth: new Uint16Array(aligned(r.depth)), self: new Float64Array(aligned(r.self)), base: r.baseSelf.length ? new Float64Array(aligned(r.baseSelf)) : null },
        pruned: Number(r.pruned), prunedShare: r.prunedShare, negative: Number(r.negative), source: side(r.source), base: r.base ? side(r.base) : null,
      };
    },
    /** What a function and each of its lines are worth, of the whole profile. */
    async worth(q: ProfileQuery, name: string, call: Call = {}): Promise<FunctionWorth> {
      const r = await client.getFunction({ query: wire(q), function: name }, call);
      const line = (l: ProfileRow | undefined): FunctionLine => ({ line: Number(l?.line ?? 0), self: Number(l?.self ?? 0), total: Number(l?.total ?? 0), baseSelf: Number(l?.baseSelf ?? 0), baseTotal: Number(l?.baseTotal ?? 0) });
      return { whole: line(r.row), lines: r.lines.map(line) };
    },
  };
}
