// What the centre asks for before it lets a change through.

export interface Needs {
  reason: boolean;
  /** The names of which one has to be typed; empty = none. */
  confirm: readonly string[];
  /** Why it is not allowed at all; empty = it is. */
  refused: string;
}

/** Whether the person still has to give something. */
export const lacks = (n: Needs, reason: string, confirm: string): boolean => (n.reason && !reason.trim()) || (n.confirm.length > 0 && !n.confirm.includes(confirm.trim()));
