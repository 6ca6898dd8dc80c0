// What a channel is on this page, and how a form becomes one.

export const types = ["slack", "telegram", "line", "teams", "feishu", "dingtalk", "webhook"] as const;
export type ChannelType = (typeof types)[number];
export const kinds = ["diagnosis", "health", "ended", "rule"] as const;
export type EventKind = (typeof kinds)[number];
export const severities = ["notice", "warning", "critical"] as const;
export type Least = (typeof severities)[number];

export interface Quiet {
  from: string;
  to: string;
  zone: string;
  critical: boolean;
}

export interface Channel {
  name: string;
  type: ChannelType;
  url: string;
  token: string;
  to: string;
  secret: string;
  lang: "en" | "zh-TW";
  least: Least;
  projects: string[];
  services: string[];
  /** Empty = all. */
  events: EventKind[];
  quiet: Quiet | null;
  /** Seconds; 0 = the centre's default. */
  groupFor: number;
  repeatAfter: number;
}

export interface Delivery {
  at: number;
  title: string;
  severity: string;
  events: number;
  attempts: number;
  error: string;
}

export interface ChannelStatus {
  channel: Channel;
  declared: boolean;
  waiting: number;
  sent: number;
  lost: number;
  lastSent: number;
  lastError: string;
  lastErrorAt: number;
  quietUntil: number;
  recent: Delivery[];
}

/** What a form shows of each chat. */
export const fields: Record<ChannelType, { url: "needed" | "api"; token: boolean; to: boolean; secret: boolean }> = {
  webhook: { url: "needed", token: true, to: false, secret: true },
  slack: { url: "needed", token: false, to: false, secret: false },
  telegram: { url: "api", token: true, to: true, secret: false },
  line: { url: "api", token: true, to: true, secret: false },
  teams: { url: "needed", token: false, to: false, secret: false },
  feishu: { url: "needed", token: false, to: false, secret: true },
  dingtalk: { url: "needed", token: false, to: false, secret: true },
};

export function emptyChannel(lang: "en" | "zh-TW"): Channel {
  return { name: "", type: "slack", url: "", token: "", to: "", secret: "", lang, least: "warning", projects: [], services: [], events: [], quiet: null, groupFor: 0, repeatAfter: 0 };
}

/** The names between commas and spaces. */
export const patternsOf = (text: string): string[] => text.split(/[\s,，、]+/).filter(Boolean);

/** All kinds ticked is the same as none: what comes later is told too. */
export const eventsOf = (ticked: readonly EventKind[]): EventKind[] => (ticked.length === kinds.length ? [] : kinds.filter((k) => ticked.includes(k)));

/** A channel that troubles: its latest word was an error. */
export const troubled = (s: ChannelStatus): boolean => s.lastErrorAt > 0 && s.lastErrorAt >= s.lastSent;
