import { afterEach, expect, test } from "vitest";
import { setLocale } from "../i18n";
import { healthOf, instanceOf } from "../model/testdata";
import { issueLines, releaseLines, rowReason, stateStory } from "./issues";

afterEach(() => setLocale("en"));

test.each([
  ["heap-slope=12.34/1", "heap grows 12 GiB/h > 1", "堆積每小時成長 12 GiB＞1"],
  ["heap-slope=3.61/1", "heap grows 3.6 GiB/h > 1", "堆積每小時成長 3.6 GiB＞1"],
  ["goroutines-slope=9.04/2", "goroutines grow 9/s > 2", "goroutine 每秒增加 9 個＞2"],
  ["goroutines-stand=2.21/1.8", "2.2× goroutines, same CPU > 1.8×", "goroutine 2.2 倍、CPU 未增＞1.8 倍"],
  ["flapping=4/2", "flapping, lost 4×", "反覆斷線 4 次"],
  ["cpu=0.9/0.85", "CPU 90 % > 85 %", "CPU 90 %＞85 %"],
  ["cpu=0.84/0.85", "CPU 84 %, was > 85 %", "CPU 84 %，曾＞85 %"], // not let go yet
  ["tides=2.5/1", "tides 2.50 > 1.00", "tides 2.50＞1.00"], // of a newer centre
])("%s is told in both languages", (health, en, zh) => {
  const i = instanceOf({ id: "a", health: healthOf(health) });
  setLocale("en");
  expect(rowReason(i, 0).text).toBe(en);
  setLocale("zh-TW");
  expect(rowReason(i, 0).text).toBe(zh);
});

test("who comes and goes says so while it is away, too", () => {
  const away = instanceOf({ id: "a", state: "suspect", stateReason: "connection lost", stateSince: 50_000, health: healthOf("flapping=4/2 heartbeat=9/15", 1000) });
  expect(rowReason(away, 61_000)).toMatchObject({ text: "flapping, lost 4×", age: "1 min", more: "+1" });
  expect(rowReason({ ...away, health: healthOf("heartbeat=9/15", 1000) }, 61_000)).toMatchObject({ text: "connection lost", age: "11 s", more: "" });
});

test("a row tells the worst and how many more there are", () => {
  const i = instanceOf({ id: "a", health: healthOf("heap-slope=12/1 goroutines-slope=9/2", 1000) });
  expect(rowReason(i, 61_000)).toMatchObject({ text: "heap grows 12 GiB/h > 1", more: "+1" });
  expect(issueLines(i, 61_000)).toEqual(["heap grows 12 GiB/h > 1 · for 1 min", "goroutines grow 9/s > 2 · for 1 min"]);
});

test.each([
  ["connection lost", "centre", /^connection lost · since .+ · says the centre$/, /^連線中斷 · 自 .+ · 中心判斷$/],
  ["clean exit", "process", /^clean exit · since .+ · it said so itself$/, /^正常結束 · 自 .+ · 行程自行回報$/],
  ["no longer listed by etcd", "etcd", /^no longer listed by etcd · since [^·]+$/, /^no longer listed by etcd · 自 [^·]+$/],
  ["moved", "consul 10.0.0.1:8500", /says consul 10\.0\.0\.1:8500$/, /consul 10\.0\.0\.1:8500 的說法$/],
  ["vanished", "", /^vanished · since [^·]+$/, /^突然消失 · 自 [^·]+$/], // known from before the centre kept who said so
])("%s, says %s", (stateReason, stateSays, en, zh) => {
  const i = instanceOf({ id: "a", state: "gone", stateSince: 1000, stateReason, stateSays });
  setLocale("en");
  expect(stateStory(i)).toMatch(en);
  setLocale("zh-TW");
  expect(stateStory(i)).toMatch(zh);
});

test("what runs side by side says since when", () => {
  setLocale("en");
  expect(releaseLines([{ version: "v1.5", revision: "3f2a1b9c0d11", n: 3, since: 1000 }, { version: "", revision: "", n: 1, since: 0 }])).toEqual([expect.stringMatching(/^v1\.5 \(3f2a1b9c0d\) ×3 since \S/), "? ×1 since ?"]);
});
