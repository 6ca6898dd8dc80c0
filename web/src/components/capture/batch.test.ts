// The panel of captures that were started together.
import { flushPromises, mount, RouterLinkStub } from "@vue/test-utils";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Api } from "../../api/client";
import { captureBatch, endBatch, startBatch } from "../../composables/captureBatch";
import { centreKey, createCentre } from "../../composables/centre";
import { setLocale } from "../../i18n";
import type { Capture } from "../../model/capture";
import { captureOf } from "../../model/testdata";
import BatchPanel from "./BatchPanel.vue";

const route = vi.hoisted(() => ({ name: "fleet", query: {} as Record<string, string> }));
vi.mock("vue-router", () => ({ useRoute: () => route }));

const fine = { severity: "", rule: "", title: {}, critical: 0, warning: 0, notice: 0, unchecked: 0 } as unknown as NonNullable<Capture["headline"]>;
let there: Record<string, Capture>;

beforeEach(() => {
  vi.useFakeTimers();
  setLocale("en");
  Object.assign(route, { name: "fleet", query: {} });
  there = {};
});
afterEach(() => {
  endBatch();
  vi.useRealTimers();
});

async function show() {
  const api = { system: () => Promise.reject(new TypeError("not in this test")), capture: (id: string) => (there[id] ? Promise.resolve(there[id]) : Promise.reject(new TypeError("gone"))) } as unknown as Api;
  const centre = createCentre(api, () => ({ setMetrics() {}, retry() {}, close() {} }));
  const w = mount(BatchPanel, { global: { provide: { [centreKey as symbol]: centre }, stubs: { RouterLink: RouterLinkStub } } });
  const turn = async () => {
    await vi.advanceTimersByTimeAsync(2000);
    await flushPromises();
  };
  await flushPromises();
  return { w, turn, says: () => w.find("[role=status]").text() };
}

test("captures that began together are told of until their verdicts are there, and lead to all of them", async () => {
  startBatch(["01aaaa", "01bbbb"]);
  there = { "01aaaa": captureOf("01aaaa", "collecting"), "01bbbb": captureOf("01bbbb", "collecting") };
  const { w, says } = await show();
  expect(says()).toBe("2 of 2 captures are running");
  there["01aaaa"] = { ...captureOf("01aaaa", "done"), sizeBytes: 9 };
  there["01bbbb"] = { ...captureOf("01bbbb", "failed"), sizeBytes: 0 };
  w.unmount();
  const again = await show(); // another page, or a reload
  expect(again.says()).toBe("Captured; the diagnosis is on its way");
  there["01aaaa"] = { ...there["01aaaa"]!, headline: fine };
  await again.turn();
  expect(again.says()).toBe("2 captures are done");
  expect(again.w.findAllComponents(RouterLinkStub).at(-1)!.props("to")).toEqual({ name: "captures", query: { ids: "01aaaa,01bbbb" } });
  await again.w.find("[data-t=batch-all]").trigger("click");
  expect(captureBatch.value).toEqual([]);
  expect(sessionStorage.getItem("ops.batch")).toBeNull();
  again.w.unmount();
});

test("on the page that lists them there is no second list", async () => {
  startBatch(["01aaaa", "01bbbb"]);
  there = { "01aaaa": captureOf("01aaaa", "collecting"), "01bbbb": captureOf("01bbbb", "collecting") };
  Object.assign(route, { name: "captures", query: { ids: "01aaaa,01bbbb" } });
  const { w } = await show();
  expect(w.find("[data-t=batch]").exists()).toBe(false);
  w.unmount();
});
