import { afterEach, expect, test } from "vitest";
import { setLocale } from "../i18n";
import { readdirSync, readFileSync } from "node:fs";
import { activityText, losses, lossText, noteText } from "./said";

afterEach(() => setLocale("en"));

test.each([
  ["goroutine.txt was not taken: with 5231 goroutines it would stop the process for about 115ms, and it is only taken below 1000", "未取得 goroutine.txt：有 5231 個 goroutine，會讓行程停頓約 115ms，只在少於 1000 個時擷取"],
  ["the CPU profile was taken in 3 segments; 1.2ms between them were not sampled", "CPU profile 分 3 段錄製，段與段之間有 1.2ms 未取樣"],
  ["go1.26.8 has no goroutine leak profile: build with GOEXPERIMENT=goroutineleakprofile, or with Go 1.27", "go1.26.8 沒有 goroutine 洩漏 profile：請以 GOEXPERIMENT=goroutineleakprofile 建置，或使用 Go 1.27"],
  ["the rest did not arrive: instance boot-1 was lost while it was captured and did not come back within 30s", "其餘內容未送達：實例 boot-1 在擷取途中斷線，30s 內沒有回來"],
  ["something that a newer agent says", "something that a newer agent says"],
])("%s", (said, chinese) => {
  expect(lossText(said)).toBe(said);
  setLocale("zh-TW");
  expect(lossText(said)).toBe(chinese);
});

test("a target that was killed says what is waited for", () => {
  expect(activityText("waiting for the instance to come back")).toMatch(/^Connection lost: it waits up to 30 s/);
  setLocale("zh-TW");
  expect([activityText("recording"), activityText("first heap snapshot"), activityText("finishing cpu")]).toEqual(["錄製中", "起始 heap 快照", "finishing cpu"]);
});

// What the agent and the centre say of a loss, as their sources write it; each % of a
// format is told by an example.
test("every loss that the Go sources word is told in the reader's language", () => {
  const files = [...readdirSync("../agent").map((f) => `../agent/${f}`), "../internal/capture/derive.go"].filter((f) => f.endsWith(".go") && !f.endsWith("_test.go"));
  const said = files.flatMap((f) =>
    [...readFileSync(f, "utf8").matchAll(/\b(?:loss|lost)\([^"\n]*?, "((?:[^"\\]|\\.)+)"/g)].map((m) => m[1]!));
  const words = said.filter((f) => !/^(%[vsq]|[:, ])+$/.test(f)).map((f) => f.replaceAll("%q", '"at work"').replaceAll(/%d/g, "7").replaceAll(/%\.2f/g, "0.97").replaceAll(/%[vs]/g, "2s"));
  expect(words.length).toBeGreaterThan(25);
  expect(words.filter((w) => !losses.some(([pattern]) => pattern.test(w)))).toEqual([]);
});

test("the call on which a rule fired, and the reason within a reason", () => {
  setLocale("zh-TW");
  expect(noteText("http:POST /bets took 71.68ms, 50ms or longer")).toBe("http:POST /bets 花了 71.68ms，達到門檻 50ms");
  expect(lossText("heap.pprof is as of the last garbage collection: none was run for it, because the collector already ran 6 times in the last 5s"))
    .toBe("heap.pprof 停留在上一次垃圾回收時的狀態：沒有為它執行 GC，原因：過去 5s 內垃圾回收已執行 6 次");
});
