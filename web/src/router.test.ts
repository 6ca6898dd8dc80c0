import { expect, test } from "vitest";
import { createMemoryHistory } from "vue-router";
import { createPageRouter } from "./router";

test("the chosen project stays from page to page, until all are asked for", async () => {
  const router = createPageRouter(createMemoryHistory());
  await router.push("/?project=color&sort=cpu");
  await router.push("/nowhere");
  expect(router.currentRoute.value.fullPath).toBe("/nowhere?project=color");
  await router.push({ name: "fleet" });
  expect(router.currentRoute.value.fullPath).toBe("/?project=color");
  await router.replace({ query: {} });
  expect(router.currentRoute.value.fullPath).toBe("/");
  await router.push("/nowhere?project=color");
  await router.replace({ query: { x: "1" } });
  expect(router.currentRoute.value.fullPath).toBe("/nowhere?x=1&project=color");
  await router.push({ path: "/nowhere", query: { project: undefined } });
  expect(router.currentRoute.value.fullPath).toBe("/nowhere");
  await router.push("/nowhere");
  expect(router.currentRoute.value.fullPath).toBe("/nowhere");
});
