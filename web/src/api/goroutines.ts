// The calls behind the goroutines and runtime tabs of a capture.
import { createClient, type Transport } from "@connectrpc/connect";
import { CodeOrigin, GoroutineService, type CodeFrame as PbFrame, type GetGoroutinesResponse } from "../gen/opscenter/api/v1/goroutines_pb";
import { RuntimeService } from "../gen/opscenter/api/v1/runtime_pb";
import type { Census, CodeFrame, Origin } from "../model/goroutines";
import { parseRuntime, type RuntimeSeries } from "../model/runtime";
import { ms, seconds } from "./convert";
import type { ArtifactRef } from "./files";

type Call = { signal?: AbortSignal };

const origins: Record<CodeOrigin, Origin> = {
  [CodeOrigin.UNSPECIFIED]: "runtime", [CodeOrigin.OWN]: "own", [CodeOrigin.LIBRARY]: "library", [CodeOrigin.STD]: "std", [CodeOrigin.RUNTIME]: "runtime", [CodeOrigin.OBSERVER]: "observer",
};

const frame = (f: PbFrame): CodeFrame => ({ function: f.function, file: f.file, line: Number(f.line), pkg: f.package, origin: origins[f.origin] ?? "runtime" });

export function census(r: GetGoroutinesResponse): Census {
  // Frames are many groups' own: each is made once.
  const frames = r.frames.map(frame);
  return {
    format: r.format, taken: ms(r.taken), againstTaken: ms(r.againstTaken), total: Number(r.total), againstTotal: Number(r.againstTotal), compared: r.compared, loss: r.loss,
    states: r.states.map((s) => ({ state: s.state, count: Number(s.count), against: Number(s.against) })),
    omittedGroups: r.omittedGroups, omittedGoroutines: Number(r.omittedGoroutines),
    groups: r.groups.map((g) => ({
      id: g.id, count: Number(g.count), against: Number(g.against), state: g.state, forever: g.forever,
      wait: g.waitClass ? { class: g.waitClass, library: g.waitLibrary, function: g.waitFunction } : null,
      stack: g.stack.flatMap((i) => frames[i] ?? []), createdBy: frames[g.createdBy - 1] ?? null,
      aged: Number(g.aged), youngest: seconds(g.youngest), oldest: seconds(g.oldest), ids: g.ids.map(String), dumped: Number(g.dumped), locked: Number(g.locked),
      labels: g.labels.map((l) => ({ count: Number(l.count), labels: { ...l.labels } })),
    })),
  };
}

const snapshot = (r: ArtifactRef) => ({ captureId: r.capture, instanceId: r.instance, artifact: r.name });

export function goroutineCalls(transport: Transport) {
  const goroutines = createClient(GoroutineService, transport);
  const runtime = createClient(RuntimeService, transport);
  return {
    /** The goroutines of a snapshot, counted against another; only those with the text, where one is given. */
    async goroutines(of: ArtifactRef, against: ArtifactRef | null, text: string, call: Call = {}): Promise<Census> {
      return census(await goroutines.getGoroutines({ of: snapshot(of), ...(against ? { against: snapshot(against) } : {}), text }, call));
    },
    /** How the process did during the window. */
    async runtime(of: ArtifactRef, call: Call = {}): Promise<RuntimeSeries> {
      const { json } = await runtime.getRuntime({ captureId: of.capture, instanceId: of.instance, artifact: of.name }, call);
      return parseRuntime(json);
    },
  };
}
