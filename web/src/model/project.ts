// The chosen project, from page to page: who looks at one of several projects
// goes on looking at it.
import { one, type Query } from "./url";

/** An address as the router has it. */
export interface Place {
  path: string;
  query: Query;
}

// These pages have the project among their filters: there, leaving it out is the wish to see all.
const filtering = ["/", "/captures", "/audit", "/rules"];
// What these pages are asked about in words of its own may be another project's.
const subjects = ["service", "instance", "target", "id"];

/** The query of to with the project of from, or null where to is right as it is. */
export function carryProject(to: Place, from: Place): Query | null {
  const project = one(from.query, "project");
  if (!project || "project" in to.query) return null;
  if (filtering.includes(to.path) && (to.path === from.path || subjects.some((k) => k in to.query))) return null;
  return { ...to.query, project };
}

/** The query of a page for another project; "" = all. What a list narrows to besides is of the project that is left. */
export function inProject(path: string, query: Query, project: string): Query {
  const narrowing = filtering.includes(path) ? ["service", "version", "instance", "target", "page", "id"] : [];
  const rest = Object.fromEntries(Object.entries(query).filter(([k]) => k !== "project" && !narrowing.includes(k)));
  // Said and empty, which is the wish not to carry it.
  return { ...rest, project: project || undefined };
}

/** A project as the list of them has it. */
export interface Project {
  name: string;
  /** By language; "" = the name. */
  titles: { en: string; "zh-TW": string };
  /** The configuration knows it. */
  declared: boolean;
  services: number;
  instances: number;
  /** How long its captures are kept, 0 = for ever. */
  keptSeconds: number;
  /** What its captures may take on disk; 0 = its share of everybody's. */
  keptBytes: number;
}

/** What people call it. */
export const titleOf = (p: Project, locale: "en" | "zh-TW"): string => p.titles[locale] || p.titles.en || p.titles["zh-TW"] || p.name;

/** Those whose name or title has the words, in their order. */
export function findProjects(all: readonly Project[], text: string): Project[] {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter((p) => wanted.every((w) => [p.name, p.titles.en, p.titles["zh-TW"]].some((x) => x.toLowerCase().includes(w))));
}
