// The calls of the users' page, in its words.
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { createClient, type Transport } from "@connectrpc/connect";
import { basePath } from "../api/base";
import { centreTransport } from "../api/client";
import { ms } from "../api/convert";
import { AccessService } from "../gen/opscenter/api/v1/access_pb";
import { JoinService } from "../gen/opscenter/api/v1/join_pb";
import { sortOut, type Binding, type JoinToken } from "./model";

export function createUsersApi(transport: Transport = centreTransport(location.origin, basePath())) {
  const access = createClient(AccessService, transport);
  const join = createClient(JoinService, transport);
  return {
    async list(signal: AbortSignal) {
      const r = await access.listUsers({}, { signal });
      return sortOut(
        r.users.map((u) => ({ name: u.name, disabled: u.disabled, created: ms(u.created), login: ms(u.lastLogin), temporary: u.temporaryPassword })),
        r.bindings.map((b) => ({ holder: b.holder, grant: { role: b.grant?.role ?? "", scope: b.grant?.scope ?? "" } })),
      );
    },
    async add(name: string, password: string, role: string, scope: string): Promise<void> {
      await access.addUser({ name, password, grants: [{ role, scope }] });
    },
    async setPassword(name: string, password: string): Promise<void> {
      await access.setUser({ name, password });
    },
    async disable(name: string, disabled: boolean): Promise<void> {
      await access.setUser({ name, disabled });
    },
    async remove(name: string): Promise<void> {
      await access.removeUser({ name });
    },
    async endSessions(holder: string): Promise<number> {
      return (await access.endSessions({ holder })).ended;
    },
    async give(b: Binding): Promise<void> {
      await access.grantRole({ binding: b });
    },
    async take(b: Binding): Promise<void> {
      await access.revokeRole({ binding: b });
    },
    /** None says why there can be none, such as in a centre without TLS. */
    async joinTokens(signal: AbortSignal): Promise<{ none: string; tokens: JoinToken[] }> {
      const r = await join.listJoinTokens({}, { signal });
      return { none: r.noneBecause, tokens: r.tokens.map((x) => ({
        id: x.id, project: x.projectPattern, service: x.servicePattern, networks: [...x.networks], by: x.createdBy, expires: ms(x.expires), most: x.maxUses, uses: x.uses, used: ms(x.lastUsed), revoked: ms(x.revoked),
      })) };
    },
    /** Returns the secret, which the centre does not keep. Of a deployment: for ever, for all that come. */
    async createJoin(project: string, service: string, networks: string[], deployment: boolean): Promise<{ secret: string; pin: string }> {
      const r = await join.createJoinToken({ projectPattern: project, servicePattern: service, networks, ...(deployment ? { life: durationFromMs(-1000), uses: -1 } : {}) });
      return { secret: r.secret, pin: r.pin };
    },
    async revokeJoin(id: string): Promise<void> {
      await join.revokeJoinToken({ id });
    },
  };
}
