// Who may come in and do what, as administrators see it.
import { roles } from "../account/model";

export { roles };

/** A role with where it holds. */
export interface Grant {
  role: string;
  /** "*", a project, or project/service. */
  scope: string;
}

export interface User {
  name: string;
  disabled: boolean;
  created: number;
  /** 0 = never. */
  login: number;
  /** Somebody else made the password, which is changed at the next login. */
  temporary: boolean;
  grants: Grant[];
}

/** A role of somebody who has no password here: "group:sre", "oidc:ann@example.com". */
export interface Binding {
  holder: string;
  grant: Grant;
}

export interface JoinToken {
  id: string;
  project: string;
  service: string;
  networks: string[];
  by: string;
  /** 0 = never. */
  expires: number;
  /** 0 = as many as come. */
  most: number;
  uses: number;
  used: number;
  revoked: number;
}

/** Users with their roles, and the roles of everybody else. */
export function sortOut(users: readonly Omit<User, "grants">[], bindings: readonly Binding[]): { users: User[]; others: Binding[] } {
  const known = new Map(users.map((u) => [`user:${u.name}`, { ...u, grants: [] as Grant[] }]));
  const others: Binding[] = [];
  for (const b of bindings) {
    const u = known.get(b.holder);
    if (u) u.grants.push(b.grant);
    else others.push(b);
  }
  return { users: [...known.values()].sort((a, b) => (a.name < b.name ? -1 : 1)), others: others.sort((a, b) => (a.holder < b.holder ? -1 : 1)) };
}

/** Why nobody can join with a token any more; "" = somebody can. */
export function joinOver(t: JoinToken, now: number): "revoked" | "expired" | "used.up" | "" {
  if (t.revoked) return "revoked";
  if (t.expires && t.expires <= now) return "expired";
  return t.most && t.uses >= t.most ? "used.up" : "";
}

// Without those that look like another: it is read out, and typed from paper.
const alphabet = "abcdefghijkmnpqrstuvwxyz23456789";

/** A password that nobody chose: 20 of 32 letters in groups of five are 100 bits. */
export function newPassword(random: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array = (b) => crypto.getRandomValues(b)): string {
  const letters = [...random(new Uint8Array(20))].map((b) => alphabet[b % alphabet.length]!);
  return [0, 5, 10, 15].map((at) => letters.slice(at, at + 5).join("")).join("-");
}
