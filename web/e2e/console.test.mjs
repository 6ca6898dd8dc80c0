import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, call, centre, fits, launch, open, until, visit } from "./harness.mjs";

let browser;
let game;
before(async () => {
  browser = await launch();
  const playing = async () => (await call("FleetService/ListInstances")).instances?.find((i) => i.service === "game-service" && i.state === "INSTANCE_STATE_UP");
  game = await (process.env.COLORGAME_STACK ? until("the game", playing) : playing());
});
after(() => browser.close());

const shots = process.env.SHOTS;
const shot = async (page, name) => shots && (await page.screenshot({ path: `${shots}/${name}.png` }));

/** Waits until the form is of that player. */
const holds = (page, player) => page.waitForFunction((p) => document.querySelector('[data-field="player"] input')?.value === p, player);

test("form, JSON and a conversation with the game", async (t) => {
  if (!game) return t.skip("the game does not run");
  const page = await open(browser);
  await visit(page, "/console");
  await page.selectOption("[data-t=console-service]", "color-game/game-service");
  await page.fill("[data-t=method-search]", "play");
  // Enter takes the first that is found: the game has told its methods, and others are gone.
  await page.waitForSelector('[data-method="colorgame.v1.RoomService/Play"]');
  await page.keyboard.press("Enter");
  await page.waitForURL(/method=colorgame\.v1\.RoomService(\/|%2F)Play/);

  // A bidirectional stream: what may change something needs a reason and the name.
  await page.fill('[data-field="player"] input', "browser");
  await page.selectOption('[data-field="color"] select', "COLOR_BLUE");
  await page.fill('[data-field="stake"] input', "ten");
  await page.waitForSelector("text=Write a whole number.");
  await page.fill('[data-field="stake"] input', "10");
  assert.ok(await page.isDisabled("[data-t=call]"));
  await page.fill("[data-t=reason]", "a browser test");
  await page.fill("[data-t=confirm]", "game-service");
  await page.click("[data-t=call]");
  await page.waitForSelector("[data-t=message] >> text=receipt");
  await page.click("[data-t=as-json]");
  const sent = JSON.parse(await page.inputValue("[data-t=json]"));
  assert.deepEqual(sent, { player: "browser", color: "COLOR_BLUE", stake: "10" });
  await page.fill("[data-t=json]", JSON.stringify({ ...sent, room: 77 }));
  await page.click("[data-t=say]");
  await page.waitForSelector("[data-t=message] >> text=there is no room 77");
  await shot(page, "console-light");
  await page.click("[data-t=finish]");
  await page.waitForSelector("[data-t=code] >> text=OK");

  // A method that is read only needs nothing, and a server's stream ends by itself.
  await page.fill("[data-t=method-search]", "");
  await page.click('[data-method="colorgame.v1.WalletService/GetBalance"]');
  await page.waitForSelector(".method-name >> text=GetBalance");
  await page.click("[data-t=as-json]");
  await page.fill("[data-t=json]", "{");
  await page.waitForSelector("text=This is no JSON");
  await page.fill("[data-t=json]", '{"player": "browser"}');
  await page.click("[data-t=as-form]");
  await holds(page, "browser");
  await page.waitForSelector("[data-t=call]:enabled");
  await page.keyboard.press("Control+Enter");
  await page.waitForSelector("[data-t=message] >> text=balance");
  await page.fill('[data-field="player"] input', "nobody");
  await page.click("[data-t=call]");
  await page.waitForSelector("[data-t=code] >> text=NotFound");

  // What was called is found again, also by somebody else's page.
  await page.click("[data-t=history]");
  await page.waitForSelector('[data-past$="/Play"]');
  await accessible(page, "the console");
  await fits(page, "the console");
  assert.deepEqual(page.errors, []);
  const address = page.url();
  await page.context().close();

  const other = await open(browser, { theme: "dark", locale: "zh-TW", width: 1920, height: 1080 });
  await visit(other, address.slice(centre.length));
  await other.waitForSelector(".method-name >> text=GetBalance");
  await other.click("[data-t=history]");
  await other.click('[data-past$="/Play"]');
  await other.waitForURL(/RoomService/);
  await other.waitForSelector(".method-name >> text=Play");
  await holds(other, "browser");
  // What the other method was filled with stays its own.
  await other.click('[data-method="colorgame.v1.WalletService/GetBalance"]');
  await other.waitForSelector(".method-name >> text=GetBalance");
  await holds(other, "");
  await other.click('[data-method="colorgame.v1.RoomService/Play"]');
  await holds(other, "browser");
  await accessible(other, "the console, dark");
  await shot(other, "console-dark-zh");
  assert.deepEqual(other.errors, []);
  await other.context().close();
});
