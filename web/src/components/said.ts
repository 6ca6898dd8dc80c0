// What agents and the centre say in English, in the page's language: the
// sentences that they say most. What is not known is told as it was said.
import { locale } from "../i18n";
import { t, type table } from "../pages/captures/words";

type Key = keyof typeof table;
type Rule = [pattern: RegExp, key: Key, names: string[]];

const losses: Rule[] = [
  [/^goroutine\.txt was not taken: with (\d+) goroutines it would stop the process for about (.+), and it is only taken below (\d+)$/, "loss.dump", ["n", "time", "max"]],
  [/^(.+) has no goroutine leak profile: build with .*$/, "loss.leakBuild", ["go"]],
  [/^goroutineleak\.pprof was not taken: (.+)$/, "loss.leak", ["why"]],
  [/^there is no CPU profile: (.+)$/, "loss.cpuBusy", ["why"]],
  [/^there is no trace: (.+)$/, "loss.traceBusy", ["why"]],
  [/^the CPU profile was taken in (\d+) segments; (.+) between them were not sampled$/, "loss.segments", ["n", "time"]],
  [/^the trace reached its cap of (\d+) bytes after (\S+) of (\S+): .*$/, "loss.traceCap", ["size", "time", "window"]],
  [/^the capture was stopped before its trace window began: it traced one second after the stop instead of (.+)$/, "loss.stopEarly", ["window"]],
  [/^(\S+) is as of the last garbage collection: none was run for it, because (.+)$/, "loss.noGC", ["file", "why"]],
  [/^(.+) has no (\S+) profile$/, "loss.noProfile", ["go", "kind"]],
  [/^(\S+) was not taken: (.+)$/, "loss.notTaken", ["file", "why"]],
  [/^instance (\S+) was lost while it was captured and did not come back within (\S+)$/, "loss.cameBack", ["id", "time"]],
  [/^cut off: (.+)$/, "loss.cutOff", ["why"]],
  [/^the rest did not arrive: (.+)$/, "loss.rest", ["why"]],
  [/^the rest could not be fetched: (.+)$/, "loss.fetched", ["why"]],
  [/^(.+): what had not arrived by then is missing$/, "loss.missing", ["why"]],
];

const activities: Rule[] = [
  [/^waiting for the instance to come back$/, "act.waiting", []],
  [/^sending the rest again$/, "act.again", []],
  [/^describing the process$/, "act.describing", []],
  [/^first (.+) snapshot$/, "act.first", ["what"]],
  [/^last (.+) snapshot$/, "act.last", ["what"]],
  [/^recording$/, "act.recording", []],
  [/^recording, with trace$/, "act.tracing", []],
  [/^tracing one second more$/, "act.more", []],
  [/^ending CPU profile and trace$/, "act.ending", []],
  [/^goroutine dump$/, "act.dump", []],
  [/^goroutine leaks$/, "act.leaks", []],
  [/^types of heap objects$/, "act.types", []],
  [/^runtime series$/, "act.series", []],
  [/^sending$/, "act.sending", []],
];

function translate(rules: Rule[], said: string): string {
  for (const [pattern, key, names] of rules) {
    const m = pattern.exec(said);
    // A reason within a sentence may itself be one that is known.
    if (m) return t(key, Object.fromEntries(names.map((n, k) => [n, n === "why" ? translate(rules, m[k + 1]!) : m[k + 1]!])));
  }
  return said;
}

const notes: Rule[] = [
  [/^sample of the guide: scenario (\d+)$/, "note.sample", ["n"]],
  [/^sample of the guide: all is well$/, "note.fine", []],
];

/** What a capture was made for; people's own words stay theirs. */
export const noteText = (note: string): string => (locale.value === "en" ? note : translate(notes, note));

/** What is missing, and what that means. */
export const lossText = (message: string): string => (locale.value === "en" ? message : translate(losses, message));

/** What a running capture does now. */
export const activityText = (activity: string): string => translate(activities, activity);
