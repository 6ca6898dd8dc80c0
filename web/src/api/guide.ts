// The calls behind the guide.
import { createClient, type Transport } from "@connectrpc/connect";
import { GuideService } from "../gen/opscenter/api/v1/guide_pb";
import type { Capture } from "../model/capture";
import { parseDiagnosis, type Diagnosis } from "../model/diagnosis";
import type { Locale } from "../model/format";
import type { RulePage } from "../model/guide";
import { capture } from "./convert";

type Call = { signal?: AbortSignal };

/** A recorded capture of a chapter, and what the rules say of it. */
export interface Sample {
  capture: Capture;
  diagnosis: Diagnosis;
  /** Its views can be opened. */
  kept: boolean;
}

export function guideCalls(transport: Transport) {
  const guide = createClient(GuideService, transport);
  return {
    async sample(scenario: number, lang: Locale, call: Call = {}): Promise<Sample> {
      const r = await guide.getSample({ scenario, lang }, call);
      return { capture: capture(r.capture!), diagnosis: parseDiagnosis(r.json).instances[0]!, kept: r.kept };
    },
    /** Puts the sample among the captures, unless it is there, and returns its id. */
    async openSample(scenario: number, call: Call = {}): Promise<string> {
      return (await guide.openSample({ scenario }, call)).captureId;
    },
    async rules(lang: Locale, call: Call = {}): Promise<RulePage[]> {
      const { rules } = await guide.listRules({ lang }, call);
      return rules.map((r) => ({ rule: r.rule, scenario: r.scenario, name: r.name, means: r.means, evidence: r.evidence, thresholds: r.thresholds, notThis: r.notThis, kinds: [...r.kinds], related: [...r.related] }));
    },
  };
}
