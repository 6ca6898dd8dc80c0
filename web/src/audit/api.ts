// The calls of the record, in the page's words.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createClient, type Transport } from "@connectrpc/connect";
import { basePath } from "../api/base";
import { centreTransport } from "../api/client";
import { ms } from "../api/convert";
import { ControlService, type AuditEntry as EntryProto } from "../gen/opscenter/api/v1/control_pb";
import { stretch, type AuditEntry, type AuditView, type Head, type Report } from "./model";

export const auditPage = 50;

const entry = (e: EntryProto): AuditEntry => ({
  id: e.id, seq: Number(e.seq), hash: e.hash, at: ms(e.at), ended: ms(e.ended), actor: e.actor, action: e.action, subject: e.subject, project: e.project, service: e.service,
  instances: [...e.instanceIds], reason: e.reason, mutating: e.mutating, dryRun: e.dryRun, key: e.idempotencyKey, request: e.requestJson,
  result: e.result, message: e.message, answer: e.answerJson, answerLost: e.answerLost, steps: e.steps.map((s) => ({ instance: s.instanceId, result: s.result, message: s.message })),
});

/** Where the whole record is to be had as lines of JSON. */
export const exportUrl = (): string => `${basePath().replace(/\/$/, "")}/api/audit.jsonl`;

export function createAuditApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(ControlService, transport);
  return {
    async list(v: AuditView, now: number, signal: AbortSignal): Promise<{ entries: AuditEntry[]; next: string }> {
      const { from, to } = stretch(v, now);
      const r = await client.listAudit({
        project: v.project, text: v.text, actor: v.actor, action: v.action, target: v.target, results: v.outcomes, mutatingOnly: v.changes, pageSize: auditPage, pageToken: v.pages.at(-1) ?? "",
        ...(from ? { from: timestampFromMs(from) } : {}), ...(to ? { to: timestampFromMs(to) } : {}),
      }, { signal });
      return { entries: r.entries.map(entry), next: r.nextPageToken };
    },
    async entry(auditId: string, signal: AbortSignal): Promise<AuditEntry | null> {
      const [e] = (await client.listAudit({ auditId, pageSize: 1 }, { signal })).entries;
      return e ? entry(e) : null;
    },
    async verify(expect: Head | null, signal: AbortSignal): Promise<Report> {
      const r = await client.verifyAudit(expect ? { expect: { rows: BigInt(expect.rows), hash: expect.hash } } : {}, { signal });
      return { head: { rows: Number(r.head?.rows ?? 0), hash: r.head?.hash ?? "" }, problems: r.problems.map((p) => ({ seq: Number(p.seq), text: p.text })), more: r.moreProblems };
    },
  };
}
