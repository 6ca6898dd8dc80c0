// Words of the command palette.
import { words } from "../../i18n";

export const table = {
  title: ["Commands and places", "指令與頁面"],
  search: ["What are you looking for?", "要找什麼？"],
  list: ["Results", "結果"],
  none: ["Nothing is called that", "沒有符合的項目"],
  "none.text": ["Try a service, an address, a rule, or what you want to do.", "試試服務、位址、規則，或想做的事。"],
  recent: ["used before", "最近使用"],
  "kind.command": ["command", "指令"],
  "kind.page": ["page", "頁面"],
  "kind.service": ["service", "服務"],
  "kind.instance": ["instance", "實例"],
  "kind.capture": ["capture", "擷取"],
  "kind.guide": ["guide", "指南"],
  "capture.service": ["Capture {service}", "擷取 {service}"],
  "control.service": ["Control {service}", "控制 {service}"],
  tab: ["of this capture", "這次擷取"],
  keys: ["↑ ↓ choose, Enter opens, Esc closes", "↑ ↓ 選擇，Enter 開啟，Esc 關閉"],
  project: ["Only the project {project}", "只看專案 {project}"],
  "project.all": ["All projects", "所有專案"],
  count: ["{n} result|{n} results", "{n} 個結果"],
} as const;

export const { t, tn } = words(table);
