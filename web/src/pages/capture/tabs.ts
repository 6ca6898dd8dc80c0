// What a capture's page can show. A tab is a row of this table and a component
// that takes the capture and the instance that is looked at; what else it shows
// lives in its own part of the query.
import { defineAsyncComponent, type Component } from "vue";
import { ended, isProfile, holdsGoroutines, isRuntime, isTrace, type Artifact, type Capture } from "../../model/capture";
import type { table } from "./words";

export interface CaptureTab {
  id: "diagnosis" | "flame" | "timeline" | "goroutines" | "metrics" | "files";
  label: keyof typeof table;
  /** Takes the props capture: Capture and instance: string, "" = the tab's own choice. */
  component: Component;
  /** Whether an artifact is something that the tab can show; a tab without one is always there. */
  shows?: (a: Artifact) => boolean;
  /** What it needs to be more than an offer to capture that, and why it is faint without. */
  needs?: { has: (a: Artifact) => boolean; reason: keyof typeof table };
}

export const tabs: readonly CaptureTab[] = [
  { id: "diagnosis", label: "diagnosis", component: defineAsyncComponent(() => import("./DiagnosisTab.vue")) },
  { id: "flame", label: "flame", component: defineAsyncComponent(() => import("./flame/FlameTab.vue")), shows: isProfile },
  { id: "timeline", label: "timeline", component: defineAsyncComponent(() => import("./TimelineTab.vue")), needs: { has: isTrace, reason: "timeline.none" } },
  { id: "goroutines", label: "goroutines", component: defineAsyncComponent(() => import("./goroutines/GoroutinesTab.vue")), shows: holdsGoroutines },
  { id: "metrics", label: "metrics", component: defineAsyncComponent(() => import("./metrics/MetricsTab.vue")), shows: isRuntime },
  { id: "files", label: "files", component: defineAsyncComponent(() => import("./FilesTab.vue")) },
];

/** The tabs that have something to show. */
export const tabsOf = (c: Capture): CaptureTab[] => tabs.filter(({ shows }) => !shows || c.targets.some((x) => x.artifacts.some(shows)));

/** Why a tab of a capture that has ended has nothing to show yet; null = it has. */
export const lackOf = (x: CaptureTab, c: Capture): keyof typeof table | null => (x.needs && ended(c.state) && !c.targets.some((of) => of.artifacts.some(x.needs!.has)) ? x.needs.reason : null);
