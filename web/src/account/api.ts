// The calls of the account page, in its words.
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { createClient, type Transport } from "@connectrpc/connect";
import { basePath } from "../api/base";
import { centreTransport } from "../api/client";
import { ms } from "../api/convert";
import { AccessService, type ApiToken, type RoleGrant } from "../gen/opscenter/api/v1/access_pb";
import { grantText, type Account, type Token } from "./model";

const grants = (list: RoleGrant[]): string[] => list.map((g) => grantText(g.role, g.scope));
const token = (x: ApiToken): Token => ({ id: x.id, name: x.name, owner: x.owner, grants: grants(x.grants), expires: ms(x.expires), used: ms(x.used), revoked: ms(x.revoked) });

/** Where the centre's door is. */
export const loginUrl = (): string => `${basePath().replace(/\/$/, "")}/login`;

export function createAccountApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const client = createClient(AccessService, transport);
  return {
    async account(signal: AbortSignal): Promise<Account> {
      const a = await client.getAccount({}, { signal });
      return {
        actor: a.actor, login: a.login, holder: a.holder, password: a.password, grants: grants(a.grants),
        sessions: a.sessions.map((s) => ({ created: ms(s.created), seen: ms(s.seen), address: s.address, browser: s.userAgent, current: s.current })),
      };
    },
    async tokens(signal: AbortSignal): Promise<Token[]> {
      return (await client.listTokens({}, { signal })).tokens.map(token);
    },
    /** Returns the secret, which the centre does not keep. */
    async create(name: string, role: string, scope: string, days: number): Promise<string> {
      return (await client.createToken({ name, grants: [{ role, scope }], life: durationFromMs(days * 86_400_000) })).secret;
    },
    async revoke(id: string): Promise<void> {
      await client.revokeToken({ id });
    },
    async changePassword(present: string, next: string): Promise<void> {
      await client.changePassword({ present, new: next });
    },
    async logOut(everywhere: boolean): Promise<void> {
      await client.logOut({ everywhere });
    },
  };
}
