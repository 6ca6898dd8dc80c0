// The centre's answers about execution traces, as functions of the page's words.
import { createClient, type Transport } from "@connectrpc/connect";
import { TimelineService, type TimelineInterval, type TimelineSite, type TimelineStack } from "../gen/opscenter/api/v1/timeline_pb";
import { byClass, classIndexes } from "../model/timeline/states";
import type { Group, Track } from "../model/timeline/rows";
import { decodeRow, type Frame, type TileRow } from "../model/timeline/tile";
import type { Range } from "../model/timeline/window";
import { basePath } from "./base";
import { centreTransport } from "./client";

export interface TraceRef {
  captureId: string;
  instanceId: string;
  artifact: string;
}

export interface Site {
  stack: Frame[];
  group: string;
  /** An index into classes. */
  class: number;
  state: number;
  reason: number;
  count: number;
  totalNs: number;
  maxNs: number;
  /** Whose the longest was, 0 = not known, and when it began. */
  longest: number;
  longestFrom: number;
}

export interface NamedRange extends Range {
  text: string;
}

export interface Overview {
  duration: number;
  states: string[];
  reasons: string[];
  classOf: Uint8Array;
  gomaxprocs: number;
  groups: Group[];
  procs: number[];
  gc: NamedRange[];
  stw: NamedRange[];
  sites: Site[];
  loss: string;
  intervals: number;
  events: number;
  goroutines: number;
  latency: { p50: number; p99: number; max: number };
}

export interface Interval extends Range {
  class: number;
  state: number;
  reason: number;
  stack: Frame[];
  goroutine: number;
  /** Who ended it; 0 = a timer, the network, or unknown. */
  waker: number;
  wakerStack: Frame[];
  wakerGroup: string;
}

export interface GoroutineRow extends Range {
  id: number;
  classNs: number[];
}

export interface GoroutineDetail extends GoroutineRow {
  group: string;
  born: boolean;
  /** 0 = the runtime. */
  creator: number;
  createdAt: Frame[];
  interval: Interval | null;
  sites: Site[];
  intervals: number;
}

export interface Statistics {
  classNs: number[];
  goroutines: number;
  sites: Site[];
  intervals: number;
}

export interface Hits {
  goroutines: (GoroutineRow & { group: string })[];
  groups: string[];
  sites: Site[];
}

type Call = { signal?: AbortSignal };

const trackMessage = (t: Track) => ({
  track: t.kind === "proc" ? { case: "proc" as const, value: t.id } : t.kind === "group" ? { case: "group" as const, value: t.function } : { case: "goroutine" as const, value: BigInt(t.id) },
});

const frames = (s: TimelineStack | undefined): Frame[] => (s?.frames ?? []).map((f) => ({ function: f.function, file: f.file, line: f.line, own: f.own }));

export type TimelineApi = ReturnType<typeof createTimelineApi>;

/** Answers about one trace. The overview comes first: it says what states there are. */
export function createTimelineApi(trace: TraceRef, transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(TimelineService, transport);
  let classOf: Uint8Array = new Uint8Array();
  const site = (s: TimelineSite): Site => ({
    stack: frames(s.stack), group: s.group, class: classOf[s.state] ?? 7, state: s.state, reason: s.reason, count: Number(s.count), totalNs: Number(s.totalNs), maxNs: Number(s.maxNs),
    longest: Number(s.maxGoroutine), longestFrom: Number(s.maxFromNs),
  });
  const interval = (i: TimelineInterval | undefined): Interval | null =>
    i
      ? {
          from: Number(i.fromNs), to: Number(i.toNs), class: classOf[i.state] ?? 7, state: i.state, reason: i.reason, stack: frames(i.stack), goroutine: Number(i.goroutine),
          waker: Number(i.waker), wakerStack: frames(i.wakerStack), wakerGroup: i.wakerGroup,
        }
      : null;
  const classNs = (stateNs: bigint[]) => byClass(stateNs.map(Number), classOf);
  return {
    /** Reads the trace, which may take seconds the first time, and describes it. */
    async open(progress: (done: number, total: number) => void, call: Call = {}): Promise<Overview> {
      for await (const { event } of client.openTimeline({ trace }, call)) {
        if (event.case === "progress") progress(event.value.done, event.value.total);
        if (event.case !== "overview") continue;
        const o = event.value;
        classOf = classIndexes(o.states);
        const named = (r: { fromNs: bigint; toNs: bigint; text: string }): NamedRange => ({ from: Number(r.fromNs), to: Number(r.toNs), text: r.text });
        return {
          duration: Number(o.durationNs), states: o.states, reasons: o.reasons, classOf, gomaxprocs: o.goMaxprocs, loss: o.loss,
          groups: o.groups.map((g) => ({ function: g.function, goroutines: Number(g.goroutines), classNs: classNs(g.stateNs) })),
          procs: o.procs.map((p) => p.id), gc: o.gc.map(named), stw: o.stw.map(named), sites: o.sites.map(site),
          intervals: Number(o.intervals), events: Number(o.events), goroutines: Number(o.goroutines),
          latency: { p50: Number(o.latencyP50Ns), p99: Number(o.latencyP99Ns), max: Number(o.latencyMaxNs) },
        };
      }
      throw new TypeError("the answer ended early");
    },
    async tiles(tracks: readonly Track[], level: number, index: number, call: Call = {}): Promise<TileRow[]> {
      const r = await client.getTiles({ trace, tracks: tracks.map(trackMessage), level, index: BigInt(index) }, call);
      const stacks = r.stacks.map(frames);
      return r.rows.map((row) => decodeRow(row, stacks, classOf));
    },
    async goroutines(group: string, state: number | null, limit: number, call: Call = {}): Promise<{ goroutines: GoroutineRow[]; total: number }> {
      const r = await client.listGoroutines({ trace, group, limit, ...(state === null ? {} : { state }) }, call);
      return { total: Number(r.total), goroutines: r.goroutines.map((g) => ({ id: Number(g.id), from: Number(g.fromNs), to: Number(g.toNs), classNs: classNs(g.stateNs) })) };
    },
    async goroutine(id: number, at: number, call: Call = {}): Promise<GoroutineDetail> {
      const r = await client.getGoroutine({ trace, id: BigInt(id), atNs: BigInt(Math.round(at)) }, call);
      return {
        id, from: Number(r.goroutine?.fromNs ?? 0), to: Number(r.goroutine?.toNs ?? 0), classNs: classNs(r.goroutine?.stateNs ?? []), group: r.group,
        born: r.born, creator: Number(r.creator), createdAt: frames(r.createdAt), interval: interval(r.interval), sites: r.sites.map(site), intervals: Number(r.intervals),
      };
    },
    async find(track: Track, state: number, at: number, backwards: boolean, call: Call = {}): Promise<Interval | null> {
      const r = await client.findInterval({ trace, track: trackMessage(track), state, atNs: BigInt(Math.round(at)), backwards }, call);
      return interval(r.interval);
    },
    async search(query: string, call: Call = {}): Promise<Hits> {
      const r = await client.searchTimeline({ trace, query, limit: 12 }, call);
      return {
        goroutines: r.goroutines.map((g, n) => ({ id: Number(g.id), from: Number(g.fromNs), to: Number(g.toNs), classNs: classNs(g.stateNs), group: r.goroutineGroups[n] ?? "" })),
        groups: r.groups, sites: r.sites.map(site),
      };
    },
    async statistics(range: Range, tracks: readonly Track[], call: Call = {}): Promise<Statistics> {
      const r = await client.getStatistics({ trace, fromNs: BigInt(Math.round(range.from)), toNs: BigInt(Math.round(range.to)), tracks: tracks.map(trackMessage) }, call);
      return { classNs: classNs(r.stateNs), goroutines: Number(r.goroutines), sites: r.sites.map(site), intervals: Number(r.intervals) };
    },
  };
}
