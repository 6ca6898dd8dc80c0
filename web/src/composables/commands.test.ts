import { afterEach, expect, test } from "vitest";
import { effectScope } from "vue";
import { chord, commands, dispatch, escape, letter, question, slash, useCommands, type Command } from "./commands";

afterEach(() => document.body.replaceChildren());

const ran: string[] = [];
const command = (name: string, match: Command["match"], more: Partial<Command> = {}): Command => ({ keys: name, match, label: "cmd.help", scope: "page", run: () => void ran.push(name), ...more });

function press(init: KeyboardEventInit, target: EventTarget = document.body): string {
  ran.length = 0;
  const e = new KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...init });
  target.addEventListener("keydown", (x) => dispatch(x as KeyboardEvent), { once: true });
  target.dispatchEvent(e);
  return ran.join() + (e.defaultPrevented ? " taken" : "");
}

function alive(...list: Command[]) {
  const scope = effectScope();
  scope.run(() => useCommands(...list));
  return scope;
}

test("letters go by the place of the key, so that an input method does not matter", () => {
  const s = alive(command("c", letter("c")));
  expect(press({ key: "c", code: "KeyC" })).toBe("c taken");
  expect(press({ key: "ㄏ", code: "KeyC" })).toBe("c taken");
  expect(press({ key: "c", code: "KeyC", ctrlKey: true })).toBe("");
  expect(press({ key: "C", code: "KeyC", shiftKey: true })).toBe("");
  expect(press({ key: "c", code: "KeyC", isComposing: true })).toBe("");
  s.stop();
  expect(press({ key: "c", code: "KeyC" })).toBe("");
  expect(commands.size).toBe(0);
});

test("? and / are told apart on every layout", () => {
  const s = alive(command("?", question), command("/", slash));
  expect([press({ key: "/", code: "Slash" }), press({ key: "?", code: "Slash", shiftKey: true }), press({ key: "?", code: "Slash" }), press({ key: "/", code: "Digit7", shiftKey: true }), press({ key: "ㄥ", code: "Slash" })]).toEqual(["/ taken", "? taken", "? taken", "/ taken", "/ taken"]);
  s.stop();
});

test("someone who writes is left alone, but for Escape", () => {
  const s = alive(command("c", letter("c")), command("esc", escape, { always: true }));
  const text = document.body.appendChild(document.createElement("input"));
  const box = document.body.appendChild(document.createElement("input"));
  box.type = "checkbox";
  expect(press({ key: "c", code: "KeyC" }, text)).toBe("");
  expect(press({ key: "Escape" }, text)).toBe("esc taken");
  expect(press({ key: "c", code: "KeyC" }, box)).toBe("c taken");
  const dialog = document.body.appendChild(document.createElement("div"));
  dialog.setAttribute("role", "dialog");
  expect(press({ key: "c", code: "KeyC" })).toBe("");
  s.stop();
});

test("a page's command comes before the frame's, unless it passes", () => {
  const frame = alive(command("frame", letter("c")));
  let pass = false;
  const page = alive(command("page", letter("c"), { run: () => (pass ? false : void ran.push("page")) }), command("listed only", null));
  expect(press({ code: "KeyC", key: "c" })).toBe("page taken");
  pass = true;
  expect(press({ code: "KeyC", key: "c" })).toBe("frame taken");
  page.stop();
  frame.stop();
});

test("a chord works while one writes, but not over a dialog", () => {
  const s = alive(command("palette", chord("k"), { chord: true }), command("k", letter("k")));
  const text = document.body.appendChild(document.createElement("input"));
  const k = { key: "k", code: "KeyK" };
  expect([press(k), press({ ...k, ctrlKey: true }), press({ ...k, metaKey: true }, text), press(k, text), press({ ...k, ctrlKey: true, shiftKey: true })]).toEqual(["k taken", "palette taken", "palette taken", "", ""]);
  document.body.appendChild(document.createElement("div")).setAttribute("role", "dialog");
  expect(press({ ...k, ctrlKey: true })).toBe("");
  s.stop();
});
