// The calls of channels, in the page's words.
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { createClient, type Transport } from "@connectrpc/connect";
import { basePath } from "../api/base";
import { centreTransport } from "../api/client";
import { ms } from "../api/convert";
import { NotifyService, type NotifyChannel, type NotifyStatus } from "../gen/opscenter/api/v1/notify_pb";
import { kinds, severities, types, type Channel, type ChannelStatus } from "./model";

const one = <T extends string>(all: readonly T[], v: string, otherwise: T): T => all.find((x) => x === v) ?? otherwise;
const seconds = (d: { seconds: bigint; nanos: number } | undefined): number => (d ? Number(d.seconds) + d.nanos / 1e9 : 0);

function channel(c: NotifyChannel | undefined): Channel {
  const q = c?.quiet;
  return {
    name: c?.name ?? "", type: one(types, c?.type ?? "", "webhook"), url: c?.url ?? "", token: c?.token ?? "", to: c?.to ?? "", secret: c?.secret ?? "",
    lang: c?.lang === "zh-TW" ? "zh-TW" : "en", least: one(severities, c?.least ?? "", "warning"), projects: [...(c?.projects ?? [])], services: [...(c?.services ?? [])],
    events: kinds.filter((k) => c?.events.includes(k)), quiet: q ? { from: q.from, to: q.to, zone: q.zone, critical: q.critical } : null,
    groupFor: seconds(c?.groupFor), repeatAfter: seconds(c?.repeatAfter),
  };
}

const status = (s: NotifyStatus): ChannelStatus => ({
  channel: channel(s.channel), declared: s.declared, waiting: s.waiting, sent: Number(s.sent), lost: Number(s.failed + s.dropped),
  lastSent: ms(s.lastSent), lastError: s.lastError, lastErrorAt: ms(s.lastErrorAt), quietUntil: ms(s.quietUntil),
  recent: s.recent.map((d) => ({ at: ms(d.at), title: d.title, severity: d.severity, events: d.events, attempts: d.attempts, error: d.error })),
});

export function createNotifyApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(NotifyService, transport);
  return {
    async list(signal: AbortSignal): Promise<ChannelStatus[]> {
      return (await client.listChannels({}, { signal })).channels.map(status);
    },
    async put(c: Channel): Promise<void> {
      const { groupFor, repeatAfter, quiet, ...rest } = c;
      await client.putChannel({
        channel: { ...rest, ...(quiet ? { quiet } : {}), ...(groupFor ? { groupFor: durationFromMs(groupFor * 1000) } : {}), ...(repeatAfter ? { repeatAfter: durationFromMs(repeatAfter * 1000) } : {}) },
      });
    },
    async remove(name: string): Promise<void> {
      await client.deleteChannel({ name });
    },
    async test(name: string): Promise<void> {
      await client.testChannel({ name });
    },
  };
}
