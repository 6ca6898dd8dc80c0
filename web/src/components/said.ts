// What agents and the centre say in English, in the page's language: the
// sentences that they say most. What is not known is told as it was said.
import { locale } from "../i18n";
import { t, type table } from "../pages/captures/words";

type Key = keyof typeof table;
type Rule = [pattern: RegExp, key: Key, names: string[]];

/** Exported for the test that holds it to what the Go sources say. */
export const losses: Rule[] = [
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
  [/^there is no trace of the past: (.+)$/, "loss.noPast", ["why"]],
  [/^the flight recorder was turned on (\S+) ago: there is nothing of the (\S+) before$/, "loss.pastYoung", ["time", "window"]],
  [/^the flight recorder keeps (\S+) for sure, and (\S+) were asked for$/, "loss.pastShort", ["time", "window"]],
  [/^the types of heap objects are not named: (.+)$/, "loss.types", ["why"]],
  [/^(\S+) was cut: the disk of the spool directory is full$/, "loss.cutDisk", ["file"]],
  [/^(\S+) was cut: writing the spool: (.+)$/, "loss.cutSpool", ["file", "why"]],
  [/^(\S+) was cut: (.+)$/, "loss.cut", ["file", "why"]],
  [/^(\S+) was not finished$/, "loss.unfinished", ["file"]],
  [/^(\d+) more losses are not listed$/, "loss.more", ["n"]],
  [/^the CPU profile did not stop within (\S+): .*$/, "loss.cpuHeld", ["time"]],
  [/^the CPU profile misses (\S+) of the window: (.+)$/, "loss.cpuMisses", ["time", "why"]],
  [/^something else in the process stopped the CPU profile before its time: .*$/, "loss.cpuStopped", []],
  [/^the trace did not stop within (\S+): .*$/, "loss.traceHeld", ["time"]],
  [/^the trace was ended after (\S+) of (\S+), for it was written faster than it could be kept$/, "loss.traceFast", ["time", "window"]],
  [/^something else in the process stopped the trace before its time$/, "loss.traceStopped", []],
  [/^the last (\d+) bytes of the trace were not kept: .*$/, "loss.traceTail", ["size"]],
  [/^no two garbage collections came within (\S+): .*$/, "loss.noPair", ["time"]],
  [/^the agent failed while it was at "(.*)": (.+)$/, "loss.agent", ["what", "why"]],
  [/^there is no writable spool directory \((.+)\): .*$/, "loss.spool", ["why"]],
  [/^the block profile rate of this build cannot be read .*$/, "loss.blockRate", []],
  [/^the process uses (\S+) of its (\S+) cores$/, "loss.busy", ["n", "max"]],
  [/^the collector already ran (\d+) times in the last (\S+)$/, "loss.collected", ["n", "time"]],
  [/^(\d+) goroutines would take about (\d+) MiB and the process is (\d+) MiB from its memory limit$/, "loss.noRoom", ["n", "size", "room"]],
  [/^(\S+) arrived incomplete and is not part of cpu\.pprof: it is kept as it is$/, "loss.segmentCut", ["file"]],
  [/^(\S+) is not part of cpu\.pprof, and kept as it is: (.+)$/, "loss.segmentBad", ["file", "why"]],
  [/^the CPU segments could not be merged, and are kept as they are: (.+)$/, "loss.unmerged", ["why"]],
  [/^recorded in (\d+) segments: (\S+) between them is not covered$/, "loss.gaps", ["n", "time"]],
  [/^covers (\S+) of the (\S+) that were asked for$/, "loss.covers", ["time", "window"]],
  [/^the snapshot from the window's end is missing, so that there is no (\S+) of the window: (\S+) holds the totals of the process up to its start$/, "loss.noEnd", ["file", "other"]],
  [/^the snapshot from the window's start is missing, so that there is no (\S+) of the window: (\S+) holds the totals of the process up to its end$/, "loss.noStart", ["file", "other"]],
  [/^a snapshot arrived incomplete, so that there is no (\S+) of the window: (\S+) and (\S+) are kept as they are$/, "loss.halfPair", ["file", "one", "other"]],
  [/^(\S+) could not be subtracted from (\S+); both are kept as they are: (.+)$/, "loss.unsubtracted", ["one", "other", "why"]],
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
  [/^(.+) took (\S+), (\S+) or longer$/, "note.slow", ["what", "time", "max"]],
];

/** What a capture was made for; people's own words stay theirs. */
export const noteText = (note: string): string => (locale.value === "en" ? note : translate(notes, note));

/** What is missing, and what that means. */
export const lossText = (message: string): string => (locale.value === "en" ? message : translate(losses, message));

/** What a running capture does now. */
export const activityText = (activity: string): string => translate(activities, activity);
