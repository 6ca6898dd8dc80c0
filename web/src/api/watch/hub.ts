// One stream for many pages: opens it while anybody listens, opens it again
// with growing, jittered pauses when it breaks, keeps the state of the fleet
// and of the captures so that a page that joins late is told everything at once.
import { Code, ConnectError } from "@connectrpc/connect";
import { applyCaptures, type Capture } from "../../model/capture";
import { applyFleet, packBeats, type FleetChange } from "../../model/fleet";
import type { Instance } from "../../model/instance";
import type { HubMessage, OpenStream, WatchEvent, WatchStatus } from "./protocol";

/** The centre says something at least every 15 s; a stream silent for longer than this is dead. */
export const silenceMs = 40_000;
/** The centre refuses to watch every metric of more instances than this. */
const maxMetrics = 16;
const firstPauseMs = 500;
const longestPauseMs = 15_000;

export interface HubConfig {
  open: OpenStream;
  /** 0 to 1; Math.random unless a test knows better. */
  random?: () => number;
}

export interface Listener {
  /** A page that is not visible is told nothing until it is, and then everything. */
  setVisible(visible: boolean): void;
  /** The instances whose every metric this listener wants. */
  setMetrics(ids: string[]): void;
  /** Try now instead of at the end of the pause. */
  retry(): void;
  close(): void;
}

interface Entry {
  send: (m: HubMessage) => void;
  visible: boolean;
  metrics: string[];
}

export class Hub {
  readonly #open: OpenStream;
  readonly #random: () => number;
  readonly #entries = new Set<Entry>();
  readonly #fleet = new Map<string, Instance>();
  // Who had which slot keeps it: a page may hold on to an instance longer than we do.
  readonly #slotOf = new Map<string, number>();
  readonly #captures = new Map<string, Capture>();
  // Whether the maps hold a complete state, if maybe an old one.
  #haveFleet = false;
  #haveCaptures = false;
  #status: WatchStatus = { state: "connecting", attempt: 0, retryAt: 0 };
  // The run that owns the stream; a newer one takes over by replacing it.
  #run: AbortController | undefined;
  #wake: (() => void) | undefined;
  #openIds = "";

  constructor(c: HubConfig) {
    this.#open = c.open;
    this.#random = c.random ?? Math.random;
  }

  /** Adds a listener, tells it what is known, and opens the stream if it is the first. */
  listen(send: (m: HubMessage) => void): Listener {
    const e: Entry = { send, visible: true, metrics: [] };
    this.#entries.add(e);
    this.#tellAll(e);
    this.#ensure();
    return {
      setVisible: (visible) => {
        if (visible === e.visible || !this.#entries.has(e)) return;
        e.visible = visible;
        if (visible) this.#tellAll(e);
        this.#ensure();
      },
      setMetrics: (ids) => {
        e.metrics = [...ids];
        this.#ensure();
      },
      retry: () => this.#wake?.(),
      close: () => {
        this.#entries.delete(e);
        this.#ensure();
      },
    };
  }

  #tellAll(e: Entry): void {
    e.send({ type: "status", status: this.#status });
    if (this.#haveFleet) e.send({ type: "event", event: { topic: "fleet", change: { reset: true, instances: [...this.#fleet.values()], removedIds: [] } } });
    if (this.#haveCaptures) e.send({ type: "event", event: { topic: "capture", change: { reset: true, captures: [...this.#captures.values()], removedIds: [] } } });
  }

  // Brings the stream in line with who listens.
  #ensure(): void {
    const anybody = [...this.#entries].some((e) => e.visible);
    if (!anybody) {
      // Pages that nobody looks at need no stream; what is known goes stale, and is told again in full.
      this.#run?.abort();
      this.#run = undefined;
      this.#status = { state: "connecting", attempt: 0, retryAt: 0 };
      return;
    }
    const ids = [...new Set([...this.#entries].filter((e) => e.visible).flatMap((e) => e.metrics))].sort().slice(0, maxMetrics);
    if (this.#run && ids.join() === this.#openIds) return;
    this.#run?.abort();
    const run = new AbortController();
    this.#run = run;
    this.#openIds = ids.join();
    void this.#loop(ids, run);
  }

  async #loop(ids: string[], run: AbortController): Promise<void> {
    for (let attempt = 0; !run.signal.aborted; ) {
      const stream = new AbortController();
      const stop = () => stream.abort();
      run.signal.addEventListener("abort", stop);
      let silence: ReturnType<typeof setTimeout> | undefined;
      const listen = () => {
        clearTimeout(silence);
        silence = setTimeout(stop, silenceMs);
      };
      let denied = false;
      try {
        listen();
        for await (const event of this.#open(ids, stream.signal)) {
          if (run.signal.aborted) break;
          listen();
          attempt = 0;
          if (this.#status.state !== "live") this.#setStatus({ state: "live", attempt: 0, retryAt: 0 });
          this.#take(event);
        }
      } catch (err) {
        // Whatever it was, the remedy is to try again; the state says so.
        denied = err instanceof ConnectError && (err.code === Code.Unauthenticated || err.code === Code.PermissionDenied);
      } finally {
        clearTimeout(silence);
        run.signal.removeEventListener("abort", stop);
        stream.abort();
      }
      if (run.signal.aborted) return;
      attempt++;
      const pause = Math.min(longestPauseMs, firstPauseMs * 2 ** (attempt - 1)) * (0.5 + this.#random() / 2);
      this.#setStatus({ state: denied ? "denied" : "reconnecting", attempt, retryAt: Date.now() + pause });
      await this.#sleep(pause, run.signal);
    }
  }

  #sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done);
      this.#wake = done;
    });
  }

  #setStatus(status: WatchStatus): void {
    this.#status = status;
    this.#tell({ type: "status", status });
  }

  #take(event: WatchEvent): void {
    switch (event.topic) {
      case "alive":
        return;
      case "fleet":
        for (const i of event.change.instances) i.slot = this.#slot(i.id);
        applyFleet(this.#fleet, event.change);
        this.#haveFleet ||= event.change.reset;
        return this.#tell({ type: "event", event: { topic: "fleet", change: this.#packed(event.change) } });
      case "capture":
        applyCaptures(this.#captures, event.change);
        this.#haveCaptures ||= event.change.reset;
        break;
      case "metrics":
        for (const e of this.#entries) if (e.visible && e.metrics.includes(event.sample.instanceId)) e.send({ type: "event", event });
        return;
    }
    this.#tell({ type: "event", event });
  }

  #slot(id: string): number {
    const slot = this.#slotOf.get(id) ?? this.#slotOf.size + 1;
    this.#slotOf.set(id, slot);
    return slot;
  }

  #packed({ beats, ...change }: FleetChange): FleetChange {
    return beats ? { ...change, packed: packBeats(this.#fleet, beats) } : change;
  }

  #tell(m: HubMessage): void {
    for (const e of this.#entries) if (e.visible) e.send(m);
  }
}
