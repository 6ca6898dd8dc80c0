// Who is logged in, and with what programs do.

export interface Session {
  created: number;
  seen: number;
  address: string;
  browser: string;
  current: boolean;
}

export interface Account {
  actor: string;
  /** People log in to this centre. */
  login: boolean;
  holder: string;
  password: boolean;
  grants: string[];
  sessions: Session[];
}

export interface Token {
  id: string;
  name: string;
  owner: string;
  grants: string[];
  expires: number;
  /** 0 = never. */
  used: number;
  /** 0 = it is not. */
  revoked: number;
}

export const roles = ["viewer", "operator", "controller", "auditor", "admin"] as const;

/** A role with where it holds, as it is written for ops: "operator@color-game". */
export const grantText = (role: string, scope: string): string => (scope && scope !== "*" ? `${role}@${scope}` : role);

/** Whether a token is good for nothing any more, and why. */
export function over(t: Token, now: number): "revoked" | "expired" | "" {
  return t.revoked ? "revoked" : t.expires <= now ? "expired" : "";
}

/** What a browser calls itself, as far as people would. */
export function browserName(agent: string): string {
  const found = /(Edg|OPR|Firefox|Chrome|Safari)\/(\d+)/.exec(agent.replace(/Chrome\/\d+[^E]*(?=Edg|OPR)/, ""));
  const system = /Windows|Mac OS X|Android|iPhone|Linux/.exec(agent)?.[0] ?? "";
  if (!found) return agent.slice(0, 60);
  const name = { Edg: "Edge", OPR: "Opera" }[found[1]!] ?? found[1]!;
  return [`${name} ${found[2]}`, system.replace("Mac OS X", "macOS")].filter(Boolean).join(" · ");
}
