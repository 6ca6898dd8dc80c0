import { afterEach, expect, test } from "vitest";
import { basePath } from "./base";
import { artifactUrl, bundleUrl, pprofDiffUrl, pprofUrl, traceWindowUrl } from "./files";

afterEach(() => document.head.replaceChildren());

function served(under: string) {
  const meta = document.createElement("meta");
  meta.name = "ops-base";
  meta.content = under;
  document.head.append(meta);
}

test.each([["", "/"], ["/", "/"], ["/ops", "/ops/"], ["ops/", "/ops/"], ["/a/b/", "/a/b/"]])("served under %j is %j", (under, want) => {
  served(under);
  expect(basePath()).toBe(want);
});

test("a page that nobody filled in is at the root", () => expect(basePath()).toBe("/"));

test("every address of the centre's is under its base path", () => {
  served("/ops");
  const a = { capture: "c1", instance: "i1", name: "heap.pprof" };
  expect([artifactUrl(a), bundleUrl("c1"), pprofUrl(a), pprofDiffUrl(a, { ...a, name: "heap.before.pprof" }), traceWindowUrl("trace/c1/i1/trace.out/1-3/")]).toEqual([
    "/ops/api/captures/c1/i1/heap.pprof",
    "/ops/api/captures/c1/bundle.zip",
    "/ops/pprof/c1/i1/heap.pprof/",
    "/ops/pprof/c1/i1/heap.pprof/vs/c1/i1/heap.before.pprof/",
    "/ops/trace/c1/i1/trace.out/1-3/",
  ]);
});
