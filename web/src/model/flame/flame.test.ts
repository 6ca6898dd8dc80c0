import { describe, expect, test } from "vitest";
import { difference } from "./diff";
import { at, hits, keyOf, layout, nodeOf, pathOf, rowCount, sideways, vertical, type Layout } from "./layout";
import { fit, framesOf, originOf, packageOf, packagesOf, search, spellings } from "./names";
import { flameDefaults, flameKeys, formatFlame, formatSide, parseFlame, parseSide, type FlameState } from "./state";
import { around, sortTable, tableOf } from "./table";
import { Builder, collapseRecursion, hide, invert, normalised, sandwich, through, treeOf, type Frames, type Tree } from "./tree";
import { view } from "./view";

// A tree is written as it is drawn: a node a line, indented, with its own value,
// of a comparison before→after.
function tree(text: string): { t: Tree; frames: Frames } {
  const names = [""];
  const [frame, depth, self, base] = [[0], [0], [0], [0]] as [number[], number[], number[], number[]];
  for (const line of text.trim().split("\n")) {
    const [, indent, name, values] = /^( *)(\S+) *(\S*)$/.exec(line.replace(/^\t+/, ""))!;
    if (!names.includes(name!)) names.push(name!);
    frame.push(names.indexOf(name!));
    depth.push(indent!.length / 2 + 1);
    const [a, b] = (values || "0").split("→").map(Number);
    base.push(b === undefined ? NaN : a!);
    self.push(b ?? a!);
  }
  const compared = base.slice(1).some((v) => !Number.isNaN(v));
  const t = treeOf(Uint32Array.from(frame), Uint16Array.from(depth), Float64Array.from(self), compared ? Float64Array.from(base, (v) => v || 0) : null);
  return { t, frames: { names, files: names.map((n) => (n ? `/src/${n}.go` : "")), lines: names.map(() => 1) } };
}

function draw(l: Layout, frames: Frames): string {
  const out: string[] = [];
  for (let i = 0; i < l.frame.length; i++) {
    const value = l.base ? `${l.base[i]}→${l.value[i]} wide ${l.width[i]}` : `${l.value[i]}`;
    out.push(`${l.depth[i]! < 0 ? "^" : ""}${"  ".repeat(Math.abs(l.depth[i]!))}${frames.names[l.frame[i]!] || "all"} ${value} @${l.x[i]}`);
  }
  return out.join("\n");
}

const shop = `
main
  serve 2
    parse 3
      alloc 5
    save 10
      lock 20
  gc 1
    alloc 4
`;

const only = { through: [] as string[], hide: [], recursion: false, callers: false, sandwich: "", normalise: false };

describe("layout", () => {
  test("the widest comes first, and each row goes from left to right", () => {
    const { t, frames } = tree(shop);
    const l = layout(t, frames);
    expect(draw(l, frames)).toMatchInlineSnapshot(`
      "all 45 @0
        main 45 @0
          serve 40 @0
            save 30 @0
              lock 20 @0
            parse 8 @30
              alloc 5 @30
          gc 5 @40
            alloc 4 @40"
    `);
    expect(rowCount(l)).toBe(5);
    expect([...l.rowStart]).toEqual([0, 1, 2, 4, 7, 9]);
  });

  test("what lies under a place", () => {
    const { t, frames } = tree(shop);
    const l = layout(t, frames);
    const under = (row: number, v: number) => (at(l, row, v) < 0 ? "-" : frames.names[l.frame[at(l, row, v)]!]);
    expect([under(2, 0), under(2, 39.9), under(2, 40), under(2, 45), under(3, 31), under(3, 39), under(4, 29), under(4, 30)]).toEqual(["serve", "serve", "gc", "-", "parse", "-", "-", "alloc"]);
  });

  test("a node is named the same whatever else is drawn", () => {
    const { t, frames } = tree(shop);
    const a = layout(t, frames);
    const b = layout(through(t, framesOf(frames, "lock")), frames);
    const find = (l: Layout, name: string) => l.frame.indexOf(frames.names.indexOf(name));
    expect(nodeOf(b, keyOf(a, find(a, "save")))).toBe(find(b, "save"));
    expect(nodeOf(b, keyOf(a, find(a, "gc")))).toBe(-1);
    expect(nodeOf(a, "")).toBe(-1);
    expect(new Set(a.key).size).toBe(a.key.length);
    expect(pathOf(a, find(a, "lock")).map((n) => frames.names[a.frame[n]!])).toEqual(["", "main", "serve", "save", "lock"]);
  });

  test("keys go in, out and sideways", () => {
    const { t, frames } = tree(shop);
    const l = layout(t, frames);
    const name = (n: number) => frames.names[l.frame[n]!] || "all";
    let n = 0;
    const way = [1, 1, 1, 1, 1, -1].map((by) => name((n = vertical(l, n, by as 1 | -1))));
    expect(way).toEqual(["main", "serve", "save", "lock", "lock", "save"]);
    expect(name(sideways(l, n, 1, 0))).toBe("parse");
    expect(name(sideways(l, n, 1, 6))).toBe("parse");
    expect(name(sideways(l, n, 1, 9))).toBe("save");
    expect(name(sideways(l, n, -1, 0))).toBe("save");
  });

  test("a wide tree of many nodes keeps its order", () => {
    const b = new Builder(0, false);
    for (let i = 1; i <= 5000; i++) b.add(b.child(b.child(0, i), 5000 - (i % 7)), i, 0);
    const names = ["", ...Array.from({ length: 5001 }, (_, i) => `f${i}`)];
    const l = layout(b.done(), { names, files: names, lines: names.map(() => 0) });
    expect([l.frame.length, l.value[0], l.frame[1]]).toEqual([10_001, 12_502_500, 5000]);
    for (let i = l.rowStart[1]! + 1; i < l.rowStart[2]!; i++) expect(l.x[l.rows[i]!]!).toBe(l.x[l.rows[i - 1]!]! + l.width[l.rows[i - 1]!]!);
  });
});

describe("transforms keep the sum, or say what is left", () => {
  const { t, frames } = tree(shop);
  const shown = (of: Tree) => draw(layout(of, frames), frames);
  test("through a function", () =>
    expect(shown(through(t, framesOf(frames, "alloc")))).toMatchInlineSnapshot(`
      "all 9 @0
        main 9 @0
          serve 5 @0
            parse 5 @0
              alloc 5 @0
          gc 4 @5
            alloc 4 @5"
    `));
  test("without a function", () =>
    expect(shown(hide(t, framesOf(frames, "serve")))).toMatchInlineSnapshot(`
      "all 45 @0
        main 45 @0
          save 30 @0
            lock 20 @0
          parse 8 @30
            alloc 5 @30
          gc 5 @38
            alloc 4 @38"
    `));
  test("turned round", () =>
    expect(shown(invert(t))).toMatchInlineSnapshot(`
      "all 45 @0
        lock 20 @0
          save 20 @0
            serve 20 @0
              main 20 @0
        save 10 @20
          serve 10 @20
            main 10 @20
        alloc 9 @30
          parse 5 @30
            serve 5 @30
              main 5 @30
          gc 4 @35
            main 4 @35
        parse 3 @39
          serve 3 @39
            main 3 @39
        serve 2 @42
          main 2 @42
        gc 1 @44
          main 1 @44"
    `));
  test("with what is above and below", () => {
    const s = sandwich(t, framesOf(frames, "alloc"))!;
    expect(draw(layout(s.callees, frames, s.callers), frames)).toMatchInlineSnapshot(`
      "alloc 9 @0
      ^  parse 5 @0
      ^    serve 5 @0
      ^      main 5 @0
      ^  gc 4 @5
      ^    main 4 @5"
    `);
    expect(sandwich(t, framesOf(frames, "nothing"))).toBeNull();
  });
  test("recursion", () => {
    const r = tree("walk 1\n  walk 2\n    walk 3\n      leaf 4\n    leaf 5");
    expect(draw(layout(collapseRecursion(r.t), r.frames), r.frames)).toMatchInlineSnapshot(`
      "all 15 @0
        walk 15 @0
          leaf 9 @0"
    `);
  });
});

describe("comparisons", () => {
  const { t, frames } = tree("main 0→0\n  old 10→0\n  both 20→30\n  new 0→30");
  test("what is gone has a width too", () =>
    expect(draw(layout(t, frames), frames)).toMatchInlineSnapshot(`
      "all 30→60 wide 70 @0
        main 30→60 wide 70 @0
          both 20→30 wide 30 @0
          new 0→30 wide 30 @30
          old 10→0 wide 10 @60"
    `));
  test("scaled, what comes after has the sum of what was before", () => {
    const v = view(t, frames, { ...only, normalise: true });
    expect([v.total, v.baseTotal]).toEqual([30, 30]);
    expect([...normalised(t).self]).toEqual([0, 0, 0, 15, 15]);
  });
  test.each([
    [10, 0, 0, "gone", -10], [0, 10, 0, "new", 10], [10, 12, 0, "more", 2], [12, 10, 0, "less", -2], [10, 10, 0, "same", 0], [100, 104, 0.05, "same", 4], [0, 0, 0, "same", 0],
  ] as const)("%d to %d of 100, at least %d: %s", (before, after, least, change, delta) => expect(difference(before, after, 100, least)).toMatchObject({ change, delta }));
  test("a tenth of the whole is as strong as it gets", () => expect([0.001, 0.025, 0.1, 0.9].map((s) => difference(0, s, 1, 0).strength)).toEqual([0.1, 0.5, 1, 1]));
});

describe("by function", () => {
  const { t, frames } = tree("main\n  walk 1\n    walk 2\n      leaf 3\n    leaf 4\n  leaf 5");
  const l = layout(t, frames);
  const name = (f: number) => frames.names[f]!;
  test("a function inside itself counts once", () => {
    const table = tableOf(l, frames);
    const rows = [...sortTable(table, frames, "total", true, null, false)].map((i) => `${name(table.frame[i]!)} ${table.self[i]} ${table.total[i]}`);
    expect(rows).toEqual(["main 0 15", "leaf 12 12", "walk 3 10"]);
    expect([...sortTable(table, frames, "name", false, null, false)].map((i) => name(table.frame[i]!))).toEqual(["leaf", "main", "walk"]);
    expect([...sortTable(table, frames, "self", true, search(frames, "A"), false)].map((i) => name(table.frame[i]!))).toEqual(["leaf", "walk", "main"]);
    expect([...sortTable(table, frames, "self", true, search(frames, "lk"), false)].map((i) => name(table.frame[i]!))).toEqual(["walk"]);
  });
  test("who calls whom; a call by itself is none", () => {
    const edges = (list: { frame: number; value: number }[]) => list.map((e) => `${name(e.frame)} ${e.value}`);
    const a = around(l, frames.names.indexOf("walk"));
    expect([a.self, a.total, edges(a.callers), edges(a.callees)]).toEqual([3, 10, ["main 10"], ["leaf 7"]]);
    const leaf = around(l, frames.names.indexOf("leaf"));
    expect([leaf.total, edges(leaf.callers), edges(leaf.callees)]).toEqual([12, ["walk 7", "main 5"], []]);
    expect(around(l, frames.names.indexOf("main")).callers).toEqual([]);
  });
  test("the changes, the largest first", () => {
    const d = tree("main 0→0\n  old 10→0\n  both 20→30\n  new 0→5");
    const table = tableOf(layout(d.t, d.frames), d.frames);
    expect([...sortTable(table, d.frames, "delta", true, null, true)].map((i) => d.frames.names[table.frame[i]!])).toEqual(["both", "old", "new", "main"]);
  });
});

describe("what is looked for", () => {
  const { t, frames } = tree(shop);
  test("one inside another counts once", () => {
    const l = layout(t, frames);
    const h = hits(l, search(frames, "a")!); // main, parse, alloc, save
    expect([h.value, h.nodes.length]).toEqual([45, 5]);
    expect(hits(l, search(frames, "LOC")!)).toMatchObject({ value: 29 });
    expect(hits(l, search(frames, "/src/gc.go")!)).toMatchObject({ value: 5 });
    expect(search(frames, "  ")).toBeNull();
  });
  test("nothing of it is in the view", () => {
    const v = view(t, frames, { ...only, through: ["gone"], sandwich: "lost" });
    expect([v.missing, v.total, v.layout === v.main]).toEqual([["gone", "lost"], 45, true]);
  });
  test("stacks through one of several count once, and those that are not there are named", () => {
    const v = view(t, frames, { ...only, through: ["alloc", "parse", "gone", "lock"] });
    expect([v.missing, v.main.value[0], v.total]).toEqual([["gone"], 5 + 3 + 4 + 20, 45]);
  });
  test("the table stays that of all stacks when one function is drawn", () => {
    const v = view(t, frames, { ...only, sandwich: "alloc", hide: ["gc"] });
    expect([v.total, v.layout.value[0], v.table.frame.length]).toEqual([45, 9, 6]);
  });
});

describe("names", () => {
  const all = ["", "example.com/game/room.(*Room).PlaceBet", "room.(*Room).PlaceBet", "main.main", "net/http.(*conn).serve", "gopkg.in/yaml%2ev3.Unmarshal", "slices.SortFunc[go.shape.[]example.com/x.T,go.shape.int].func1"];
  const frames: Frames = { names: all, files: all, lines: all.map(() => 0) };
  test.each([
    ["main.main", "main", "own"], ["runtime.mallocgc", "runtime", "runtime"], ["internal/runtime/maps.(*Map).get", "internal/runtime/maps", "runtime"], ["net/http.(*conn).serve", "net/http", "std"],
    ["github.com/jackc/pgx/v5.(*Conn).Query", "github.com/jackc/pgx/v5", "other"], ["gopkg.in/yaml%2ev3.Unmarshal", "gopkg.in/yaml.v3", "other"], ["game/room.(*Room[example.com/x.T]).Bet", "game/room", "own"], ["memclr", "memclr", "runtime"], ["(pruned)", "(pruned)", "none"], ["[libc.so]", "[libc.so]", "none"],
  ])("%s is of %s, %s", (name, pkg, origin) => expect([packageOf(name), originOf(name)]).toEqual([pkg, origin]));
  test("the program's own module is one's own", () => expect([originOf("example.com/game/room.Bet", "example.com/game"), originOf("example.com/gamer.Bet", "example.com/game")]).toEqual(["own", "other"]));
  test("a function is meant with or without the path of its package", () => {
    expect([...framesOf(frames, "room.(*Room).PlaceBet")]).toEqual([0, 0, 1, 0, 0, 0, 0]);
    expect([...framesOf(frames, "http.(*conn).serve")]).toEqual([0, 0, 0, 0, 1, 0, 0]);
    expect(framesOf(frames, "").includes(1)).toBe(false);
    expect([...packagesOf(frames, ["main", "net/http"])]).toEqual([0, 0, 0, 1, 1, 0, 0]);
  });
  test("less room, shorter name", () => {
    const list = spellings("example.com/game/room.(*Room).PlaceBet");
    expect([60, 24, 17, 10, 3].map((n) => fit(list, n))).toEqual(["example.com/game/room.(*Room).PlaceBet", "room.(*Room).PlaceBet", "(*Room).PlaceBet", "….PlaceBet", ""]);
    expect(spellings(all[6]!)).toContain("slices.SortFunc[…].func1");
  });
});

describe("the address", () => {
  test("is empty for what is usual", () => expect([formatFlame(flameDefaults), parseFlame({})]).toEqual([{}, flameDefaults]));
  test("says everything else, and reads it back", () => {
    const s: FlameState = {
      profile: "heap", type: "inuse_space", sum: true, lines: true, focus: ["main.(*T[go.shape.int]).Do", "main.operator|"], at: "1z141z4", range: [0.25, 0.5], search: "a b&c", sandwich: "net/http.(*conn).serve", hide: ["runtime", "net/http"], recursion: true, callers: true, up: true,
      selected: "main.main", sort: "delta", desc: false, normalise: true, own: true, least: 0.5,
    };
    const q = formatFlame(s);
    expect(Object.keys(q).sort()).toEqual([...flameKeys].sort());
    expect(parseFlame(q)).toEqual(s);
    expect(parseFlame(formatFlame({ ...flameDefaults, normalise: false }, { ...flameDefaults, normalise: true }), { ...flameDefaults, normalise: true }).normalise).toBe(false);
  });
  test("nonsense is nobody's wish", () => expect(parseFlame({ profile: "../x", at: "<b>", x: "0.9-0.1", sort: "-colour", min: "77", type: "a b" })).toEqual(flameDefaults));
  test.each([
    ["01abc/*", { capture: "01abc", instances: [], before: false }], ["01abc/inst-1", { capture: "01abc", instances: ["inst-1"], before: false }], ["01abc/inst-1+inst-2@before", { capture: "01abc", instances: ["inst-1", "inst-2"], before: true }],
  ])("a side of a comparison: %s", (text, side) => expect([parseSide(text), formatSide(side)]).toEqual([side, text]));
  test.each(["", "x", "../../etc/passwd/*", "01abc/<b>", "01abc/inst-1@after"])("no side: %j", (text) => expect(parseSide(text)).toBeNull());
});
