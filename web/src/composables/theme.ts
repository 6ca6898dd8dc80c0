// Light, dark, or as the system says. There is one document, so there is one theme.
import { computed, ref, watchEffect } from "vue";

export const themes = ["auto", "light", "dark"] as const;
export type ThemeChoice = (typeof themes)[number];

const storeKey = "ops.theme";

function stored(): ThemeChoice {
  try {
    const s = localStorage.getItem(storeKey);
    return s === "light" || s === "dark" ? s : "auto";
  } catch {
    return "auto"; // storage is forbidden: the choice lasts as long as the page
  }
}

const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = ref(system.matches);
system.addEventListener("change", (e) => (systemDark.value = e.matches));

export const themeChoice = ref<ThemeChoice>(stored());

/** What is shown now. Canvas drawings depend on it. */
export const theme = computed<"light" | "dark">(() => (themeChoice.value === "auto" ? (systemDark.value ? "dark" : "light") : themeChoice.value));

/** auto → light → dark → auto. */
export function nextTheme(): void {
  themeChoice.value = themes[(themes.indexOf(themeChoice.value) + 1) % themes.length]!;
  try {
    localStorage.setItem(storeKey, themeChoice.value);
  } catch {
    // as above
  }
}

// Reading a style can make the browser lay out the page; a frame with sixty canvases reads each token once.
const values = new Map<string, string>();

watchEffect(
  () => {
    document.documentElement.dataset["theme"] = theme.value;
    values.clear();
  },
  { flush: "sync" },
);

/** The value of a token in the theme shown now. */
export function token(name: string): string {
  let v = values.get(name);
  if (v === undefined) {
    v = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    values.set(name, v);
  }
  return v;
}
