// Words of the fleet: conditions, what is wrong with an instance, columns.
import { words } from "../../i18n";

export const table = {
  "state.critical": ["Critical", "嚴重"],
  "state.warning": ["Warning", "警告"],
  "state.suspect": ["Suspect", "可疑"],
  "state.ok": ["Up", "正常"],
  "state.gone": ["Gone", "離線"],
  "state.trouble": ["In trouble", "有狀況"],

  "issue.cpu": ["CPU {v} > {t}", "CPU {v}＞{t}"],
  "issue.throttled": ["throttled {v} > {t}", "受節流 {v}＞{t}"],
  "issue.memory": ["memory {v} > {t}", "記憶體 {v}＞{t}"],
  "issue.goroutines": ["{v}× usual goroutines > {t}×", "goroutine 為平時的 {v} 倍＞{t} 倍"],
  "issue.sched-latency": ["sched p99 {v} > {t}", "排程 p99 {v}＞{t}"],
  "issue.pool-waiters": ["{v} wait for a pool", "{v} 個在等連線池"],
  "issue.restarts": ["{v} restarts in an hour", "一小時內重啟 {v} 次"],
  "issue.heartbeat": ["no heartbeat", "沒有心跳"],
  "issue.other": ["{check} {v} > {t}", "{check} {v}＞{t}"],
  "issue.for": ["for {span}", "持續 {span}"],
  "issue.more": ["+{n}", "另 {n} 項"],

  "reason.lost": ["connection lost", "連線中斷"],
  "reason.silent": ["no heartbeat for {span}", "{span} 沒有心跳"],
  "reason.restarted": ["not heard of since the centre restarted", "中心重啟後尚未回報"],
  "reason.clean": ["clean exit", "正常結束"],
  "reason.oom": ["likely OOM", "疑似 OOM"],
  "reason.vanished": ["vanished", "突然消失"],

  "group.release": ["service and version", "服務與版本"],
  "trouble.none": ["Nothing is in trouble", "目前沒有狀況"],
  "trouble.none.text": ["{n} instance is up and within its thresholds.|{n} instances are up and within their thresholds.", "{n} 個實例運作正常，都在門檻之內。"],
  "trouble.all": ["Show all", "顯示全部"],
  columns: ["Columns", "欄位"],
  "columns.usual": ["The usual ones", "還原預設欄位"],
  "col.cpu.all": ["CPU", "CPU"],
  "col.cpu.of": ["Of GOMAXPROCS: no instance has a quota.", "相對於 GOMAXPROCS：沒有任何實例設定配額。"],
  "col.memory.all": ["RSS", "RSS"],
  "col.uptime": ["Uptime", "執行時間"],
  "col.throttled": ["Throttled", "受節流"],
  "col.mutex": ["Mutex wait", "Mutex 等待"],
  "col.threads": ["Threads", "執行緒"],
  "col.sched": ["Sched p99", "排程 p99"],
  "versions.more": ["{n} versions", "{n} 個版本"],
  "actions.open": ["Open", "開啟"],
  "actions.control": ["Control", "控制"],
  "actions.only": ["Show only {n}", "只看這 {n} 個"],
  "actions": ["What to do with the selection", "對選取的實例可做的事"],
  "scale": ["A column's lines share one scale: {top}", "同一欄的線條用同一個刻度：{top}"],
} as const;

export const { t, tn } = words(table);
