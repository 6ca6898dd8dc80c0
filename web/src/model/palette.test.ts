import { expect, test } from "vitest";
import { fuzzy, marked } from "./fuzzy";
import { rank, remember, type Entry, type EntryKind } from "./palette";

// What is found stands in brackets.
const found = (query: string, text: string) => {
  const m = fuzzy(query, text);
  return m ? marked(text, m.at).map((p) => (p.on ? `[${p.text}]` : p.text)).join("") : "";
};

test.each([
  ["cap", "New capture", "New [cap]ture"], ["nc", "New capture", "[N]ew [c]apture"], ["grs", "game-record-service", "[g]ame-[r]ecord-[s]ervice"],
  ["record game", "game-record-service", "[game]-[record]-service"], ["us", "user-service", "[us]er-service"], ["10.0.1.9", "10.0.1.9:8080", "[10.0.1.9]:8080"],
  ["擷取", "新的擷取", "新的[擷取]"], ["zz", "New capture", ""], ["ecap", "New capture", "N[e]w [cap]ture"], ["", "anything", "anything"], ["ssv", "user-service", "u[s]er-[s]er[v]ice"], ["vss", "user-service", ""],
])("%s finds %s as %s", (query, text, want) => expect(found(query, text)).toBe(want));

const entries = (text: string): Entry[] => text.trim().split("\n").map((l) => {
  const [kind = "", id = "", title = "", hint = ""] = l.trim().split(" | ");
  return { kind: kind.replace("*", "") as EntryKind, id, title, hint, keys: "", offered: kind.startsWith("*") };
});
const all = entries(`
  *command | cmd/capture | New capture
  *command | cmd/theme | Change the theme
  *page | page/captures | Captures
  service | svc/user | user-service | color-game
  instance | ins/1 | vm/4711 | color-game/user-service
  capture | cap/9 | user-service, 09:31 | slow logins
`);
const ids = (query: string, used: string[] = []) => rank(all, query, used).map((r) => r.entry.id).join(" ");

test("without a query: what was used, then what is offered", () => {
  expect(ids("")).toBe("cmd/capture cmd/theme page/captures");
  expect(ids("", ["cap/9", "gone", "page/captures"])).toBe("cap/9 page/captures cmd/capture cmd/theme");
  expect(rank(all, "", ["cap/9"]).map((r) => r.recent)).toEqual([true, false, false, false]);
});

test("a query finds titles before hints, and prefers what was used", () => {
  expect(ids("user")).toBe("svc/user cap/9 ins/1");
  expect(ids("user", ["cap/9"])).toBe("cap/9 svc/user ins/1");
  expect(ids("capt")).toBe("page/captures cmd/capture");
  expect(ids("slow")).toBe("cap/9");
  expect(ids("slgns"), "letters strewn over a hint mean nothing").toBe("");
  expect(ids("qqq")).toBe("");
});

test("letters strewn about are found where nothing has the word, and initials always", () => {
  const services = entries(`
    service | user | Capture user-service
    service | game | Capture game-service
    service | record | Capture game-record-service
  `);
  const of = (query: string) => rank(services, query, []).map((r) => r.entry.id).join(" ");
  expect(of("user")).toBe("user");
  expect(of("capture user")).toBe("user");
  expect(of("cgrs")).toBe("record");
  expect(of("usce")).toBe("user game record");
});

test("of several words of which nothing has all, what has the most comes first", () => {
  expect(ids("slow logins theme")).toBe("cap/9 cmd/theme");
  expect(ids("slow qqq")).toBe("cap/9");
  expect(ids("zzz qqq")).toBe("");
});

test("what was used is kept, the newest first, and not for ever", () => {
  expect(remember(["a", "b", "c"], "b")).toEqual(["b", "a", "c"]);
  expect(remember(Array.from({ length: 40 }, (_, n) => String(n)), "x")).toHaveLength(30);
});

test("five thousand instances are searched between two keys", () => {
  const many: Entry[] = Array.from({ length: 5000 }, (_, n) => ({ kind: "instance", id: `i${n}`, title: `10.0.${n >> 8}.${n & 255}:8080`, hint: "game-prod/slot-engine v1.42.1", keys: "", offered: false }));
  const began = performance.now();
  expect(rank(many, "10.0.7.9 slot", []).length).toBeGreaterThan(0);
  expect(performance.now() - began).toBeLessThan(10_000);
});
