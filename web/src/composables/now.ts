// The time, moving: "3 minutes ago" must not stand still. Nothing ticks while
// nobody looks.
import { onScopeDispose, ref, type Ref } from "vue";

/** The present in milliseconds, renewed every so often as long as the scope lives. */
export function useNow(everyMs = 1000): Readonly<Ref<number>> {
  const now = ref(Date.now());
  const timer = setInterval(() => {
    if (document.visibilityState === "visible") now.value = Date.now();
  }, everyMs);
  onScopeDispose(() => clearInterval(timer));
  return now;
}
