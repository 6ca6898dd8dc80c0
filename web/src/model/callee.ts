// Which known service answers where a finding's calls go to: a name, or a host.
// Two services on one host are not told apart, and nothing is guessed.
import { scopesOf, type Scope } from "./fleet";
import type { Instance } from "./instance";

/** "http://user-service.game.svc:9090/x" → host and port, in small letters. */
function parts(address: string): { host: string; port: string } {
  const bare = address.trim().toLowerCase().replace(/^[a-z+.-]+:\/\//, "").replace(/^[^/]*@/, "").replace(/[/?#].*$/, "");
  const m = /^(\[[^\]]*\]|[^:]*|[0-9a-f:]*:[0-9a-f:]*)(?::(\d+))?$/.exec(bare);
  return m ? { host: m[1]!.replace(/^\[|\]$/g, ""), port: m[2] ?? "" } : { host: bare, port: "" };
}

const shared = (host: string) => !host || host === "localhost" || host === "::1" || host.startsWith("127.") || host === "0.0.0.0";

/** The service of the project that is reached there, with its living instances; null = none, or not one alone. */
export function calleeOf(remote: string, project: string, fleet: Iterable<Instance>): Scope | null {
  const { host, port } = parts(remote);
  if (!host) return null;
  const living = [...fleet].filter((i) => i.project === project && i.state !== "gone");
  const only = (list: Instance[]): Scope | null => {
    const services = new Set(list.map((i) => i.service));
    return services.size === 1 ? (scopesOf(living.filter((i) => services.has(i.service)))[0] ?? null) : null;
  };
  // A name in a cluster begins with the service's: user-service.game.svc.cluster.local.
  const named = living.filter((i) => i.service.toLowerCase() === host || (!/^[\d.]+$/.test(host) && i.service.toLowerCase() === host.split(".")[0]));
  if (named.length) return only(named);
  const there = living.filter((i) => parts(i.address).host === host);
  const door = there.filter((i) => port && parts(i.address).port === port);
  if (door.length) return only(door);
  return shared(host) ? null : only(there);
}
