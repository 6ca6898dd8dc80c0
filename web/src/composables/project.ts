// The project that the address says is looked at.
import { computed, type ComputedRef } from "vue";
import { useRoute } from "vue-router";
import { one } from "../model/url";

/** The chosen project's name; "" = all. */
export function useProject(): ComputedRef<string> {
  const route = useRoute();
  return computed(() => one(route.query, "project"));
}
