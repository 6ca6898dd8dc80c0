// Errors as sentences. The centre's own messages are for people and end with
// what to do next, so they are shown as they are, under a heading in the
// reader's language that says what kind of trouble it is.
import { Code, ConnectError } from "@connectrpc/connect";
import { t, type Key } from "../i18n";

export interface Problem {
  title: string;
  /** What the centre said; may be empty. */
  detail: string;
  notFound: boolean;
  /** Trying again may help. */
  retry: boolean;
}

/** The error of a plain HTTP answer, shaped like Connect's. */
export class HttpError extends Error {
  constructor(readonly code: Code, message: string) {
    super(message);
  }
}

const titles: Partial<Record<Code, Key>> = {
  [Code.NotFound]: "error.notFound",
  [Code.InvalidArgument]: "error.invalid",
  [Code.OutOfRange]: "error.invalid",
  [Code.FailedPrecondition]: "error.conflict",
  [Code.AlreadyExists]: "error.conflict",
  [Code.Aborted]: "error.conflict",
  [Code.Unavailable]: "error.unavailable",
  [Code.DeadlineExceeded]: "error.timeout",
  [Code.ResourceExhausted]: "error.exhausted",
  [Code.PermissionDenied]: "error.denied",
  [Code.Unauthenticated]: "error.unauthenticated",
  [Code.DataLoss]: "error.corrupt",
  [Code.Unimplemented]: "error.unimplemented",
};

/** Whether the error only says that the caller gave up. */
export function isAbort(err: unknown): boolean {
  if (err instanceof DOMException && err.name === "AbortError") return true;
  return err instanceof ConnectError && err.code === Code.Canceled;
}

/** What fetch and XMLHttpRequest say when nobody answers is not for people. */
function isNetworkNoise(err: unknown): boolean {
  const cause = err instanceof ConnectError ? err.cause : err;
  return cause instanceof TypeError;
}

export function problem(err: unknown): Problem {
  if (isNetworkNoise(err)) return { title: t("error.network"), detail: t("error.network.hint"), notFound: false, retry: true };
  const code = err instanceof ConnectError || err instanceof HttpError ? err.code : Code.Unknown;
  const detail = err instanceof ConnectError ? err.rawMessage : err instanceof Error ? err.message : String(err);
  return {
    title: t(titles[code] ?? "error.internal"),
    detail,
    notFound: code === Code.NotFound,
    retry: code !== Code.NotFound && code !== Code.InvalidArgument && code !== Code.PermissionDenied,
  };
}

const byStatus: Record<number, Code> = {
  400: Code.InvalidArgument, 401: Code.Unauthenticated, 403: Code.PermissionDenied, 404: Code.NotFound, 409: Code.FailedPrecondition,
  413: Code.ResourceExhausted, 422: Code.InvalidArgument, 429: Code.ResourceExhausted, 502: Code.Unavailable, 503: Code.Unavailable, 504: Code.DeadlineExceeded, 507: Code.ResourceExhausted,
};

/** Makes the error of a plain HTTP answer from its status and body: Connect's JSON, or text. */
export function httpError(status: number, body: string): HttpError {
  let message = body.trim();
  try {
    const j: unknown = JSON.parse(body);
    if (j && typeof j === "object") {
      if ("message" in j && typeof j.message === "string") message = j.message;
      else if ("error" in j && typeof j.error === "string") message = j.error;
    }
  } catch {
    if (message.startsWith("<")) message = "";
  }
  return new HttpError(byStatus[status] ?? Code.Internal, message || `HTTP ${status}`);
}
