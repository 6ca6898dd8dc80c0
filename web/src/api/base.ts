// Where the centre is: the path it is served under, which it wrote into the page.

/** The base path with a slash at both ends: "/" or "/ops/". */
export function basePath(doc: Document = document): string {
  const p = doc.querySelector<HTMLMetaElement>('meta[name="ops-base"]')?.content.replace(/^\/+|\/+$/g, "") ?? "";
  return p ? `/${p}/` : "/";
}

/** The path of something of the centre's, given relative to the base path. */
export const path = (relative: string): string => basePath() + relative.replace(/^\/+/, "");
