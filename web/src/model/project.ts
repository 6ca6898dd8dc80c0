// The chosen project, from page to page: who looks at one of several projects
// goes on looking at it.
import { one, type Query } from "./url";

/** An address as the router has it. */
export interface Place {
  path: string;
  query: Query;
}

// What names its subject in its own words is not narrowed: it may be another project's.
const subjects = ["project", "service", "instance"];

/** The query of to with the project of from, or null where to is right as it is. */
export function carryProject(to: Place, from: Place): Query | null {
  const project = one(from.query, "project");
  // On one page, leaving the project out is the wish to see all of them.
  if (!project || to.path === from.path || subjects.some((k) => k in to.query)) return null;
  return { ...to.query, project };
}
