// Keys. Every command is a row of a table: what its key is, what it says in the
// "?" list, what it does. The list is made from the rows that are alive.
import { onScopeDispose, shallowReactive } from "vue";
import { t, type Key } from "../i18n";

export interface Command {
  /** As the list shows it: "/", "c", "↑ ↓". */
  keys: string;
  /** Whether a key press is this command's; null = the command is only listed, someone else acts on it. */
  match: ((e: KeyboardEvent) => boolean) | null;
  /** A key of the page's words, or a feature's own sentence. */
  label: Key | (() => string);
  /** Returns false to let the next command that matches have it. */
  run: () => void | boolean;
  /** Commands of a page are listed apart from those of everywhere. */
  scope: "everywhere" | "page";
  /** It works in text fields and dialogs too: Escape. */
  always?: boolean;
  /** It is pressed together with Ctrl, or ⌘: it works in text fields, too, but not over a dialog. */
  chord?: boolean;
}

export const labelOf = (c: Command): string => (typeof c.label === "string" ? t(c.label) : c.label());

const table = shallowReactive(new Set<Command>());

/** Every command alive now, the newest last. */
export const commands: ReadonlySet<Command> = table;

/** Keeps commands alive as long as the scope is. */
export function useCommands(...list: Command[]): void {
  for (const c of list) table.add(c);
  onScopeDispose(() => {
    for (const c of list) table.delete(c);
  });
}

/** A letter by the place of its key, so that other layouts and input methods do not matter; no modifiers. */
export const letter = (l: string) => (e: KeyboardEvent) => e.code === "Key" + l.toUpperCase() && !e.shiftKey;

/** A letter with Ctrl, or with ⌘ where that is the key for it. */
export const chord = (l: string) => (e: KeyboardEvent) => e.code === "Key" + l.toUpperCase() && (e.ctrlKey || e.metaKey) && !e.shiftKey && !e.altKey;

/** How a chord is written on this machine. */
export const chordKeys = (l: string): string => (/mac|iphone|ipad/i.test(navigator.platform) ? `⌘ ${l}` : `Ctrl ${l}`);

export const question = (e: KeyboardEvent): boolean => e.key === "?" || e.key === "？" || (e.code === "Slash" && e.shiftKey);
export const slash = (e: KeyboardEvent): boolean => e.key === "/" || (e.code === "Slash" && !e.shiftKey && !question(e));
export const escape = (e: KeyboardEvent): boolean => e.key === "Escape";

/** Whether the keys belong to a field that is being written in. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLInputElement && !["checkbox", "radio", "button", "submit", "file"].includes(target.type);
}

/** Runs the newest command that wants the key. */
export function dispatch(e: KeyboardEvent): void {
  const held = e.ctrlKey || e.metaKey || e.altKey;
  if (e.defaultPrevented || e.isComposing) return;
  const dialog = document.querySelector('[role="dialog"],[role="alertdialog"]') !== null;
  // A list of choices wants letters, but no question.
  const busy = dialog || (isTyping(e.target) && !(e.target instanceof HTMLSelectElement && question(e)));
  for (const c of [...table].reverse()) {
    if (!c.match || !!c.chord !== held || ((c.chord ? dialog : busy) && !c.always) || !c.match(e)) continue;
    if (c.run() === false) continue;
    e.preventDefault();
    return;
  }
}
