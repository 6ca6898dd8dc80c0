// The console's calls to the centre, as functions of the page's words.
import { createClient, type Transport } from "@connectrpc/connect";
import { basePath } from "../api/base";
import { centreTransport } from "../api/client";
import { seconds } from "../api/convert";
import { ConsoleService, type CallResponse, type RpcField, type RpcMethod, type SavedCall as SavedProto } from "../gen/opscenter/api/v1/console_pb";
import type { Field, Form, Method } from "./model";

export interface Route {
  port: number;
  tls: boolean;
  serverName: string;
  skipVerify: boolean;
}

export interface CallWish {
  instances: string[];
  method: string;
  messages: string[];
  open: boolean;
  metadata: Record<string, string[]>;
  /** 0 = the centre's own. */
  timeoutSeconds: number;
  route: Route;
  defaults: boolean;
  reason: string;
  confirm: string;
  key: string;
  canary: boolean;
  stopOnError: boolean;
}

/** A request as the centre keeps it. */
export interface Kept {
  messages?: unknown[];
  metadata?: Record<string, string[]>;
  timeout?: string;
  defaults?: boolean;
}

export interface Past {
  id: string;
  at: number;
  actor: string;
  service: string;
  instances: string[];
  method: string;
  request: Kept;
  mutating: boolean;
  code: string;
  message: string;
  durationSeconds: number;
}

export interface Saved {
  id: string;
  name: string;
  actor: string;
  method: string;
  request: Kept;
}

/** JSON beyond this is cut before it is sent: what nobody reads must not freeze the page. */
const maxJsonBytes = 256 << 10;

const method = (m: RpcMethod | undefined): Method => ({
  name: m?.name ?? "", clientStreaming: !!m?.clientStreaming, serverStreaming: !!m?.serverStreaming, input: m?.input ?? "", output: m?.output ?? "",
  readOnly: !!m?.readOnly, idempotent: !!m?.idempotent, deprecated: !!m?.deprecated, comment: m?.comment ?? "",
});

const field = (f: RpcField): Field => ({
  name: f.name, jsonName: f.jsonName, kind: f.kind, type: f.type, mapKey: f.mapKey, mapValue: f.mapValue ? field(f.mapValue) : null,
  repeated: f.repeated, presence: f.presence, oneof: f.oneof, deprecated: f.deprecated, comment: f.comment,
});

const kept = (text: string): Kept => {
  try {
    return JSON.parse(text) as Kept;
  } catch {
    return {}; // of another version: there is nothing to fill in
  }
};

const saved = (s: SavedProto): Saved => ({ id: s.id, name: s.name, actor: s.actor, method: s.method, request: kept(s.request) });

export const values = (md: { [key: string]: { values: string[] } }): Record<string, string[]> => Object.fromEntries(Object.entries(md).map(([k, v]) => [k, v.values]));

export type ConsoleApi = ReturnType<typeof createConsoleApi>;

export function createConsoleApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(ConsoleService, transport);
  const request = (w: CallWish) => {
    const whole = Math.floor(w.timeoutSeconds);
    return {
      instanceIds: w.instances, method: w.method, messages: w.messages, open: w.open, route: w.route, defaults: w.defaults, maxJsonBytes,
      metadata: Object.fromEntries(Object.entries(w.metadata).map(([k, v]) => [k, { values: v }])),
      ...(w.timeoutSeconds > 0 ? { timeout: { seconds: BigInt(whole), nanos: Math.round((w.timeoutSeconds - whole) * 1e9) } } : {}),
      reason: w.reason, confirm: w.confirm, idempotencyKey: w.key, expectInstances: w.instances.length, canary: w.canary, stopOnError: w.stopOnError,
    };
  };
  return {
    async methods(instanceId: string, route: Route, fresh: boolean, signal: AbortSignal): Promise<{ source: string; methods: Method[]; problems: string[] }> {
      const r = await client.listMethods({ instanceId, route, fresh }, { signal });
      return { source: r.source, methods: r.methods.map(method), problems: r.problems };
    },
    async describe(instanceIds: string[], name: string, route: Route, signal: AbortSignal): Promise<Form> {
      const r = await client.describeMethod({ instanceIds, method: name, route }, { signal });
      return {
        method: method(r.method),
        types: Object.fromEntries(Object.entries(r.types).map(([k, t]) => [k, { comment: t.comment, fields: t.fields.map(field), values: t.values.map((v) => ({ name: v.name, number: v.number })) }])),
        needs: { instances: r.needs?.instances ?? 0, reason: !!r.needs?.reason, confirm: r.needs?.confirm ?? [], refused: r.needs?.refused ?? "" },
      };
    },
    call: (w: CallWish, signal: AbortSignal): AsyncIterable<CallResponse> => client.call(request(w), { signal }),
    async say(callId: string, message: string): Promise<void> {
      await client.sendMessage({ callId, message });
    },
    async finish(callId: string): Promise<void> {
      await client.sendMessage({ callId, finish: true });
    },
    async history(project: string, service: string, signal: AbortSignal): Promise<Past[]> {
      const r = await client.listCalls({ project, service, pageSize: 50 }, { signal });
      return r.calls.map((c) => ({
        id: c.id, at: c.time ? Number(c.time.seconds) * 1000 + c.time.nanos / 1e6 : 0, actor: c.actor, service: `${c.project}/${c.service}`, instances: [...c.instanceIds], method: c.method,
        request: kept(c.request), mutating: c.mutating, code: c.code, message: c.message, durationSeconds: seconds(c.duration),
      }));
    },
    async saved(project: string, service: string, signal: AbortSignal): Promise<Saved[]> {
      return (await client.listSavedCalls({ project, service }, { signal })).saved.map(saved);
    },
    async save(name: string, project: string, service: string, w: CallWish): Promise<void> {
      await client.saveCall({ name, project, service, call: request(w) });
    },
    async unsave(id: string): Promise<void> {
      await client.deleteSavedCall({ id });
    },
    async putDescriptors(project: string, service: string, name: string, descriptorSet: Uint8Array<ArrayBuffer>): Promise<void> {
      await client.putDescriptors({ project, service, name, descriptorSet });
    },
    async dropDescriptors(project: string, service: string): Promise<void> {
      await client.deleteDescriptors({ project, service });
    },
  };
}
