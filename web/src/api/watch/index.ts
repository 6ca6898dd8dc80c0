// The page's end of the stream: the shared worker where there is one, else a
// hub of our own. Either is silent while the page is hidden.
import workerUrl from "virtual:watch-worker";
import { basePath } from "../base";
import { trustedWorker } from "../workers";
import { Hub } from "./hub";
import type { HubMessage, PageMessage } from "./protocol";
import { watchStream } from "./stream";


export type { HubMessage, WatchEvent, WatchStatus } from "./protocol";

/** What the stores need of the stream. */
export interface Watch {
  setMetrics(ids: string[]): void;
  retry(): void;
  close(): void;
}

/** Opens the stream and hands everything it says to on, beginning with the whole state. */
export function openWatch(on: (m: HubMessage) => void): Watch {
  try {
    if (typeof SharedWorker !== "undefined") return overWorker(on);
  } catch {
    // A policy or a private window forbids it: the page can do it alone.
  }
  return alone(on);
}

// How long a worker may take to say its first word before we do without it.
const workerPatienceMs = 4000;

function overWorker(on: (m: HubMessage) => void): Watch {
  const worker = new SharedWorker(trustedWorker(workerUrl), { type: "module", name: "ops" });
  const port = worker.port;
  const send = (m: PageMessage) => port.postMessage(m);
  let fallback: Watch | undefined;
  let ids: string[] = [];
  const giveUp = () => {
    if (fallback) return;
    send({ type: "bye" });
    port.close();
    fallback = alone(on);
    fallback.setMetrics(ids);
  };
  const patience = setTimeout(giveUp, workerPatienceMs);
  worker.onerror = giveUp;
  port.onmessage = (e: MessageEvent<HubMessage>) => {
    clearTimeout(patience);
    if (!fallback) on(e.data);
  };
  let release = () => {};
  const hello = () => {
    const lock = navigator.locks ? `ops-page-${Math.random().toString(36).slice(2)}` : "";
    const say = () => {
      send({ type: "hello", origin: location.origin, base: basePath(), lock });
      send({ type: "visible", visible: document.visibilityState === "visible" });
      send({ type: "metrics", ids });
    };
    if (!lock) return say();
    void navigator.locks.request(lock, () => {
      say();
      return new Promise<void>((r) => (release = r));
    });
  };
  const visible = () => send({ type: "visible", visible: document.visibilityState === "visible" });
  const online = () => send({ type: "retry" });
  document.addEventListener("visibilitychange", visible);
  addEventListener("online", online);
  // Without locks only the page can say that it leaves, and one that comes back from the browser's cache starts anew.
  const leave = () => navigator.locks || send({ type: "bye" });
  const comeBack = (e: PageTransitionEvent) => e.persisted && !navigator.locks && location.reload();
  addEventListener("pagehide", leave);
  addEventListener("pageshow", comeBack);
  hello();
  return {
    setMetrics(next) {
      ids = next;
      if (fallback) fallback.setMetrics(next);
      else send({ type: "metrics", ids: next });
    },
    retry: () => (fallback ? fallback.retry() : send({ type: "retry" })),
    close() {
      clearTimeout(patience);
      document.removeEventListener("visibilitychange", visible);
      removeEventListener("online", online);
      removeEventListener("pagehide", leave);
      removeEventListener("pageshow", comeBack);
      if (fallback) return fallback.close();
      send({ type: "bye" });
      release();
      port.close();
    },
  };
}

function alone(on: (m: HubMessage) => void): Watch {
  const listener = new Hub({ open: watchStream(location.origin, basePath()) }).listen(on);
  const visible = () => listener.setVisible(document.visibilityState === "visible");
  const online = () => listener.retry();
  document.addEventListener("visibilitychange", visible);
  addEventListener("online", online);
  visible();
  return {
    setMetrics: (ids) => listener.setMetrics(ids),
    retry: () => listener.retry(),
    close() {
      document.removeEventListener("visibilitychange", visible);
      removeEventListener("online", online);
      listener.close();
    },
  };
}
