import { readdirSync, readFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { nextTick } from "vue";
import { en } from "./en";
import { firstLocale, setLocale, t, tn, words, type Words } from "./index";
import { zhTW } from "./zh-TW";

afterEach(() => setLocale("en"));

// Every feature's own table, found by its place: src/**/words.ts exports the table it is made of.
const features = Object.entries(import.meta.glob<{ table: Words }>("../**/words.ts", { eager: true })).flatMap(([file, m]) => Object.entries(m.table).map(([key, [e, z]]) => [`${file} ${key}`, e, z] as const));
const all: (readonly [string, string, string])[] = [...(Object.keys(en) as (keyof typeof en)[]).map((key) => [key, en[key], zhTW[key]] as const), ...features];

const holes = (s: string) => [...new Set(s.match(/\{\w+\}/g) ?? [])].sort().join();

test.each(all)("%s says the same in both languages", (_, english, chinese) => {
  expect(chinese).not.toBe("");
  expect(holes(chinese)).toBe(holes(english));
});

test("Chinese has full-width punctuation, a space between scripts, and no simplified characters", () => {
  for (const [key, , s] of all) {
    if (key === "lang.switch" || key === "lang.short") continue;
    expect(s, key).not.toMatch(/[\u4e00-\u9fff][,:;?!]/);
    expect(s, key).not.toMatch(/[\u4e00-\u9fff][A-Za-z]{2}|[A-Za-z]{2}[\u4e00-\u9fff]/);
    expect(s, key).not.toMatch(/[们这为时实应进远发连无关开设请过还没标删载错误询务级页览态码执线处]/u);
  }
});

// The page, the rules' texts and the documents call a thing by one name.
test("one word for one thing, and Taiwan's", () => {
  const others = /程序(?!碼)|執行個體|執行軌跡|進程|線程|內存|緩存|默認|網絡|服務器|協程|存活的? heap|[Hh]eap (持續)?成長/;
  for (const [key, , s] of all) expect(s, key).not.toMatch(others);
  const read = (dir: string, name: RegExp): string[] =>
    readdirSync(dir, { withFileTypes: true, recursive: true }).filter((f) => f.isFile() && name.test(f.name)).map((f) => `${f.parentPath}/${f.name}`);
  const files = [...read("../internal/diagnosis", /(?<!_test)\.go$/).filter((f) => !f.includes("testdata")), ...read("../docs", /zh-TW\.md$/)];
  expect(files.length).toBeGreaterThan(40);
  for (const f of files) expect(readFileSync(f, "utf8").match(others)?.[0], f).toBeUndefined();
});

test.each([
  [null, ["zh-TW"], "zh-TW"], [null, ["zh-Hant"], "zh-TW"], [null, ["ZH"], "zh-TW"], [null, ["en-US", "zh-TW"], "en"], [null, [], "en"], ["en", ["zh-TW"], "en"], ["zh-TW", ["en"], "zh-TW"], ["fr", ["zh"], "zh-TW"],
] as const)("chosen %s, browser %j: %s", (stored, languages, want) => expect(firstLocale(stored, languages)).toBe(want));

test("sentences are filled in, counted, and switch at once", async () => {
  expect(t("fleet.predecessor", { verdict: "likely OOM" })).toBe("predecessor: likely OOM");
  expect(t("fleet.predecessor")).toBe("predecessor: {verdict}");
  expect([tn("fleet.count", 1), tn("fleet.count", 0), tn("fleet.count", 5000)]).toEqual(["1 instance", "0 instances", "5,000 instances"]);
  setLocale("zh-TW");
  await nextTick();
  expect(tn("fleet.count", 1)).toBe("1 個實例");
  expect(document.documentElement.lang).toBe("zh-Hant-TW");
});

test("a feature has words of its own", () => {
  const own = words({ hello: ["hello {who}", "{who} 你好"], rows: ["{n} row|{n} rows", "{n} 列"] });
  expect([own.tOr("rows", "?"), own.tOr("nobody's", "as it is"), own.t("common.close")]).toEqual(["{n} row|{n} rows", "as it is", "Close"]);
  expect([own.t("hello", { who: "heap" }), own.tn("rows", 1), own.tn("rows", 1200)]).toEqual(["hello heap", "1 row", "1,200 rows"]);
  setLocale("zh-TW");
  expect([own.t("hello", { who: "heap" }), own.tn("rows", 1200)]).toEqual(["heap 你好", "1,200 列"]);
});
