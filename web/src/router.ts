// Addresses. The fleet is part of the first load; every other page is a chunk.
import { createRouter, createWebHistory, type RouteLocationNormalized, type RouteRecordRaw, type Router, type RouterHistory } from "vue-router";
import { basePath } from "./api/base";
import { t } from "./i18n";
import { carryProject } from "./model/project";
import FleetPage from "./pages/FleetPage.vue";

// The title in a meta is that of the browser's tab; pages that have one and need no
// parameters are offered by the command palette.
export const routes: RouteRecordRaw[] = [
  { path: "/", name: "fleet", component: FleetPage, meta: { title: () => t("nav.fleet") } },
  { path: "/instances/:id", name: "instance", component: () => import("./pages/InstancePage.vue"), props: true },
  { path: "/captures", name: "captures", component: () => import("./pages/CapturesPage.vue"), meta: { title: () => t("nav.captures") } },
  { path: "/captures/:id/:tab?", name: "capture", component: () => import("./pages/CapturePage.vue"), props: true },
  { path: "/compare", name: "compare", component: () => import("./pages/compare/ComparePage.vue"), meta: { title: () => t("detail.compare") } },
  { path: "/console", name: "console", component: () => import("./console/ConsolePage.vue"), meta: { title: () => t("cmd.console") } },
  { path: "/control", name: "control", component: () => import("./control/ControlPage.vue") },
  { path: "/audit", name: "audit", component: () => import("./audit/AuditPage.vue"), meta: { title: () => t("nav.audit") } },
  { path: "/rules", name: "rules", component: () => import("./rules/RulesPage.vue"), meta: { title: () => t("nav.rules") } },
  { path: "/notifications", name: "notifications", component: () => import("./notify/NotifyPage.vue"), meta: { title: () => t("nav.notify") } },
  { path: "/account", name: "account", component: () => import("./account/AccountPage.vue"), meta: { title: () => t("nav.account") } },
  { path: "/users", name: "users", component: () => import("./users/UsersPage.vue"), meta: { title: () => t("nav.users") } },
  { path: "/guide", name: "guide", component: () => import("./pages/guide/GuidePage.vue"), meta: { title: () => t("nav.guide") } },
  { path: "/guide/rules/:rule", name: "guide-rule", component: () => import("./pages/guide/RulePage.vue"), props: true },
  { path: "/guide/:chapter", name: "guide-chapter", component: () => import("./pages/guide/ChapterPage.vue"), props: true, meta: { title: (to: RouteLocationNormalized) => `${t("nav.guide")} ${String(to.params["chapter"])}` } },
  { path: "/:rest(.*)*", name: "not-found", component: () => import("./pages/NotFoundPage.vue") },
];

export function createPageRouter(history: RouterHistory = createWebHistory(basePath())): Router {
  const router = createRouter({ history, routes });
  // Where one goes, not where one goes back to: a guard would send Back forward again.
  for (const way of ["push", "replace"] as const) {
    const go = router[way];
    router[way] = (to) => {
      const there = router.resolve(to);
      // Said to be none is said: all of them are wanted.
      const said = typeof to !== "string" && "query" in to && !!to.query && "project" in to.query;
      const query = said ? null : carryProject(there, router.currentRoute.value);
      return go(query ? { ...(typeof to === "string" ? { path: there.path, hash: there.hash } : to), query } : to);
    };
  }
  return router;
}
