import { expect, test } from "vitest";
import { atPlace, changeOf, chosen, formatGoroutines, headOf, isObserver, meantBy, packagesOf, parseGoroutines, runsOf, sharesOf, toneOf, type CodeFrame, type GoroutineGroup, type Origin } from "./goroutines";

// A frame is "origin package.function:line"; a stack goes from the leaf to the root.
function frame(s: string): CodeFrame {
  const [, origin = "own", name = "", line = "0"] = /^(\w+) (\S+?):(\d+)$/.exec(s)!;
  const pkg = name.slice(0, name.indexOf(".", name.lastIndexOf("/")));
  return { origin: origin as Origin, function: name, file: `/src/${pkg.split("/").at(-1)}.go`, line: Number(line), pkg };
}

/** A group is "count<before state: frames"; its id is its place in the text. */
function groups(text: string): GoroutineGroup[] {
  return text.trim().split("\n").map((l, n) => {
    const [, count, before, state, stack = "", minutes = "0"] = /^\s*(\d+)<(\d+) ([a-z ]+): (.*?)(?: for (\d+) min)?$/.exec(l)!;
    return {
      id: String(n), count: Number(count), against: Number(before), state: state!, forever: false, wait: null, stack: stack.split(" / ").map(frame), createdBy: null,
      aged: 0, youngest: 0, oldest: Number(minutes) * 60, ids: [], dumped: 0, locked: 0, labels: [],
    };
  });
}

const game = groups(`
  300<12 chan send: runtime runtime.gopark:1 / runtime runtime.chansend1:2 / own example.com/game/ws.(*Hub).Broadcast:71 / own main.main:9 for 4 min
  40<40 net read: runtime runtime.gopark:1 / std internal/poll.(*FD).Read:2 / std net.(*conn).Read:3 / library pgx.(*Conn).read:4 / own example.com/game/db.Write:5
  8<0 select: runtime runtime.selectgo:1 / library redis.(*Pool).reap:6
  0<5 running: own main.spin:3
  1<9 gc: runtime runtime.gcBgMarkWorker:1
`);
const ids = (list: GoroutineGroup[]) => list.map((g) => g.id).join(" ");
const view = (q: string) => parseGoroutines(Object.fromEntries(new URLSearchParams(q)));

test("the first frame is the program's own", () => {
  expect(game.map((g) => headOf(g)?.function)).toEqual(["example.com/game/ws.(*Hub).Broadcast", "example.com/game/db.Write", "redis.(*Pool).reap", "main.spin", "runtime.gcBgMarkWorker"]);
  const idle = groups("1<1 net read: runtime runtime.gopark:1 / std internal/poll.(*FD).Read:2 / std net/http.(*conn).serve:3");
  expect(headOf(idle[0]!)?.function).toBe("net/http.(*conn).serve");
});

test("what changed", () => expect(game.map(changeOf)).toEqual(["grew", "same", "new", "gone", "shrank"]));

test.each([["mutex", "sync"], ["select", "channel"], ["net accept", "network"], ["a state of tomorrow", "idle"]])("%s is %s", (state, tone) => expect(toneOf(state)).toBe(tone));

test.each([
  ["", "0 1 2 4 3"], ["sort=growth", "0 2 4 3 1"], ["sort=age", "0 1 2 4 3"], ["sort=state", "3 1 0 2 4"], ["state=channel", "0 2"], ["state=gc,running", "4 3"], ["change=new", "2"], ["change=gone", "3"],
  ["pkg=main", "3"], ["pkg=example.com/game/ws", "0"], ["q=BROADCAST", "0"], ["q=db.go:5", "1"], ["q=nobody", ""],
  ["at=ws.(*Hub).Broadcast:71", "0"], ["at=ws.(*Hub).Broadcast:72", ""], ["at=db.Write", "1"], ["at=Write", ""], ["at=nobody|db.Write|main.spin:3", "1 3"],
])("%s shows %s", (q, want) => expect(ids(chosen(game, view(q)))).toBe(want));

test("a place of a creation site is a place, too", () => {
  const g = { ...game[2]!, createdBy: frame("own main.start:7") };
  expect([atPlace(g, "main.start:7"), atPlace(game[2]!, "main.start:7")]).toEqual([0, -1]);
});

test("who points at places means the largest group at the first of them", () => {
  expect(meantBy(chosen(game, view("at=db.Write|ws.(*Hub).Broadcast")), "db.Write|ws.(*Hub).Broadcast")?.id).toBe("1");
  expect(meantBy(game, "")).toBeUndefined();
});

test("packages, the program's own first", () => {
  expect(packagesOf(game).map((p) => `${p.pkg} ${p.count}${p.own ? " own" : ""}`)).toEqual(["example.com/game/ws 300 own", "example.com/game/db 40 own", "main 0 own", "redis 8", "runtime 1"]);
});

test("shares come in the order of the palette", () => {
  const states = [{ state: "select", count: 3, against: 1 }, { state: "chan send", count: 4, against: 0 }, { state: "mutex", count: 2, against: 2 }];
  expect(sharesOf(states).map((s) => `${s.tone} ${s.count} (${s.against}): ${s.states.join()}`)).toEqual(["sync 2 (2): mutex", "channel 7 (1): select,chan send"]);
});

test("frames that nobody can change fold, unless there is nothing else", () => {
  const text = (g: GoroutineGroup) => runsOf(g.stack).map((r) => `${r.foldable ? "+" : ""}${r.frames.length}`).join(" ");
  expect(game.map(text)).toEqual(["+2 2", "+3 2", "1 1", "1", "1"]);
  expect(runsOf([])).toEqual([]);
});

test.each(["", "snap=goroutine.txt&base=none&q=hold&state=sync,channel&pkg=main&change=grew&at=main.f:3&sort=growth&group=ab"])("the address %j is what it shows", (q) => {
  expect(decodeURIComponent(new URLSearchParams(formatGoroutines(view(q))).toString())).toBe(q);
});

test("an address that nobody made is the usual view", () => expect(formatGoroutines(view("sort=height&base=yesterday&change=fun"))).toEqual({}));

test("who came through the agent's middleware is no observer, who works for it is", () => {
  const [request, watcher, tunnel] = groups(`
    11<1 mutex: runtime runtime.gopark:1 / std sync.(*Mutex).Lock:2 / own main.(*Room).place:3 / observer example.com/agent.middleware:4 / std net/http.(*conn).serve:5
    1<1 running: std runtime/pprof.writeGoroutine:1 / observer example.com/agent.(*window).snapshot:2 / own main.main:9
    1<1 chan receive: runtime runtime.gopark:1 / library grpc.(*Server).Serve:2
  `);
  expect([isObserver(request!), isObserver(watcher!), isObserver(tunnel!), isObserver({ ...tunnel!, createdBy: frame("observer example.com/agent.(*Agent).tunnel:7") })]).toEqual([false, true, false, true]);
});
