import { afterEach, expect, test } from "vitest";
import { setLocale } from "../i18n";
import { activityText, lossText } from "./said";

afterEach(() => setLocale("en"));

test.each([
  ["goroutine.txt was not taken: with 5231 goroutines it would stop the process for about 115ms, and it is only taken below 1000", "未取得 goroutine.txt：有 5231 個 goroutine，會讓程序停頓約 115ms，只在少於 1000 個時擷取"],
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
