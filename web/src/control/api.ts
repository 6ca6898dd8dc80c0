// The calls of controls, in the page's words.
import { createClient, type Transport } from "@connectrpc/connect";
import { basePath } from "../api/base";
import { centreTransport } from "../api/client";
import { ms, seconds } from "../api/convert";
import { ControlService, type Control as ControlProto, type ControlTarget, type InvokeControlResponse } from "../gen/opscenter/api/v1/control_pb";
import type { Control, Listing, RunEvent, Target } from "./model";

export interface Selection {
  project: string;
  service: string;
  /** Empty = all of the service. */
  instances: string[];
}

export interface Wish {
  selection: Selection;
  name: string;
  args: Record<string, string>;
  /** 0 = it stays. */
  ttlSeconds: number;
  revert: boolean;
  dryRun: boolean;
  canary: boolean;
  /** 0 = all the rest. */
  batch: number;
  pauseSeconds: number;
  stopOnError: boolean;
}

export interface Consent {
  reason: string;
  confirm: string;
  /** How many instances were shown. */
  expect: number;
  key: string;
}

export interface Preview {
  targets: Target[];
  waves: number[];
  reason: boolean;
  confirm: string[];
  refused: string;
}

const control = (c: ControlProto): Control => ({
  name: c.name, description: c.description, builtin: c.builtin, mutating: c.mutating, effect: c.effect, undo: c.undo, setting: c.setting, dryRun: c.dryRun, differs: c.differs,
  params: c.params.map((p) => ({ name: p.name, description: p.description, type: p.type, required: p.required, defaultValue: p.defaultValue, min: p.min, max: p.max, choices: [...p.choices], secret: p.secret })),
  on: c.on.map((s) => ({ instance: s.instanceId, value: s.value, setTo: s.setTo, original: s.original, revertsAt: ms(s.revertsAt), unavailable: s.unavailable })),
});

const target = (t: ControlTarget): Target => ({ instance: t.instanceId, address: t.address, state: t.state, problem: t.problem });

function event(r: InvokeControlResponse): RunEvent | null {
  const { event: e } = r;
  switch (e.case) {
    case "started":
      return { kind: "started", audit: e.value.auditId, instances: [...e.value.instanceIds], waves: e.value.waves, replayed: e.value.replayed };
    case "result":
      return {
        kind: "result",
        result: { instance: e.value.instanceId, result: e.value.result, message: e.value.message, answer: e.value.answerJson, before: e.value.before, after: e.value.after, revertsAt: ms(e.value.revertsAt), seconds: seconds(e.value.took) },
      };
    case "finished":
      return { kind: "finished", result: e.value.result, message: e.value.message, unrecorded: e.value.unrecorded };
  }
  return null; // of a newer centre
}

const duration = (s: number) => (s > 0 ? { seconds: BigInt(Math.floor(s)), nanos: 0 } : undefined);
const selection = (s: Selection) => ({ project: s.project, service: s.service, instanceIds: s.instances });
const run = (w: Wish) => {
  const ttl = w.revert ? undefined : duration(w.ttlSeconds);
  const pause = duration(w.pauseSeconds);
  return {
    selection: selection(w.selection), name: w.name, args: w.revert ? {} : w.args, revert: w.revert, dryRun: w.dryRun,
    noCanary: !w.canary, batchSize: w.batch, keepGoing: !w.stopOnError, ...(ttl ? { ttl } : {}), ...(pause ? { pause } : {}),
  };
};

export type ControlApi = ReturnType<typeof createControlApi>;

export function createControlApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(ControlService, transport);
  return {
    async list(s: Selection, signal: AbortSignal): Promise<Listing> {
      const r = await client.listControls({ selection: selection(s) }, { signal });
      return { project: r.project, service: r.service, targets: r.targets.map(target), controls: r.controls.map(control) };
    },
    async preview(w: Wish, signal: AbortSignal): Promise<Preview> {
      const r = await client.previewControl({ run: run(w) }, { signal });
      return { targets: r.targets.map(target), waves: r.waves.map((x) => x.instanceIds.length), reason: r.needsReason, confirm: [...r.confirmWith], refused: r.refused };
    },
    async *invoke(w: Wish, c: Consent, signal: AbortSignal): AsyncGenerator<RunEvent> {
      for await (const r of client.invokeControl({ run: run(w), reason: c.reason, confirm: c.confirm, expectInstances: c.expect, idempotencyKey: c.key }, { signal })) {
        const e = event(r);
        if (e) yield e;
      }
    },
    /** What the record says of a run; null = nothing yet. */
    async outcome(auditId: string): Promise<{ result: string; message: string; steps: { instance: string; result: string; message: string }[] } | null> {
      const [e] = (await client.listAudit({ auditId, pageSize: 1 })).entries;
      return e ? { result: e.result, message: e.message, steps: e.steps.map((s) => ({ instance: s.instanceId, result: s.result, message: s.message })) } : null;
    },
  };
}
