import { expect, test } from "vitest";
import { clear, paintRow, palette, type Surface } from "./paint";
import { heights, keyOf, rowAt, rowsOf, totalHeight, trackOf, visibleRows, type RowsInput } from "./rows";
import { byClass, classes, classIndexes, looks, stateOf, type StateClass } from "./states";
import { decodeRow, intervalAt, TileCache, type Intervals, type PlacedRow, type Shares, type WireRow } from "./tile";
import { formatTimeline, fresh, parseTimeline, type TimelineState } from "./url";
import { around, clamp, clockText, levelFor, pan, ticks, tileSpan, tilesOf, zoom } from "./window";

test("every state of a trace has a class, and a class a state", () => {
  const states = ["running", "GC assist", "runnable", "syscall", "network", "sync", "channel", "GC wait", "sleep", "idle", "other", "of next year"];
  const of = classIndexes(states);
  expect([...of].map((c) => classes[c])).toEqual(["running", "gc", "runnable", "syscall", "network", "sync", "channel", "gc", "idle", "idle", "idle", "idle"]);
  expect(byClass([5, 1, 0, 0, 0, 7, 0, 2, 10, 20], of)).toEqual([5, 3, 0, 0, 0, 7, 0, 30]);
  expect(states[stateOf("sync", of)]).toBe("sync");
  // Height or pattern tells apart what colours may not.
  const channels = classes.map((c) => `${looks[c].height} ${looks[c].hatched}`);
  expect(new Set(channels).size).toBeGreaterThanOrEqual(6);
});

test("a range stays within the trace, and zooming keeps what is pointed at", () => {
  expect(clamp({ from: -500, to: 9_500 }, 1e6)).toEqual({ from: 0, to: 10_000 });
  expect(clamp({ from: 995_000, to: 1_005_000 }, 1e6)).toEqual({ from: 990_000, to: 1e6 });
  expect(clamp({ from: 0, to: 9e9 }, 1e6)).toEqual({ from: 0, to: 1e6 });
  expect(clamp({ from: 10, to: 11 }, 1e6)).toEqual({ from: 10, to: 1010 });
  const near = zoom({ from: 0, to: 1e6 }, 4, 800_000, 1e6);
  expect(near).toEqual({ from: 600_000, to: 850_000 });
  expect((800_000 - near.from) / (near.to - near.from)).toBeCloseTo(0.8);
  expect(zoom(near, 1e9, 700_000, 1e6).to - zoom(near, 1e9, 700_000, 1e6).from).toBe(1000);
  expect(zoom(near, 1 / 1e9, 700_000, 1e6)).toEqual({ from: 0, to: 1e6 });
  expect(pan({ from: 0, to: 100_000 }, 0.5, 1e6)).toEqual({ from: 50_000, to: 150_000 });
  expect(around({ from: 500_000, to: 600_000 }, 1e6)).toEqual({ from: 485_000, to: 615_000 });
});

test("tiles have columns of a pixel or half of one, and cover what is seen", () => {
  for (const length of [1e3, 5e6, 1e9, 9.6e9])
    for (const pixels of [600, 1400, 2000]) {
      const level = levelFor({ from: 0, to: length }, pixels);
      const column = 2 ** level / (length / pixels);
      expect(level === 0 || (column <= 1 && column > 0.5), `${length} in ${pixels}`).toBe(true);
    }
  const level = 20;
  expect(tilesOf({ from: tileSpan(level) * 1.5, to: tileSpan(level) * 3.2 }, level, 1e10)).toEqual([1, 2, 3]);
  expect(tilesOf({ from: 0, to: 1e10 }, level, tileSpan(level))).toEqual([0]);
});

test("the axis has round times with the digits that they need", () => {
  expect(ticks({ from: 0, to: 1e9 }, 600).map((t) => t.text)).toEqual(["0.0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s", "1.0 s"]);
  expect(ticks({ from: 412_300_000, to: 412_340_000 }, 330).map((t) => t.text)).toEqual(["412.30 ms", "412.32 ms", "412.34 ms"]);
  expect(clockText(1_234_567, 100)).toBe("1,234.6 µs");
});

const group = (name: string, goroutines: number, ns: Partial<Record<StateClass, number>>) => ({ function: name, goroutines, classNs: classes.map((c) => ns[c] ?? 0) });
const input: RowsInput = {
  procs: [0, 1], procsOpen: false, open: new Set(), members: new Map(), pinned: [], only: "",
  groups: [group("main.spin", 300, { running: 9, sync: 1 }), group("main.bet", 4, { sync: 5 }), group("", 2, { idle: 1 })],
};
const shape = (o: Partial<RowsInput>) => rowsOf({ ...input, ...o }).map((r) => `${r.y} ${r.kind} ${r.key}${r.count ? ` ×${r.count}` : ""}`);

test("rows are Ps, then groups, with what is open and pinned", () => {
  expect(shape({})).toEqual(["0 procs ps ×2", "28 group fmain.spin ×300", "62 group fmain.bet ×4", "96 group f ×2"]);
  expect(shape({ procsOpen: true, open: new Set(["main.bet"]), members: new Map([["main.bet", { ids: [7, 9], total: 4 }]]), pinned: [9] })).toEqual([
    "0 goroutine pin9", "22 procs ps ×2", "50 proc p0", "66 proc p1", "82 group fmain.spin ×300", "116 group fmain.bet ×4", "150 goroutine g7", "172 goroutine g9", "194 more moremain.bet ×2", "216 group f ×2",
  ]);
  expect(shape({ only: "sync" }).map((r) => r.split(" ")[2])).toEqual(["ps", "fmain.bet", "fmain.spin", "f"]);
});

test("only rows that are seen are drawn", () => {
  const rows = rowsOf({ ...input, open: new Set(["main.spin"]), members: new Map([["main.spin", { ids: Array.from({ length: 1000 }, (_, n) => n + 1), total: 1000 }]]) });
  expect(totalHeight(rows)).toBe(heights.procs + 3 * heights.group + 1000 * heights.goroutine);
  const seen = visibleRows(rows, 10_000, 440);
  expect([seen.length, seen[0]!.key]).toEqual([21, "g452"]);
  expect(rowAt(rows, 0)).toBe(0);
  expect(rowAt(rows, 1e9)).toBe(-1);
  expect(visibleRows([], 0, 100)).toEqual([]);
});

test.each(["p0", "g4388", "fmain.(*Engine).Spin", "f"])("a track's name %s leads back to it", (key) => expect(keyOf(trackOf(key)!)).toBe(key));
test.each(["", "g", "gx", "p-1", "x1"])("%j names no track", (key) => expect(trackOf(key)).toBeNull());

// Pictures as text: a letter for each class, a line for each row of pixels.
const letters = "rGySnlc.";
const tone = (token: string) => ({ "--s1": "#000000", "--bg": "#ffffff" })[token] ?? `#0000${(10 + classes.findIndex((c) => looks[c].tone === token)).toString(16).padStart(2, "0")}`;
const colours = palette(tone, new Set());

function picture(row: Intervals | Shares, from: number, to: number, width: number, height: number, tile = { from: 0, to: 100 }): string[] {
  const s: Surface = { width, height, pixels: new Uint32Array(width * height), range: { from, to }, scale: 1 };
  clear(s, colours);
  const placed: PlacedRow = { row, level: 0, index: 0, ...tile };
  paintRow(s, colours, placed, tile, 0, height);
  return Array.from({ length: height }, (_, y) => [...s.pixels.subarray(y * width, (y + 1) * width)].map((p) => (p === colours.background ? " " : (letters[[...colours.plain].indexOf(p)] ?? "/"))).join(""));
}

function intervals(text: string): Intervals {
  const list = text.split(" ").map((s) => s.split(":") as [string, string, string]);
  const n = list.length;
  return {
    kind: "intervals", from: Float64Array.from(list, (i) => Number(i[0])), to: Float64Array.from(list, (i) => Number(i[1])), class: Uint8Array.from(list, (i) => letters.indexOf(i[2])),
    state: new Uint8Array(n), reason: new Uint8Array(n), stack: new Uint16Array(n), wakerStack: new Uint16Array(n), who: new Float64Array(n), stacks: [[]],
  };
}

test("intervals have the height of their state, and what is hatched is hatched", () => {
  expect(picture(intervals("0:40:r 40:60:y 60:100:n"), 0, 100, 10, 7)).toEqual(["rrrr      ", "rrrr      ", "rrrryy    ", "rrrryy    ", "rrrryynnnn", "rrrryynnnn", "rrrryynnnn"]);
  expect(picture(intervals("0:100:l"), 0, 100, 12, 2)).toEqual(["            ", "/llll//llll/"]);
  expect(picture(intervals("10:20:r 80:90:."), 0, 100, 10, 5)[4]).toBe(" r      . ");
});

test("what is shorter than a pixel is a share of it, and never lost", () => {
  const many = intervals(Array.from({ length: 40 }, (_, n) => `${n * 2.5}:${n * 2.5 + 1.25}:r ${n * 2.5 + 1.25}:${n * 2.5 + 2.5}:y`).join(" "));
  const shown = picture(many, 0, 100, 4, 8);
  for (let x = 0; x < 4; x++) {
    const column = shown.map((l) => l[x]).join("");
    expect(column.match(/r/g)?.length).toBeGreaterThanOrEqual(3);
    expect(column.match(/y/g)?.length).toBeGreaterThanOrEqual(3);
  }
});

const shares = (planes: Partial<Record<StateClass, number[]>>): Shares => ({ kind: "shares", columns: 4, goroutines: new Float32Array(4).fill(3), planes: classes.map((c) => (planes[c] ? Uint8Array.from(planes[c]!) : null)) });

test("shares stand on each other in a fixed order", () => {
  expect(picture(shares({ running: [255, 128, 0, 0], network: [0, 127, 255, 0] }), 0, 100, 4, 4)).toEqual(["rnn ", "rnn ", "rrn ", "rrn "]);
  // Wider than its columns, narrower than them, and a part of it.
  expect(picture(shares({ running: [255, 0, 255, 0] }), 0, 100, 8, 1)).toEqual(["rr  rr  "]);
  expect(picture(shares({ running: [255, 0, 255, 255], idle: [0, 255, 0, 0] }), 0, 100, 2, 2)).toEqual([".r", "rr"]);
  expect(picture(shares({ running: [255, 0, 0, 0] }), 0, 50, 4, 1)).toEqual(["rr  "]);
});

test("what is not highlighted is nearly the background", () => {
  const some = palette(tone, new Set(["sync"]));
  expect(some.plain[classes.indexOf("sync")]).toBe(colours.plain[classes.indexOf("sync")]);
  expect(some.plain[classes.indexOf("running")]).not.toBe(colours.plain[classes.indexOf("running")]);
});

const bytes = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer);
const none = new Uint8Array();

test("rows are read from the wire, whatever their alignment", () => {
  const of = classIndexes(["running", "GC assist", "runnable", "syscall", "network", "sync", "channel", "GC wait", "sleep", "idle"]);
  const odd = new Uint8Array(17);
  odd.set(bytes(Float64Array.of(5, 9)), 1);
  const wire: WireRow = { fromNs: odd.subarray(1), toNs: bytes(Float64Array.of(9, 12)), state: Uint8Array.of(5, 0), reason: Uint8Array.of(6, 0), stack: bytes(Uint16Array.of(1, 0)), wakerStack: bytes(Uint16Array.of(0, 1)), goroutine: bytes(Float64Array.of(0, -7)), shareStates: none, shares: none, goroutines: none };
  const r = decodeRow(wire, [[], [{ function: "sync.Lock", file: "m.go", line: 3, own: false }]], of) as Intervals;
  expect([[...r.from], [...r.to], [...r.class].map((c) => classes[c]), [...r.who]]).toEqual([[5, 9], [9, 12], ["sync", "running"], [0, -7]]);
  expect([intervalAt(r, 4), intervalAt(r, 5), intervalAt(r, 8.9), intervalAt(r, 9), intervalAt(r, 12)]).toEqual([-1, 0, 0, 1, -1]);
  const s = decodeRow({ ...wire, fromNs: none, toNs: none, state: none, reason: none, stack: none, wakerStack: none, goroutine: none, shareStates: Uint8Array.of(0, 8, 9), shares: Uint8Array.of(255, 0, 0, 100, 0, 155), goroutines: bytes(Float32Array.of(1, 3)) }, [], of) as Shares;
  expect([s.columns, [...s.planes[0]!], [...s.planes[7]!], [...s.goroutines]]).toEqual([2, [255, 0], [0, 255], [1, 3]]);
});

test("the cache keeps what was drawn last, and knows wider tiles", () => {
  const c = new TileCache(3 * 250);
  const row = shares({ running: [1, 2, 3, 4] });
  c.put("g1", 5, 6, row);
  c.put("g2", 5, 6, row);
  c.put("g3", 5, 6, row);
  expect(c.get("g1", 5, 6)?.from).toBe(6 * tileSpan(5));
  c.put("g4", 5, 6, row);
  expect([c.get("g2", 5, 6), c.get("g1", 5, 6)?.row]).toEqual([undefined, row]);
  expect(c.nearest("g1", 3, 27)?.level).toBe(5);
  expect(c.nearest("g1", 3, 28)).toBeUndefined();
});

const state = (s: Partial<TimelineState>): TimelineState => ({ ...fresh, ...s });

test.each<[string, TimelineState, Record<string, string>]>([
  ["nothing", state({}), {}],
  ["a range", state({ range: { from: 412_300_000, to: 498_700_123 } }), { t: "412.3-498.700123" }],
  ["a goroutine at a moment", state({ goroutine: 4388, at: 412_300_001 }), { g: "4388", at: "412.300001" }],
  ["a goroutine's longest wait", state({ goroutine: 4388 }), { g: "4388" }],
  ["what is open", state({ procs: true, open: ["main.(*Engine).Spin", "main.F[a,b]", "50%", ""].filter(Boolean), pinned: [7, 9] }), { ps: "1", groups: "main.(*Engine).Spin,main.F[a%2Cb],50%25", pin: "7,9" }],
  ["a selection", state({ selection: { from: 0, to: 1_000_000, tracks: ["ps", "g7", "fmain.F[a,b]"] } }), { sel: "0-1", of: "ps,g7,fmain.F[a%2Cb]" }],
  ["states and marks", state({ only: ["running", "sync"], marks: [1, 2_500_000] }), { only: "running,sync", mark: "0.000001,2.5" }],
])("%s goes into the address and back", (_, s, query) => {
  expect(formatTimeline(s)).toEqual(query);
  expect(parseTimeline(query)).toEqual(s);
});

test.each([{ t: "9-3" }, { t: "x" }, { t: "-" }, { g: "-1" }, { g: "1e3" }, { sel: "1" }, { only: "everything" }, { mark: "never,-1" }, { at: "5" , g: "0" }, { pin: "a,b" }, {}])("%j shows the whole trace", (q) => expect({ ...parseTimeline(q as Record<string, string>), at: -1 }).toEqual(fresh));
