// A call as the console's page holds it: what there is to call, the message as
// JSON values that form and text share, and what came back. Pure.

export interface Method {
  /** service/method. */
  name: string;
  clientStreaming: boolean;
  serverStreaming: boolean;
  input: string;
  output: string;
  readOnly: boolean;
  idempotent: boolean;
  deprecated: boolean;
  comment: string;
}

export interface Field {
  name: string;
  jsonName: string;
  kind: string;
  type: string;
  mapKey: string;
  mapValue: Field | null;
  repeated: boolean;
  presence: boolean;
  oneof: string;
  deprecated: boolean;
  comment: string;
}

export interface EnumValue {
  name: string;
  number: number;
}

export interface MessageType {
  comment: string;
  fields: Field[];
  values: EnumValue[];
}

export interface Needs {
  instances: number;
  reason: boolean;
  confirm: string[];
  refused: string;
}

export interface Form {
  method: Method;
  types: Record<string, MessageType>;
  needs: Needs;
}

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Parses text as one JSON value, or says why not, with the place. */
export function parse(text: string): { value: Json; problem: "" } | { value: null; problem: string } {
  if (text.trim() === "") return { value: {}, problem: "" };
  try {
    return { value: JSON.parse(text) as Json, problem: "" };
  } catch (err) {
    const said = err instanceof Error ? err.message : String(err);
    const at = /position (\d+)/.exec(said);
    if (!at) return { value: null, problem: said };
    const before = text.slice(0, Number(at[1]));
    const line = before.split("\n").length;
    return { value: null, problem: `${line}:${before.length - before.lastIndexOf("\n")} ${said.replace(/ at position.*/, "").replace(/ in JSON.*/, "")}` };
  }
}

export const write = (v: Json): string => JSON.stringify(v, null, 2);

export const isObject = (v: Json | undefined): v is { [key: string]: Json } => typeof v === "object" && v !== null && !Array.isArray(v);

const wide = new Set(["int64", "uint64", "sint64", "fixed64", "sfixed64"]);
const unsigned = new Set(["uint32", "uint64", "fixed32", "fixed64"]);

/** How a kind is edited. */
export type Editor = "bool" | "enum" | "text" | "bytes" | "integer" | "float" | "message" | "json" | "timestamp" | "duration";

/** Well-known messages that JSON writes as something else than an object of their fields. */
const wellKnown: Record<string, Editor> = {
  "google.protobuf.Timestamp": "timestamp",
  "google.protobuf.Duration": "duration",
  "google.protobuf.FieldMask": "text",
  "google.protobuf.Any": "json",
  "google.protobuf.Struct": "json",
  "google.protobuf.Value": "json",
  "google.protobuf.ListValue": "json",
  "google.protobuf.StringValue": "text",
  "google.protobuf.BytesValue": "bytes",
  "google.protobuf.BoolValue": "bool",
  "google.protobuf.DoubleValue": "float",
  "google.protobuf.FloatValue": "float",
  "google.protobuf.Int32Value": "integer",
  "google.protobuf.UInt32Value": "integer",
  "google.protobuf.Int64Value": "integer",
  "google.protobuf.UInt64Value": "integer",
};

export function editorOf(f: Field, types: Record<string, MessageType>): Editor {
  switch (f.kind) {
    case "bool":
      return "bool";
    case "string":
      return "text";
    case "bytes":
      return "bytes";
    case "enum":
      return types[f.type] ? "enum" : "text";
    case "double":
    case "float":
      return "float";
    case "message":
    case "group":
      return wellKnown[f.type] ?? (types[f.type] ? "message" : "json");
    default:
      return "integer";
  }
}

/** Whether JSON writes the integers of a kind as strings. */
export const isWide = (f: Field): boolean => wide.has(f.kind) || f.type === "google.protobuf.Int64Value" || f.type === "google.protobuf.UInt64Value";

/** What one types into a scalar's field as a value, or why it is none. */
export function scalar(editor: Editor, f: Field, text: string): { value: Json } | { problem: "integer" | "range" | "float" | "time" | "duration" | "json" } {
  const s = text.trim();
  switch (editor) {
    case "integer": {
      if (!/^-?\d+$/.test(s)) return { problem: "integer" };
      const n = BigInt(s);
      const isUnsigned = unsigned.has(f.kind) || f.type.includes("UInt");
      const bits = isWide(f) ? 64n : 32n;
      const low = isUnsigned ? 0n : -(1n << (bits - 1n));
      const high = isUnsigned ? (1n << bits) - 1n : (1n << (bits - 1n)) - 1n;
      if (n < low || n > high) return { problem: "range" };
      return { value: isWide(f) ? n.toString() : Number(n) };
    }
    case "float":
      if (["NaN", "Infinity", "-Infinity"].includes(s)) return { value: s };
      return s !== "" && Number.isFinite(Number(s)) ? { value: Number(s) } : { problem: "float" };
    case "timestamp":
      return Number.isNaN(Date.parse(s)) || !/^\d{4}-\d\d-\d\dT/.test(s) ? { problem: "time" } : { value: s };
    case "duration":
      return /^-?\d+(\.\d{1,9})?s$/.test(s) ? { value: s } : { problem: "duration" };
    case "json": {
      const p = parse(text);
      return p.problem ? { problem: "json" } : { value: p.value };
    }
    default:
      return { value: text };
  }
}

/** The value that a field begins with when it is set. */
export function initial(f: Field, types: Record<string, MessageType>): Json {
  if (f.kind === "map") return {};
  if (f.repeated) return [];
  return initialOne(f, types);
}

export function initialOne(f: Field, types: Record<string, MessageType>): Json {
  switch (editorOf(f, types)) {
    case "bool":
      return false;
    case "integer":
      return isWide(f) ? "0" : 0;
    case "float":
      return 0;
    case "enum":
      return types[f.type]?.values[0]?.name ?? "";
    case "timestamp":
      return "1970-01-01T00:00:00Z";
    case "duration":
      return "0s";
    case "message":
    case "json":
      return {};
    default:
      return "";
  }
}

/** Reads a field of a message under either of its names. */
export function read(message: { [key: string]: Json }, f: Field): Json | undefined {
  return f.jsonName in message ? message[f.jsonName] : message[f.name];
}

/** A message with the field set (undefined = unset); of a oneof the others go. */
export function set(message: { [key: string]: Json }, f: Field, value: Json | undefined, siblings: readonly Field[]): { [key: string]: Json } {
  const gone = new Set([f.name, f.jsonName]);
  if (f.oneof && value !== undefined) for (const s of siblings) if (s.oneof === f.oneof) gone.add(s.name).add(s.jsonName);
  const out: { [key: string]: Json } = {};
  let placed = false;
  for (const [k, v] of Object.entries(message)) {
    if (k === f.jsonName || k === f.name) {
      if (value !== undefined && !placed) out[f.jsonName] = value;
      placed = true;
    } else if (!gone.has(k)) out[k] = v;
  }
  if (value !== undefined && !placed) out[f.jsonName] = value;
  return out;
}

/** Bytes as one edits them. */
export type BytesAs = "base64" | "hex" | "text";

export function showBytes(base64: string, as: BytesAs): string {
  if (as === "base64") return base64;
  try {
    const raw = Uint8Array.from(atob(base64.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    if (as === "hex") return [...raw].map((b) => b.toString(16).padStart(2, "0")).join(" ");
    return new TextDecoder("utf-8", { fatal: true }).decode(raw);
  } catch {
    return ""; // no such bytes, or no text: the field says so by being empty
  }
}

/** The base64 of what was typed; null = it cannot be. */
export function readBytes(text: string, as: BytesAs): string | null {
  const toBase64 = (raw: Uint8Array) => btoa(Array.from(raw, (b) => String.fromCharCode(b)).join(""));
  switch (as) {
    case "hex": {
      const digits = text.replaceAll(/[\s:]|0x/g, "");
      if (!/^([0-9a-fA-F]{2})*$/.test(digits)) return null;
      return toBase64(Uint8Array.from(digits.match(/../g) ?? [], (d) => parseInt(d, 16)));
    }
    case "text":
      return toBase64(new TextEncoder().encode(text));
    case "base64":
      return /^[A-Za-z0-9+/_-]*={0,2}$/.test(text.trim()) ? text.trim() : null;
  }
}

/** Methods that match the words, in any order, the best first. */
export function search(methods: readonly Method[], text: string): Method[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [...methods];
  const rank = (m: Method): number => {
    const name = m.name.toLowerCase();
    const short = name.slice(name.lastIndexOf("/") + 1);
    let sum = 0;
    for (const w of words) {
      if (short.startsWith(w)) sum += 0;
      else if (short.includes(w)) sum += 1;
      else if (name.includes(w)) sum += 2;
      else if (scattered(short, w)) sum += 4;
      else return Infinity;
    }
    return sum;
  };
  return methods.map((m) => ({ m, r: rank(m) })).filter((x) => x.r < Infinity).sort((a, b) => a.r - b.r || (a.m.name < b.m.name ? -1 : 1)).map((x) => x.m);
}

/** Whether the letters of w stand in name in their order. */
function scattered(name: string, w: string): boolean {
  let at = 0;
  for (const c of w) {
    at = name.indexOf(c, at) + 1;
    if (at === 0) return false;
  }
  return true;
}

export interface MetadataLine {
  key: string;
  value: string;
}

/** Lines as the call takes them; empty ones are left out. */
export function metadataOf(lines: readonly MetadataLine[]): Record<string, string[]> {
  const out: Record<string, string[]> = {};
  for (const { key, value } of lines) if (key.trim()) (out[key.trim().toLowerCase()] ??= []).push(value);
  return out;
}

const quote = (s: string): string => (/^[\w@%+=:,./-]+$/.test(s) ? s : `'${s.replaceAll("'", `'\\''`)}'`);

/** The call as a grpcurl command line; address = where, or "" when nobody knows. */
export function grpcurl(c: { method: string; messages: readonly string[]; metadata: Record<string, string[]>; timeout: string; tls: boolean; address: string }): string {
  const args = ["grpcurl"];
  if (!c.tls) args.push("-plaintext");
  for (const [k, values] of Object.entries(c.metadata)) for (const v of values) args.push("-H", quote(`${k}: ${v}`));
  if (/^\d+(\.\d+)?s$/.test(c.timeout)) args.push("-max-time", c.timeout.slice(0, -1));
  const bodies = c.messages.map((m) => {
    const p = parse(m);
    return p.problem ? m : JSON.stringify(p.value);
  });
  args.push("-d", quote(bodies.join("\n") || "{}"), c.address ? quote(c.address) : "HOST:PORT", c.method);
  return args.join(" ");
}

/** What a running call or one that ended has told of an instance. */
export interface Answer {
  instance: string;
  header: Record<string, string[]>;
  trailer: Record<string, string[]>;
  messages: Received[];
  /** How many came; beyond the last 1,000 they are not kept. */
  received: number;
  sent: number;
  end: { code: string; message: string; details: string[]; seconds: number } | null;
  failed: string;
  skipped: boolean;
}

export interface Received {
  index: number;
  bytes: number;
  json: string;
  cut: boolean;
}

export const keptMessages = 1000;

export const blankAnswer = (instance: string): Answer => ({ instance, header: {}, trailer: {}, messages: [], received: 0, sent: 0, end: null, failed: "", skipped: false });

/** Adds a message to an answer, in place; the oldest go. */
export function take(a: Answer, m: Received): void {
  a.messages.push(m);
  a.received++;
  if (a.messages.length > keptMessages + 100) a.messages.splice(0, a.messages.length - keptMessages);
}

/** What is in the address: whom to ask what. */
export interface ConsoleState {
  service: string;
  instances: string[];
  method: string;
}

type Query = Record<string, string | null | undefined | (string | null)[]>;
const one = (q: Query, k: string): string => {
  const v = q[k];
  return (Array.isArray(v) ? v[0] : v) ?? "";
};

export const parseConsole = (q: Query): ConsoleState => ({
  service: one(q, "service"),
  instances: one(q, "on").split(",").filter((s) => /^[0-9a-z-]{4,40}$/.test(s)),
  method: one(q, "method"),
});

export const formatConsole = (s: ConsoleState): Record<string, string> => Object.fromEntries(Object.entries({ service: s.service, on: s.instances.join(","), method: s.method }).filter(([, v]) => v !== ""));

export const kindWord = (f: Field): string => (f.kind === "map" ? `map<${f.mapKey}, ${f.mapValue ? f.mapValue.type || f.mapValue.kind : ""}>` : `${f.repeated ? "[]" : ""}${f.type || f.kind}`);

