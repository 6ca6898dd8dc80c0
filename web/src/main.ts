import { createApp } from "vue";
import { createApi } from "./api/client";
import App from "./App.vue";
import { centreKey, createCentre } from "./composables/centre";
import { createPageRouter } from "./router";
import "./styles/tokens.css";
import "./styles/base.css";

// A chunk that is gone belongs to a version that was replaced: start anew, once.
addEventListener("vite:preloadError", (e) => {
  const key = "ops.reloaded";
  if (Date.now() - Number(sessionStorage.getItem(key) ?? 0) < 10_000) return;
  sessionStorage.setItem(key, String(Date.now()));
  e.preventDefault();
  location.reload();
});

createApp(App).provide(centreKey, createCentre(createApi())).use(createPageRouter()).mount("#app");
