import { afterEach, expect, test } from "vitest";
import { nextTick } from "vue";
import { en } from "./en";
import { firstLocale, setLocale, t, tn, tOr } from "./index";
import { zhTW } from "./zh-TW";

afterEach(() => setLocale("en"));

const holes = (s: string) => [...new Set(s.match(/\{\w+\}/g) ?? [])].sort().join();

test.each(Object.keys(en) as (keyof typeof en)[])("%s says the same in both languages", (key) => {
  expect(zhTW[key]).not.toBe("");
  expect(holes(zhTW[key])).toBe(holes(en[key]));
});

test("Chinese has full-width punctuation, a space between scripts, and no simplified characters", () => {
  for (const [key, s] of Object.entries(zhTW)) {
    if (key === "lang.switch" || key === "lang.short") continue;
    expect(s, key).not.toMatch(/[\u4e00-\u9fff][,:;?!]/);
    expect(s, key).not.toMatch(/[\u4e00-\u9fff][A-Za-z]{2}|[A-Za-z]{2}[\u4e00-\u9fff]/);
    expect(s, key).not.toMatch(/[们这为时实应进远发连无关开设请过还没标删载错误询务级页览态码执线处]/u);
  }
});

test.each([
  [null, ["zh-TW"], "zh-TW"], [null, ["zh-Hant"], "zh-TW"], [null, ["ZH"], "zh-TW"], [null, ["en-US", "zh-TW"], "en"], [null, [], "en"], ["en", ["zh-TW"], "en"], ["zh-TW", ["en"], "zh-TW"], ["fr", ["zh"], "zh-TW"],
] as const)("chosen %s, browser %j: %s", (stored, languages, want) => expect(firstLocale(stored, languages)).toBe(want));

test("sentences are filled in, counted, and switch at once", async () => {
  expect(t("fleet.predecessor", { verdict: "likely OOM" })).toBe("predecessor: likely OOM");
  expect(t("fleet.predecessor")).toBe("predecessor: {verdict}");
  expect([tn("fleet.count", 1), tn("fleet.count", 0), tn("fleet.count", 5000)]).toEqual(["1 instance", "0 instances", "5,000 instances"]);
  expect(tOr("loss.gap", "?")).toBe("gap");
  expect(tOr("loss.new", "new")).toBe("new");
  setLocale("zh-TW");
  await nextTick();
  expect(tn("fleet.count", 1)).toBe("1 個實例");
  expect(document.documentElement.lang).toBe("zh-Hant-TW");
});
