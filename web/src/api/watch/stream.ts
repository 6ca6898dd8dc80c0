// The centre's Watch call as a stream of the page's words.
import { createClient } from "@connectrpc/connect";
import { WatchService } from "../../gen/opscenter/api/v1/api_pb";
import { centreTransport } from "../client";
import { captureChange, fleetChange, metricsSample } from "../convert";
import type { OpenStream, WatchEvent } from "./protocol";

export function watchStream(origin: string, base: string): OpenStream {
  const client = createClient(WatchService, centreTransport(origin, base));
  return async function* (metricsInstanceIds, signal): AsyncGenerator<WatchEvent> {
    for await (const { event } of client.watch({ fleet: true, captures: true, beats: true, metricsInstanceIds }, { signal })) {
      switch (event.case) {
        case "fleet":
          yield { topic: "fleet", change: fleetChange(event.value) };
          break;
        case "capture":
          yield { topic: "capture", change: captureChange(event.value) };
          break;
        case "metrics":
          yield { topic: "metrics", sample: metricsSample(event.value) };
          break;
        default:
          yield { topic: "alive" };
      }
    }
  };
}
