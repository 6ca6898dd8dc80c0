// Words of what should be there and is not.
import { words } from "../i18n";

export const table = {
  title: ["Missing", "缺少"],
  short: ["{up} of {expected} up", "應有 {expected} 個，運作中 {up} 個"],
  since: ["since {at}", "自 {at} 起"],
  says: ["expected by {who}", "依據 {who}"],
  stale: ["not heard of since {at}", "自 {at} 起沒有消息"],
  lists: ["listed by {who}, cannot be reached", "{who} 列出，但無法連線"],
  more: ["{n} more", "另有 {n} 項"],
  fewer: ["Fewer", "收合"],
} as const;

export const { t, tn } = words(table);
