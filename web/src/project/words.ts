// Words of the choice among projects.
import { words } from "../i18n";

export const table = {
  title: ["Project", "專案"],
  text: ["Every page keeps to the project that you choose.", "所有頁面只顯示您選擇的專案。"],
  search: ["Find a project", "尋找專案"],
  list: ["Projects", "專案"],
  all: ["All projects", "所有專案"],
  services: ["{n} service|{n} services", "{n} 個服務"],
  instances: ["{n} instance|{n} instances", "{n} 個實例"],
  kept: ["captures kept {age}", "擷取保留 {age}"],
  "kept.bytes": ["up to {size}", "上限 {size}"],
  "kept.ever": ["captures kept for ever", "擷取永久保留"],
  undeclared: ["not in the configuration", "未列於設定"],
  none: ["No project is called that.", "沒有符合的專案。"],
  refused: ["{n} project was turned away, because the configuration does not declare it:|{n} projects were turned away, because the configuration does not declare them:", "有 {n} 個專案未在設定中宣告，已拒絕："],
  "refused.times": ["{n} time, the last {ago}|{n} times, the last {ago}", "{n} 次，最近 {ago}"],
} as const;

export const { t, tn } = words(table);
