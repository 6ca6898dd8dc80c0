// What a page and the shared worker say to each other.
import type { CaptureChange } from "../../model/capture";
import type { FleetChange } from "../../model/fleet";
import type { MetricsSample } from "../../model/instance";

/** How the stream is. */
export interface WatchStatus {
  state: "connecting" | "live" | "reconnecting" | "denied";
  /** Tries since it was last live. */
  attempt: number;
  /** When the next try begins, in milliseconds since the epoch; 0 = now, or live. */
  retryAt: number;
}

/** What the stream carries, in the page's words. */
export type WatchEvent =
  | { topic: "fleet"; change: FleetChange }
  | { topic: "capture"; change: CaptureChange }
  | { topic: "metrics"; sample: MetricsSample }
  | { topic: "alive" };

/** From the hub to a page. */
export type HubMessage = { type: "status"; status: WatchStatus } | { type: "event"; event: Exclude<WatchEvent, { topic: "alive" }> };

/** From a page to the worker. */
export type PageMessage =
  /** The first message: where the centre is, and a lock that this page holds as long as it lives. */
  | { type: "hello"; origin: string; base: string; lock: string }
  | { type: "visible"; visible: boolean }
  | { type: "metrics"; ids: string[] }
  | { type: "retry" }
  | { type: "bye" };

/** Opens the stream once. It ends by throwing, by ending, or when signal says so. */
export type OpenStream = (metricsIds: string[], signal: AbortSignal) => AsyncIterable<WatchEvent>;
