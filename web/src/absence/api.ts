// The call that tells what is missing, in the page's words.
import { createClient, type Transport } from "@connectrpc/connect";
import { basePath } from "../api/base";
import { centreTransport } from "../api/client";
import { ms } from "../api/convert";
import { DiscoveryService } from "../gen/opscenter/api/v1/discovery_pb";
import type { Lack } from "./model";

export function createAbsenceApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(DiscoveryService, transport);
  return {
    async list(signal: AbortSignal): Promise<Lack[]> {
      const r = await client.listSources({}, { signal });
      return [
        ...r.shortages.map((s) => ({ project: s.project, service: s.service, address: "", expected: s.expected, up: s.up, since: ms(s.since), says: s.says, problem: "", alarm: s.alarm, staleSince: ms(s.staleSince) })),
        ...r.absences.map((a) => ({ project: a.project, service: a.service, address: a.address, expected: 0, up: 0, since: ms(a.since), says: a.source, problem: [a.problem, a.complaint].filter(Boolean).join("; "), alarm: false, staleSince: 0 })),
      ];
    },
  };
}
