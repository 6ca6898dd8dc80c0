// The calls about projects, in the page's words.
import { createClient, type Transport } from "@connectrpc/connect";
import { basePath } from "../api/base";
import { centreTransport } from "../api/client";
import { ms, seconds } from "../api/convert";
import { ProjectService } from "../gen/opscenter/api/v1/config_pb";
import type { Project } from "../model/project";

/** A project that was turned away. */
export interface Refused {
  name: string;
  service: string;
  times: number;
  last: number;
}

export function createProjectApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(ProjectService, transport);
  return {
    async list(signal: AbortSignal): Promise<{ projects: Project[]; refused: Refused[] }> {
      const r = await client.listProjects({}, { signal });
      return {
        projects: r.projects.map((p) => ({ name: p.name, titles: { en: p.titleEn, "zh-TW": p.titleZhTw }, declared: p.declared, services: p.services, instances: p.instances, keptSeconds: seconds(p.retention), keptBytes: Number(p.retentionBytes) })),
        refused: r.refused.map((p) => ({ name: p.name, service: p.service, times: p.times, last: ms(p.last) })),
      };
    },
  };
}
