// The pages as somebody sees them who may look but not act.
import { flushPromises, mount, type VueWrapper } from "@vue/test-utils";
import { afterEach, expect, test, vi } from "vitest";
import { createMemoryHistory, RouterView } from "vue-router";
import type { Api, System } from "../api/client";
import { centreKey, createCentre } from "../composables/centre";
import InstanceControls from "../control/InstanceControls.vue";
import { instanceOf } from "../model/testdata";
import { createPageRouter } from "../router";

let mounted: VueWrapper | undefined;
afterEach(() => {
  mounted?.unmount();
  vi.unstubAllGlobals();
});

async function show(component: object, props: object, path: string) {
  const fetched = vi.fn(() => Promise.reject(new TypeError("nobody was to be asked")));
  vi.stubGlobal("fetch", fetched);
  const api = { system: () => Promise.resolve({ actor: "token:ann", mayControl: false, mayAudit: false, may: { capture: false, delete: false, download: false } } as System) } as unknown as Api;
  const centre = createCentre(api, () => ({ setMetrics() {}, retry() {}, close() {} }));
  await flushPromises();
  const router = createPageRouter(createMemoryHistory());
  await router.push(path);
  mounted = mount(component, { props, global: { plugins: [router], provide: { [centreKey as symbol]: centre } }, attachTo: document.body });
  await flushPromises();
  return { text: mounted.text(), fetched };
}

test("the record is refused in words that say whom to ask, and nothing is read", async () => {
  const { text, fetched } = await show(RouterView, {}, "/audit");
  expect(text).toContain("The record is for those who may control");
  expect(text).toContain("You are token:ann; ask whoever runs this centre for the permission to control.");
  expect(text).not.toContain("Verify");
  expect(fetched).not.toHaveBeenCalled();
});

test("a process without an agent says what to do, and is not asked", async () => {
  const { text, fetched } = await show(InstanceControls, { instance: { ...instanceOf({ id: "robot" }), agentless: true } }, "/instances/robot");
  expect(text).toContain("Without an agent there is nothing to control");
  expect(text).toContain("Import the agent into the service");
  expect(fetched).not.toHaveBeenCalled();
});
