// Everything that the palette can lead to: commands that are alive, pages,
// services, instances, captures, the guide.
import type { Router } from "vue-router";
import { openCaptureDialog } from "../../composables/captureDialog";
import type { Centre } from "../../composables/centre";
import { commands, escape, labelOf, type Command } from "../../composables/commands";
import { scopesOf } from "../../model/fleet";
import { dateTime } from "../../model/format";
import { serviceKey, type Instance } from "../../model/instance";
import type { Entry } from "../../model/palette";
import { inProject } from "../../model/project";
import { one } from "../../model/url";
import { tabs } from "../../pages/capture/tabs";
import { t as tabWord } from "../../pages/capture/words";
import { t } from "./words";

/** An entry that can be followed. */
export interface Way extends Entry {
  run: () => void;
}

const mostCaptures = 200;

/** Commands as they are now: a page's own first, one of each label. */
function commandWays(all: readonly Command[]): Way[] {
  const own = all.filter((c) => c.match && !c.chord && c.match !== escape);
  const byLabel = new Map([...own.filter((c) => c.scope === "page"), ...own.filter((c) => c.scope === "everywhere")].map((c) => [labelOf(c), c]));
  return [...byLabel].map(([title, c]) => ({ id: `command/${typeof c.label === "string" ? c.label : title}`, kind: "command", title, hint: "", keys: c.keys, offered: true, run: () => void c.run() }));
}

/** Pages that have an address of their own and a title. */
function pageWays(router: Router): Way[] {
  return router.getRoutes().flatMap((r) => {
    const title = r.meta["title"];
    if (typeof title !== "function" || r.path.includes(":")) return [];
    return [{ id: `page/${String(r.name)}`, kind: "page" as const, title: String(title()), hint: "", keys: "", offered: true, run: () => void router.push({ name: r.name! }) }];
  });
}

/** The tabs of the capture that is open. */
function tabWays(router: Router): Way[] {
  const here = router.currentRoute.value;
  const { instance, vs } = here.query;
  if (here.name !== "capture") return [];
  return tabs.map((x) => ({
    id: `tab/${x.id}`, kind: "page", title: tabWord(x.label), hint: t("tab"), keys: "", offered: true,
    run: () => void router.push({ name: "capture", params: { id: here.params["id"], tab: x.id }, query: { ...(instance ? { instance } : {}), ...(vs ? { vs } : {}) } }),
  }));
}

function fleetWays(fleet: ReadonlyMap<string, Instance>, router: Router, mayCapture: boolean, project: string): Way[] {
  const services = new Map<string, Instance[]>();
  const instances: Way[] = [];
  for (const i of fleet.values()) {
    if (i.state === "gone" || (project && i.project !== project)) continue;
    const key = serviceKey(i);
    services.set(key, [...(services.get(key) ?? []), i]);
    instances.push({ id: `instance/${i.id}`, kind: "instance", title: i.address || i.id, hint: key, keys: "", offered: false, run: () => void router.push({ name: "instance", params: { id: i.id } }) });
  }
  return [
    ...[...services].flatMap(([key, all]) => {
      const { project, service } = all[0]!;
      const go: Way = { id: `service/${key}`, kind: "service", title: service, hint: project, keys: "", offered: false, run: () => void router.push({ name: "fleet", query: { project, service } }) };
      const capture: Way = { id: `capture-service/${key}`, kind: "command", title: t("capture.service", { service }), hint: project, keys: "", offered: false, run: () => openCaptureDialog({ scopes: scopesOf(all), whole: true }) };
      const control: Way = { id: `control-service/${key}`, kind: "command", title: t("control.service", { service }), hint: project, keys: "", offered: false, run: () => void router.push({ name: "control", query: { service: key } }) };
      return [go, ...(mayCapture ? [capture] : []), ...(all.some((i) => !i.agentless) ? [control] : [])];
    }),
    ...instances,
  ];
}

/** The projects, to look at one of them alone, or at all again. */
function projectWays(fleet: ReadonlyMap<string, Instance>, router: Router, chosen: string): Way[] {
  const names = [...new Set([...fleet.values()].map((i) => i.project))].sort();
  const to = (project: string): Way => ({
    id: `project/${project}`, kind: "command", title: project ? t("project", { project }) : t("project.all"), hint: "", keys: "", offered: !project,
    run: () => void router.push({ path: router.currentRoute.value.path, query: inProject(router.currentRoute.value.path, router.currentRoute.value.query, project) }),
  });
  return [...(chosen ? [to("")] : []), ...(names.length > 1 ? names.filter((n) => n !== chosen).map(to) : [])];
}

/** All ways there are now, of the chosen project. more are those of other features. */
export function waysOf(centre: Centre, router: Router, more: readonly Way[]): Way[] {
  const project = one(router.currentRoute.value.query, "project");
  const captures = [...centre.captures.value.values()].filter((c) => !project || c.project === project).sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, mostCaptures);
  const orders = commandWays([...commands]);
  const named = new Set(orders.map((c) => c.title));
  return [
    ...orders,
    ...pageWays(router).filter((p) => !named.has(p.title)),
    ...tabWays(router),
    ...more,
    ...fleetWays(centre.fleet.value, router, centre.system.value?.may.capture ?? true, project),
    ...projectWays(centre.fleet.value, router, project),
    ...captures.map((c): Way => ({ id: `capture/${c.id}`, kind: "capture", title: `${c.service} · ${dateTime(c.created)}`, hint: [c.project, c.note, c.id].filter(Boolean).join(" · "), keys: "", offered: false, run: () => void router.push({ name: "capture", params: { id: c.id } }) })),
  ];
}

const storeKey = "ops.palette";

/** The ids that were used in this browser, the newest first. */
export function usedBefore(): string[] {
  try {
    const v: unknown = JSON.parse(localStorage.getItem(storeKey) ?? "[]");
    return Array.isArray(v) ? v.filter((x): x is string => typeof x === "string") : [];
  } catch {
    return []; // storage is forbidden, or someone else wrote there: nothing was used
  }
}

export function storeUsed(ids: readonly string[]): void {
  try {
    localStorage.setItem(storeKey, JSON.stringify(ids));
  } catch {
    // as above
  }
}
