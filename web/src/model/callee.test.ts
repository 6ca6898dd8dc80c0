import { expect, test } from "vitest";
import { calleeOf } from "./callee";
import { instanceOf as instance } from "./testdata";

const fleet = [
  instance({ id: "u1", project: "color", service: "user-service", address: "10.0.0.1:6060" }),
  instance({ id: "u2", project: "color", service: "user-service", address: "10.0.0.2:6060" }),
  instance({ id: "g1", project: "color", service: "game-service", address: "10.0.0.3:6060" }),
  instance({ id: "r1", project: "color", service: "record-service", address: "http://10.0.0.3:7070/debug/pprof" }),
  instance({ id: "l1", project: "color", service: "lobby", address: "127.0.0.1:7001" }),
  instance({ id: "old", project: "color", service: "old-service", address: "10.0.0.9:1", state: "gone" }),
  instance({ id: "x1", project: "other", service: "payment", address: "10.0.0.4:6060" }),
];

test.each([
  ["user-service", "user-service: u1 u2"],
  ["User-Service:9090", "user-service: u1 u2"],
  ["http://user-service.game.svc.cluster.local:9090/v1", "user-service: u1 u2"],
  ["10.0.0.2:9090", "user-service: u1 u2"], // by its host, whatever its door
  ["10.0.0.3:9090", "-"], // two services live there
  ["10.0.0.3:7070", "record-service: r1"],
  ["127.0.0.1:9090", "-"], // everybody is there
  ["127.0.0.1:7001", "lobby: l1"],
  ["10.0.0.9:1", "-"], // nobody any more
  ["10.0.0.4:6060", "-"], // of another project
  ["db.example:5432", "-"],
  ["[::1]:80", "-"],
  ["", "-"],
])("%j is %s", (remote, want) => {
  const s = calleeOf(remote, "color", fleet);
  expect(s ? `${s.service}: ${s.instances.map((i) => i.id).join(" ")}` : "-").toBe(want);
});
