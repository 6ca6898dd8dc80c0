// Works on one call tree, apart from the page.
import { Job, type Ask } from "./job";

const scope = self as unknown as { onmessage: (e: MessageEvent<Ask>) => void; postMessage(m: unknown, transfer: ArrayBufferLike[]): void };
const job = new Job();
scope.onmessage = (e) => {
  const { answer, transfer } = job.do(e.data);
  scope.postMessage(answer, transfer);
};
