// Words of the guard rails: what has to be given before something is changed.
import { words } from "../i18n";

export const table = {
  title: ["This changes something.", "這會造成變更。"],
  affects: ["It affects {n} instance of {service}.|It affects {n} instances of {service}.", "會影響 {service} 的 {n} 個實例。"],
  reason: ["Reason, for the record", "原因（會留下紀錄）"],
  confirm: ["Type {name} to confirm", "輸入 {name} 以確認"],
  missing: ["Give a reason and the name first.", "請先填寫原因和名稱。"],
} as const;

export const { t, tn } = words(table);
