// The guide's pages, as ways of the palette.
import type { Router } from "vue-router";
import { ruleIds, t as page, tOr } from "../capture/words";
import { chapters } from "../../model/guide";
import { t, type table } from "../../pages/guide/words";
import type { Way } from "./entries";

/** Its chapters, by what one hears and what it is, and the pages of the rules. */
export function guideWays(router: Router): Way[] {
  const way = (id: string, title: string, hint: string, to: { name: string; params: Record<string, string> }): Way => ({ id: `guide/${id}`, kind: "guide", title, hint, keys: "", offered: false, run: () => void router.push(to) });
  const word = (key: string) => t(key as keyof typeof table);
  return [
    ...chapters.map((c) => way(String(c.n), word(`${c.n}.title`), word(`${c.n}.short`), { name: "guide-chapter", params: { chapter: String(c.n) } })),
    way("healthy", t("healthy"), page("nav.guide"), { name: "guide-chapter", params: { chapter: "healthy" } }),
    ...ruleIds.map((rule) => way(`rules/${rule}`, tOr(`dx.rule.${rule}`, rule), rule, { name: "guide-rule", params: { rule } })),
  ];
}
