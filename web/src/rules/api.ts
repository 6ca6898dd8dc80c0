// The calls of rules, in the page's words.
import { createClient, type Transport } from "@connectrpc/connect";
import { basePath } from "../api/base";
import { centreTransport } from "../api/client";
import { ms, seconds } from "../api/convert";
import { TriggerService, type TriggerInfo } from "../gen/opscenter/api/v1/rules_pb";
import type { Check, Entry, Reason, Recorder, Rule, RuleFile } from "./model";

const reasons = (all: readonly { code: string; numbers: Record<string, number>; words: Record<string, string> }[]): Reason[] => all.map((r) => ({ code: r.code, numbers: { ...r.numbers }, words: { ...r.words } }));

const rule = (r: TriggerInfo | undefined): Rule => ({
  name: r?.name ?? "", about: r?.about ?? "", enabled: r?.enabled ?? false, file: r?.file ?? "", line: r?.line ?? 0, when: r?.when ?? "", does: [...(r?.do ?? [])], limits: r?.limits ?? "", unit: r?.unit ?? "", budget: r?.budget ?? 0,
  standings: (r?.standings ?? []).map((s) => ({
    instance: s.instanceId, service: `${s.project}/${s.service}`, address: s.address, standing: s.standing, reason: s.reason, value: s.value,
    holdsSince: ms(s.holdsSince), fired: Number(s.fired), refused: Number(s.refused), used: s.used, freeAt: ms(s.freeAt), reasons: reasons(s.reasons),
  })),
  condition: r?.condition && {
    metric: r.condition.metric, below: r.condition.below, level: r.condition.level, timesUsual: r.condition.timesUsual, hold: seconds(r.condition.hold),
    calls: r.condition.calls, longer: seconds(r.condition.longer), quantile: r.condition.quantile, times: r.condition.times, within: seconds(r.condition.within),
  },
  steps: (r?.steps ?? []).map((s) => ({ kind: s.kind, time: seconds(s.time), kinds: [...s.kinds] })),
  bounds: r?.bounds && { times: r.bounds.times, per: seconds(r.bounds.per), cooldown: seconds(r.bounds.cooldown), stopAfter: r.bounds.stopAfter, maxMemory: r.bounds.maxMemory, maxCpu: r.bounds.maxCpu },
});

export function createRulesApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(TriggerService, transport);
  return {
    async list(signal: AbortSignal): Promise<{ files: RuleFile[]; recorders: Recorder[] }> {
      const r = await client.listTriggers({}, { signal });
      return {
        files: r.files.map((f) => ({ name: f.name, text: f.text, error: f.error, rules: f.rules.map(rule) })),
        recorders: r.recorders.map((f) => ({
          instance: f.instanceId, service: `${f.project}/${f.service}`, keeps: seconds(f.keeps), maxBytes: Number(f.maxBytes), since: ms(f.since), wantedBy: [...f.wantedBy],
          lastBytes: Number(f.lastBytes), lastTook: seconds(f.lastTook), refused: f.refused,
        })),
      };
    },
    async history(of: string, signal: AbortSignal, limit = 100): Promise<Entry[]> {
      const r = await client.listTriggerHistory({ rule: of, limit }, { signal });
      return r.entries.map((e) => ({
        number: Number(e.number), at: ms(e.at), service: `${e.project}/${e.service}`, instance: e.instanceId, rule: e.rule, kind: e.kind, reason: e.reason, reasons: reasons(e.reasons),
        capture: e.captureId, verdict: { ...e.verdict }, severity: e.severity,
      }));
    },
    async check(name: string, text: string, signal: AbortSignal): Promise<Check> {
      const r = await client.checkTriggers({ name, text }, { signal });
      return {
        error: r.error, line: r.line,
        rules: r.rules.map((p) => ({ rule: rule(p.rule), matches: p.matches.map((m) => ({ instance: m.instanceId, service: `${m.project}/${m.service}`, address: m.address, holds: m.holds, problem: m.problem, code: m.problemCode })) })),
      };
    },
    async put(name: string, before: string, text: string): Promise<void> {
      await client.putTriggerFile({ name, before, text });
    },
    async enable(name: string, enabled: boolean): Promise<void> {
      await client.enableTrigger({ name, enabled });
    },
  };
}
