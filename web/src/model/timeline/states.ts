// What goroutines do, as every view of the page shows it: a colour, and a height
// and a pattern for those who cannot tell the colours apart.

export const classes = ["running", "gc", "runnable", "syscall", "network", "sync", "channel", "idle"] as const;
/** The order is that of stacked shares, from the bottom. */
export type StateClass = (typeof classes)[number];

export interface Look {
  /** A colour token. */
  tone: string;
  /** Of a row, 0 to 1. */
  height: number;
  hatched: boolean;
}

export const looks: Record<StateClass, Look> = {
  running: { tone: "--x-running", height: 1, hatched: false },
  gc: { tone: "--x-gc", height: 1, hatched: true },
  runnable: { tone: "--x-runnable", height: 0.72, hatched: false },
  syscall: { tone: "--x-syscall", height: 0.72, hatched: false },
  network: { tone: "--x-network", height: 0.45, hatched: false },
  sync: { tone: "--x-sync", height: 0.45, hatched: true },
  channel: { tone: "--x-channel", height: 0.45, hatched: false },
  idle: { tone: "--x-idle", height: 0.18, hatched: false },
};

/** The trace's states by name. Other ones, of a centre that knows more, are idle. */
const classOf: Record<string, StateClass> = { running: "running", "GC assist": "gc", runnable: "runnable", syscall: "syscall", network: "network", sync: "sync", channel: "channel", "GC wait": "gc" };

export const isClass = (s: string): s is StateClass => (classes as readonly string[]).includes(s);

/** The class of each state, by the state's number, as an index into classes. */
export const classIndexes = (states: readonly string[]): Uint8Array => Uint8Array.from(states, (s) => classes.indexOf(classOf[s] ?? "idle"));

/** Nanoseconds in each class, of nanoseconds in each state. */
export function byClass(stateNs: readonly number[], of: Uint8Array): number[] {
  const out = classes.map(() => 0);
  stateNs.forEach((ns, s) => (out[of[s] ?? 7]! += ns));
  return out;
}

/** The state that stands for a class where the centre wants one: its first. */
export const stateOf = (c: StateClass, of: Uint8Array): number => of.indexOf(classes.indexOf(c));
