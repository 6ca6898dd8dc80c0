// What can be done to a capture from more than one page.
import { ref, shallowRef } from "vue";
import type { Capture } from "../model/capture";
import { t } from "../components/capture/words";
import type { Centre } from "./centre";
import { toast, toastProblem } from "./toasts";

export function useCaptureActions(centre: Centre, changed: (id: string) => void) {
  const doomed = shallowRef<Capture | null>(null);
  const asking = ref(false);
  return {
    /** The capture that the open question is about. */
    doomed,
    asking,
    async pin(c: Capture): Promise<void> {
      try {
        await centre.api.pinCapture(c.id, !c.pinned);
        changed(c.id);
      } catch (err) {
        toastProblem(err);
      }
    },
    askDelete(c: Capture): void {
      doomed.value = c;
      asking.value = true;
    },
    /** The answer was yes. */
    async remove(): Promise<void> {
      const c = doomed.value!;
      await centre.api.deleteCapture(c.id);
      centre.forgetCapture(c.id);
      toast(t("captures.deleted"));
      changed(c.id);
    },
  };
}
