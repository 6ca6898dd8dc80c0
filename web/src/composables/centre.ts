// What the whole page shares: the calls, the stream and what it has told so
// far. Made once by main, handed down by provide, made anew in every test.
import { inject, onScopeDispose, ref, shallowRef, triggerRef, type InjectionKey } from "vue";
import type { Api, System } from "../api/client";
import { openWatch, type HubMessage, type Watch, type WatchStatus } from "../api/watch";
import { applyCaptures, type Capture } from "../model/capture";
import { applyFleet, changesNames, eachChanged, type FleetChange, type Slots } from "../model/fleet";
import { SparkHistory } from "../model/history";
import type { Instance, MetricsSample } from "../model/instance";

export type Centre = ReturnType<typeof createCentre>;

export const centreKey: InjectionKey<Centre> = Symbol("centre");

export function useCentre(): Centre {
  const c = inject(centreKey);
  if (!c) throw new Error("the app was mounted without provide(centreKey, createCentre(…))");
  return c;
}

export function createCentre(api: Api, open: (on: (m: HubMessage) => void) => Watch = openWatch) {
  // Big and changing every second: the maps are mutated and announced by trigger.
  const instances = new Map<string, Instance>();
  const slots: Slots = [];
  const fleet = shallowRef(instances);
  const captures = shallowRef(new Map<string, Capture>());
  /** Counts the changes of the fleet: what is drawn from it redraws by it. */
  const fleetVersion = ref(0);
  /** Counts the changes of more than heartbeats: what is worked out from names is worked out anew by it. */
  const namesVersion = ref(0);
  /** Counts the changes of anybody's condition, and those of namesVersion. */
  const conditionsVersion = ref(0);
  const fleetLoaded = ref(false);
  const capturesLoaded = ref(false);
  const status = shallowRef<WatchStatus>({ state: "connecting", attempt: 0, retryAt: 0 });
  /** When the stream was last live. */
  const liveAt = ref(0);
  const system = shallowRef<System | null>(null);
  const history = new SparkHistory();
  const removed = shallowRef(new Set<string>());
  const samples = new Set<(s: MetricsSample) => void>();
  const beats = new Set<(change: FleetChange) => void>();
  const wanted = new Map<symbol, string>();

  function take(m: HubMessage): void {
    if (m.type === "status") {
      const before = status.value.state;
      status.value = m.status;
      if (m.status.state === "live" || before === "live") liveAt.value = Date.now();
      if (m.status.state === "live" && before !== "live") void refreshSystem();
      return;
    }
    const e = m.event;
    switch (e.topic) {
      case "fleet":
        if (applyFleet(instances, e.change, slots)) conditionsVersion.value++;
        eachChanged(instances, slots, e.change, (i) => history.beat(i));
        if (e.change.reset) history.prune(fleet.value);
        fleetLoaded.value = true;
        fleetVersion.value++;
        if (changesNames(e.change)) namesVersion.value++;
        triggerRef(fleet);
        for (const on of beats) on(e.change);
        return;
      case "capture":
        applyCaptures(captures.value, e.change);
        for (const id of e.change.removedIds) removed.value.add(id);
        capturesLoaded.value = true;
        triggerRef(captures);
        return;
      case "metrics":
        for (const on of samples) on(e.sample);
    }
  }

  async function refreshSystem(): Promise<void> {
    try {
      system.value = await api.system();
    } catch {
      // The state of the stream already says that the centre does not answer; the next refresh tries again.
    }
  }

  const watch = open(take);
  const timer = setInterval(() => document.visibilityState === "visible" && void refreshSystem(), 60_000);
  void refreshSystem();

  return {
    api,
    fleet: fleet as Readonly<typeof fleet>,
    /** The same as fleet, for what must not be worked out anew for every heartbeat: see namesVersion. */
    instances: instances as ReadonlyMap<string, Instance>,
    captures: captures as Readonly<typeof captures>,
    fleetVersion: fleetVersion as Readonly<typeof fleetVersion>,
    namesVersion: namesVersion as Readonly<typeof namesVersion>,
    conditionsVersion: conditionsVersion as Readonly<typeof conditionsVersion>,
    fleetLoaded: fleetLoaded as Readonly<typeof fleetLoaded>,
    capturesLoaded: capturesLoaded as Readonly<typeof capturesLoaded>,
    status: status as Readonly<typeof status>,
    liveAt: liveAt as Readonly<typeof liveAt>,
    system: system as Readonly<typeof system>,
    history,
    /** Captures known to be deleted, by anybody. */
    removed,
    refreshSystem,
    retry: () => watch.retry(),
    /** Notes that a capture was deleted here, ahead of the stream. */
    forgetCapture(id: string) {
      removed.value.add(id);
      captures.value.delete(id);
      triggerRef(captures);
      triggerRef(removed);
    },
    /** Puts a capture there ahead of the stream. */
    noteCapture(c: Capture) {
      if (!captures.value.has(c.id)) captures.value.set(c.id, c);
      triggerRef(captures);
    },
    /** Hands every change of the fleet to on, as long as the scope lives. */
    onFleet(on: (change: FleetChange) => void) {
      beats.add(on);
      onScopeDispose(() => beats.delete(on));
    },
    /** Asks for every metric of an instance, as long as the scope lives. */
    onMetrics(instanceId: string, on: (s: MetricsSample) => void) {
      const key = Symbol();
      const mine = (s: MetricsSample) => s.instanceId === instanceId && on(s);
      samples.add(mine);
      wanted.set(key, instanceId);
      watch.setMetrics([...new Set(wanted.values())]);
      onScopeDispose(() => {
        samples.delete(mine);
        wanted.delete(key);
        watch.setMetrics([...new Set(wanted.values())]);
      });
    },
    close() {
      clearInterval(timer);
      watch.close();
    },
  };
}
