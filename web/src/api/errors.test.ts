import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { setLocale } from "../i18n";
import { httpError, isAbort, problem } from "./errors";

beforeAll(() => setLocale("en"));
afterAll(() => setLocale("en"));

const said = (err: unknown) => {
  const p = problem(err);
  return `${p.title} | ${p.detail}${p.retry ? " | again" : ""}`;
};

test.each([
  [new ConnectError("no capture c1: it may have been deleted", Code.NotFound), "There is no such thing | no capture c1: it may have been deleted"],
  [new ConnectError("4 captures run already; wait for one to end", Code.ResourceExhausted), "A limit is reached | 4 captures run already; wait for one to end | again"],
  [new ConnectError("duration 0s is out of range", Code.InvalidArgument), "The centre cannot accept that | duration 0s is out of range"],
  [new ConnectError("you may not", Code.PermissionDenied), "You are not allowed to do this | you may not"],
  [new ConnectError("boom", Code.Internal), "Something went wrong in the centre | boom | again"],
  [new ConnectError("fetch failed", Code.Unknown, undefined, undefined, new TypeError("Failed to fetch")), "The centre does not answer | Check that it runs and that this computer can reach it, then try again. | again"],
  [new TypeError("Failed to fetch"), "The centre does not answer | Check that it runs and that this computer can reach it, then try again. | again"],
  ["odd", "Something went wrong in the centre | odd | again"],
])("%s", (err, want) => expect(said(err)).toBe(want));

test("the heading is in the reader's language, the centre's words are its own", () => {
  setLocale("zh-TW");
  expect(said(new ConnectError("a capture runs already", Code.FailedPrecondition))).toBe("目前無法執行 | a capture runs already | again");
  setLocale("en");
});

test.each([
  [422, '{"code":"data_loss","message":"not a bundle: choose a bundle.zip"}', "The centre cannot accept that | not a bundle: choose a bundle.zip"],
  [403, "you may not\n", "You are not allowed to do this | you may not"],
  [502, "<html>Bad gateway</html>", "Not reachable right now | HTTP 502 | again"],
  [500, "", "Something went wrong in the centre | HTTP 500 | again"],
])("HTTP %s %s", (status, body, want) => expect(said(httpError(status, body))).toBe(want));

test("giving up is no error", () => {
  expect([isAbort(new DOMException("x", "AbortError")), isAbort(new ConnectError("x", Code.Canceled)), isAbort(new ConnectError("x", Code.Aborted)), isAbort(null)]).toEqual([true, true, false, false]);
});
