import { expect, test } from "vitest";
import { blankAnswer, editorOf, formatConsole, grpcurl, initial, keptMessages, metadataOf, parse, parseConsole, read, readBytes, scalar, search, set, showBytes, take, type Field, type Json, type MessageType, type Method } from "./model";

const field = (jsonName: string, kind: string, more: Partial<Field> = {}): Field => ({ name: jsonName, jsonName, kind, type: "", mapKey: "", mapValue: null, repeated: false, presence: false, oneof: "", deprecated: false, comment: "", ...more });
const types: Record<string, MessageType> = {
  "game.Color": { comment: "", fields: [], values: [{ name: "COLOR_NONE", number: 0 }, { name: "COLOR_RED", number: 1 }] },
  "game.Bet": { comment: "", fields: [field("stake", "int64")], values: [] },
};

test.each([
  ["", "{}", ""],
  ["[1]", "[1]", ""],
  ["{\"a\":\n tru}", "", /./],
  ["{", "", /./],
] as const)("%j parses to %s", (text, json, problem) => {
  const p = parse(text);
  if (typeof problem === "string") expect([JSON.stringify(p.value), p.problem]).toEqual([json, problem]);
  else expect(p.problem).toMatch(problem);
});

test.each([
  ["int32", "2147483647", 2147483647],
  ["int32", "2147483648", "range"],
  ["uint32", "-1", "range"],
  ["int64", "-9223372036854775808", "-9223372036854775808"],
  ["uint64", "18446744073709551615", "18446744073709551615"],
  ["uint64", "18446744073709551616", "range"],
  ["int64", "1.5", "integer"],
  ["double", "1e3", 1000],
  ["double", "NaN", "NaN"],
  ["float", "much", "float"],
  ["string", " as it is ", " as it is "],
])("a %s written as %s is %j", (kind, text, want) => {
  const f = field("x", kind);
  const got = scalar(editorOf(f, types), f, text);
  expect("value" in got ? got.value : got.problem).toBe(want);
});

test("well-known messages are written as JSON writes them", () => {
  const wk = (type: string) => editorOf(field("x", "message", { type: `google.protobuf.${type}` }), types);
  expect(["Timestamp", "Duration", "Int64Value", "Struct", "FieldMask", "Any"].map(wk)).toEqual(["timestamp", "duration", "integer", "json", "text", "json"]);
  const f = field("x", "message", { type: "google.protobuf.Duration" });
  expect([scalar("duration", f, "1.5s"), scalar("duration", f, "1.5"), scalar("timestamp", f, "2026-01-02T03:04:05Z"), scalar("timestamp", f, "tomorrow")]).toEqual([{ value: "1.5s" }, { problem: "duration" }, { value: "2026-01-02T03:04:05Z" }, { problem: "time" }]);
});

test.each<[Partial<Field> & { kind: string }, Json]>([
  [{ kind: "bool" }, false],
  [{ kind: "uint64" }, "0"],
  [{ kind: "int32", repeated: true }, []],
  [{ kind: "map" }, {}],
  [{ kind: "enum", type: "game.Color" }, "COLOR_NONE"],
  [{ kind: "message", type: "game.Bet" }, {}],
])("%j begins as %j", (more, want) => expect(initial(field("x", more.kind, more), types)).toEqual(want));

test("form and text share one value", () => {
  const byName = field("byName", "string", { name: "by_name", oneof: "query" });
  const byId = field("byId", "int64", { name: "by_id", oneof: "query" });
  const all = [byName, byId];
  let m: { [key: string]: Json } = { by_name: "a", other: 1 };
  expect(read(m, byName)).toBe("a");
  m = set(m, byName, "b", all);
  expect(m).toEqual({ byName: "b", other: 1 });
  m = set(m, byId, "7", all);
  expect(m).toEqual({ other: 1, byId: "7" });
  expect(set(m, byId, undefined, all)).toEqual({ other: 1 });
});

test.each([
  ["AAH/", "hex", "00 01 ff"],
  ["aGk=", "text", "hi"],
  ["/w==", "text", ""],
  ["aGk=", "base64", "aGk="],
] as const)("%s shown as %s is %j", (b, as, want) => expect(showBytes(b, as)).toBe(want));

test.each([
  ["00 01 FF", "hex", "AAH/"],
  ["0", "hex", null],
  ["彩", "text", "5b2p"],
  ["a!", "base64", null],
] as const)("%j typed as %s is %j", (s, as, want) => expect(readBytes(s, as)).toBe(want));

test("methods are found by pieces of their names", () => {
  const names = ["game.v1.WalletService/AddBalance", "game.v1.WalletService/GetBalance", "game.v1.RoomService/WatchRoom"];
  const methods = names.map((name) => ({ name }) as Method);
  const found = (text: string) => search(methods, text).map((m) => m.name.slice(m.name.lastIndexOf("/") + 1));
  expect(found("")).toHaveLength(3);
  expect(found("get")).toEqual(["GetBalance"]);
  expect(found("wallet balance")).toEqual(["AddBalance", "GetBalance"]);
  expect(found("wtrm")).toEqual(["WatchRoom"]);
  expect(found("poker")).toEqual([]);
});

test("a call as a command line", () => {
  expect(grpcurl({ method: "game.v1.WalletService/AddBalance", messages: ['{ "player": "o\'neil" }'], metadata: metadataOf([{ key: "Player", value: "p 1" }, { key: " ", value: "x" }]), timeout: "5s", tls: false, address: "" })).toBe(
    `grpcurl -plaintext -H 'player: p 1' -max-time 5 -d '{"player":"o'\\''neil"}' HOST:PORT game.v1.WalletService/AddBalance`,
  );
  expect(grpcurl({ method: "a/B", messages: [], metadata: {}, timeout: "", tls: true, address: "wallet:9000" })).toBe("grpcurl -d '{}' wallet:9000 a/B");
});

test("of many messages the last are kept, and all are counted", () => {
  const a = blankAnswer("i1");
  for (let index = 0; index < 10_000; index++) take(a, { index, bytes: 1, json: "{}", cut: false });
  expect([a.received, a.messages.length <= keptMessages + 100, a.messages.at(-1)!.index]).toEqual([10_000, true, 9999]);
});

test.each([
  [{ service: "color-game/game-service", instances: ["b00t-a1", "b00t-a2"], method: "game.v1.Room/Watch" }],
  [{ service: "", instances: [], method: "" }],
])("%j survives the address", (s) => expect(parseConsole(formatConsole(s))).toEqual(s));
