// Names of functions: which package they are of, whose code that is, how they
// are written where there is little room, and which ones are meant.
import type { Frames, Mask } from "./tree";

/** The import path of a Go function's package; of a name that has none, the name. */
export function packageOf(name: string): string {
  let head = name;
  const bracket = head.indexOf("[");
  if (bracket >= 0) head = head.slice(0, bracket);
  const paren = head.indexOf("(");
  if (paren > 0) head = head.slice(0, paren);
  const slash = head.lastIndexOf("/") + 1;
  const dot = head.indexOf(".", slash);
  return dot >= 0 ? head.slice(0, dot).replaceAll("%2e", ".") : name;
}

export type Origin = "runtime" | "std" | "other" | "own" | "none";

/** Whose code it is: own are the packages of the program's module. Of the standard library are packages without a dot in their first part; what has one is a module. */
export function originOf(name: string, module = ""): Origin {
  if (!name || name.startsWith("(") || name.startsWith("[") || name.startsWith("<")) return "none";
  const pkg = packageOf(name);
  if (pkg === "runtime" || pkg.startsWith("runtime/") || pkg.startsWith("internal/runtime/") || pkg === name) return "runtime";
  if (pkg === "main" || (module && (pkg === module || pkg.startsWith(module + "/")))) return "own";
  return pkg.split("/")[0]!.includes(".") ? "other" : stdRoots.has(pkg.split("/")[0]!) ? "std" : "own";
}

// The first parts of the standard library's packages; other names without a dot are modules of somebody's own.
const stdRoots = new Set("archive bufio bytes cmp compress container context crypto database debug embed encoding errors expvar flag fmt go hash html image index internal io iter log maps math mime net os path plugin reflect regexp slices sort strconv strings structs sync syscall testing text time unicode unique unsafe vendor weak".split(" "));

/** The same name in ever less room: whole, without the path, the method alone. */
export function spellings(name: string): string[] {
  const generic = name.replace(/\[(?:go\.shape\.)?.*\]/, "[…]");
  const end = generic.search(/[([]/);
  const short = generic.slice(generic.lastIndexOf("/", end < 0 ? generic.length : end) + 1);
  const dot = short.indexOf(".");
  const method = dot >= 0 ? short.slice(dot + 1) : short;
  return [...new Set([name, generic, short, method])];
}

/** What of a name fits into so many characters; "" = nothing that says anything. */
export function fit(list: readonly string[], room: number): string {
  for (const s of list) if (s.length <= room) return s;
  const last = list.at(-1)!;
  // The end of a Go name says more than its beginning.
  return room >= 4 ? "…" + last.slice(last.length - room + 1) : "";
}

/** The frames of a function; the rules may leave out the path of its package. */
export function framesOf(f: Frames, name: string): Mask {
  const mask = new Uint8Array(f.names.length);
  if (!name) return mask;
  let any = false;
  f.names.forEach((n, i) => n === name && (mask[i] = 1) && (any = true));
  if (!any) f.names.forEach((n, i) => n.endsWith("/" + name) && (mask[i] = 1));
  return mask;
}

/** The frames of packages. */
export function packagesOf(f: Frames, packages: readonly string[]): Mask {
  const wanted = new Set(packages);
  return Uint8Array.from(f.names, (n) => (n && wanted.has(packageOf(n)) ? 1 : 0));
}

/** The frames that a text is part of, by name or file, whatever the case; null = none is looked for. */
export function search(f: Frames, text: string): Mask | null {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  return Uint8Array.from(f.names, (n, i) => (i > 0 && (n.toLowerCase().includes(wanted) || f.files[i]!.toLowerCase().includes(wanted)) ? 1 : 0));
}
