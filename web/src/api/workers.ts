// The page's workers. A browser that wants scripts to be vouched for is told that
// these are ours, and no other is started.
import flame from "virtual:flame-worker";
import watch from "virtual:watch-worker";

interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL: (url: string) => string }): { createScriptURL(url: string): string };
}

let policy: { createScriptURL(url: string): string } | undefined;

export function trustedWorker(url: string): string {
  const factory = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
  if (!factory) return url;
  policy ??= factory.createPolicy("ops-worker", {
    createScriptURL(asked) {
      if (asked !== watch && asked !== flame) throw new TypeError("only our own workers may be started");
      return asked;
    },
  });
  return policy.createScriptURL(url);
}
