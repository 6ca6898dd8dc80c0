// The choice among projects, with a centre made of text.
import { flushPromises, mount, type VueWrapper } from "@vue/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createMemoryHistory, type Router } from "vue-router";
import { setLocale } from "../i18n";
import type { Project } from "../model/project";
import { createPageRouter } from "../router";
import ProjectMenu from "./ProjectMenu.vue";

const listed = vi.hoisted(() => ({ list: vi.fn() }));
vi.mock("./api", () => ({ createProjectApi: () => listed }));

const project = (p: Partial<Project>): Project => ({ name: "", titles: { en: "", "zh-TW": "" }, declared: true, services: 1, instances: 3, keptSeconds: 0, keptBytes: 0, ...p });

let mounted: VueWrapper | undefined;
beforeEach(() => setLocale("en"));
afterEach(() => mounted?.unmount());

async function menu(path: string): Promise<Router> {
  listed.list.mockResolvedValue({
    projects: [project({ name: "color-game", titles: { en: "Color Game", "zh-TW": "顏色遊戲" }, keptSeconds: 14 * 86400, keptBytes: 20 * 2 ** 30 }), project({ name: "slots", declared: false })],
    refused: [{ name: "stray", service: "x", times: 3, last: Date.now() }],
  });
  const router = createPageRouter(createMemoryHistory());
  await router.push(path);
  mounted = mount(ProjectMenu, { props: { open: true }, global: { plugins: [router] }, attachTo: document.body });
  await flushPromises();
  return router;
}

const options = () => [...document.querySelectorAll("[role=option]")].map((o) => `${o.getAttribute("aria-selected") === "true" ? "> " : ""}${o.textContent!.replace(/\s+/g, " ").trim()}`);
const field = () => document.querySelector<HTMLInputElement>("[data-t=project-search]")!;
const press = (key: string) => field().dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));

test("it says of each project what there is, how long captures are kept, and who was turned away", async () => {
  await menu("/?project=slots");
  expect(options()).toEqual([
    "All projects",
    "Color Game color-game1 service · 3 instances · captures kept 14 d · up to 20 GiB",
    "> slots 1 service · 3 instances · captures kept for ever · not in the configuration",
  ]);
  expect(document.activeElement, "the field has the focus: keys choose").toBe(field());
  expect(document.querySelector(".refused")!.textContent).toContain("stray/x 3 times");
});

test("with keys alone: what is chosen is in the address, and what narrowed the one before is not", async () => {
  const router = await menu("/?project=slots&service=reel&sort=cpu");
  press("ArrowUp");
  await flushPromises();
  press("Enter");
  await flushPromises();
  expect(router.currentRoute.value.fullPath).toBe("/?sort=cpu&project=color-game");
});

test("by a word of its title, and all of them again", async () => {
  const router = await menu("/captures/c1?project=slots");
  field().value = "顏色";
  field().dispatchEvent(new Event("input"));
  await flushPromises();
  expect(options()).toHaveLength(1);
  field().value = "";
  field().dispatchEvent(new Event("input"));
  await flushPromises();
  document.querySelector<HTMLElement>('[data-project=""]')!.click();
  await flushPromises();
  expect(router.currentRoute.value.fullPath).toBe("/captures/c1");
});
