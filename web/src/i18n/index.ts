// The page's language: two tables and a function. There is one document, so
// there is one language.
import { ref, watchEffect } from "vue";
import { count as grouped, type Locale } from "../model/format";
import { en } from "./en";
import { zhTW } from "./zh-TW";

export { en };
export type { Locale } from "../model/format";
export type Key = keyof typeof en;
export type Params = Record<string, string | number>;

const tables: Record<Locale, Record<Key, string>> = { en, "zh-TW": zhTW };
const storeKey = "ops.lang";

/** Traditional Chinese for those whose browser speaks Chinese, unless they chose. */
export function firstLocale(stored: string | null, languages: readonly string[]): Locale {
  if (stored === "en" || stored === "zh-TW") return stored;
  return languages[0]?.toLowerCase().startsWith("zh") ? "zh-TW" : "en";
}

function stored(): string | null {
  try {
    return localStorage.getItem(storeKey);
  } catch {
    return null; // storage is forbidden: the choice lasts as long as the page
  }
}

export const locale = ref<Locale>(firstLocale(stored(), navigator.languages ?? [navigator.language]));

watchEffect(() => {
  // The full tag: without the region, CJK fonts fall back to another region's glyphs.
  document.documentElement.lang = locale.value === "en" ? "en" : "zh-Hant-TW";
});

export function setLocale(l: Locale): void {
  locale.value = l;
  try {
    localStorage.setItem(storeKey, l);
  } catch {
    // as above
  }
}

/** The sentence of key in the page's language, with {names} filled in. */
export const t = (key: Key, params: Params = {}): string => fill(tables[locale.value][key], params);

/** The same for a counted thing: {n} is filled in, and chooses singular or plural. */
export const tn = (key: Key, n: number, params: Params = {}): string => count(tables[locale.value][key], n, params);

// Made once: making them costs a thousand times what they do.
const plural: Record<Locale, Intl.PluralRules> = { en: new Intl.PluralRules("en"), "zh-TW": new Intl.PluralRules("zh-TW") };

const fill = (sentence: string, params: Params): string => sentence.replace(/\{(\w+)\}/g, (all, name: string) => String(params[name] ?? all));

function count(sentence: string, n: number, params: Params): string {
  const [one = "", other = one] = sentence.split("|");
  const text = plural[locale.value].select(n) === "one" ? one : other;
  return fill(text, { ...params, n: grouped(n) });
}

/** A feature's own words, both languages side by side; they are loaded with its chunk. */
export type Words = Record<string, readonly [en: string, zhTW: string]>;

/** t and tn for a feature's own table; what it does not have, the page's table says. */
export function words<W extends Words>(table: W) {
  type Own = (keyof W & string) | Key;
  const say = (key: Own) => table[key]?.[locale.value === "en" ? 0 : 1] ?? tables[locale.value][key as Key];
  const t = (key: Own, params: Params = {}): string => fill(say(key), params);
  return {
    t,
    tn: (key: Own, n: number, params: Params = {}): string => count(say(key), n, params),
    /** The sentence of a key that is made of data, or the data itself where there is none. */
    tOr: (key: string, otherwise: string): string => (key in table || key in en ? t(key) : otherwise),
  };
}
