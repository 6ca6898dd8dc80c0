// The one capture dialog: any page can open it with what it has in view.
import { shallowRef } from "vue";
import type { CaptureSpec } from "../model/capture";
import type { Scope } from "../model/fleet";

export interface CaptureWish {
  /** Where: nothing = the person chooses a service. */
  scopes: Scope[];
  /** Whether scopes are whole services rather than chosen instances. */
  whole: boolean;
  /** What: null = the defaults. */
  spec: CaptureSpec | null;
}

export const captureWish = shallowRef<CaptureWish | null>(null);

export function openCaptureDialog(wish: Partial<CaptureWish> = {}): void {
  captureWish.value = { scopes: [], whole: false, spec: null, ...wish };
}
