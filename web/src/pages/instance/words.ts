// Words of the instance page.
import { words } from "../../i18n";

export const table = {
  live: ["live", "即時"],
  pause: ["Pause", "暫停"],
  resume: ["Resume", "繼續"],
  "live.title": ["Every second", "每秒數據"],
  "live.hint": ["One point a second, since this page was opened.", "自開啟本頁起，每秒一點。"],
  "live.waiting": ["The first numbers come within two seconds.", "兩秒內會收到第一筆數據。"],
  "live.away": ["Numbers come again when it is connected.", "重新連線後才會有數據。"],

  "chart.states": ["Goroutines by state", "Goroutine 狀態"],
  "state.running": ["running", "執行中"],
  "state.runnable": ["runnable", "可執行"],
  "state.waiting": ["waiting", "等待"],
  "state.syscall": ["syscall / cgo", "系統呼叫／cgo"],
  "chart.heap": ["Heap", "Heap"],
  "heap.live": ["live", "存活"],
  "heap.now": ["in use", "使用中"],
  "heap.goal": ["goal", "目標"],
  "chart.alloc": ["Allocation rate (per second)", "配置速率（每秒）"],
  "chart.sched": ["Scheduler latency", "排程延遲"],
  "chart.pauses": ["Stop-the-world pauses of the GC", "GC 停頓（STW）"],
  p50: ["p50", "p50"],
  p99: ["p99", "p99"],
  "chart.pool": ["Pool {name}", "連線池 {name}"],
  "pool.inUse": ["in use", "使用中"],
  "pool.waiting": ["waiting", "等候"],
  "pool.max": ["maximum", "上限"],
  threshold: ["warning", "警告門檻"],

  "health.title": ["What is wrong", "目前狀況"],
  "health.since": ["since {at}", "自 {at} 起"],
  "health.capture": ["Capture to find out why", "擷取以找出原因"],

  controls: ["Controls", "控制"],
  "controls.none": ["Nothing can be changed from here", "此頁目前只能查看"],
  "controls.none.text": [
    "This page reads: captures and numbers leave the process as it is. What an instance lets others change (GC, log level, GOMAXPROCS) is up to its agent; docs/agent.md says how to allow it.",
    "此頁只讀取：擷取與數據不會改變程序。實例允許外部變更的項目（GC、記錄等級、GOMAXPROCS）由其 agent 決定，做法見 docs/agent.md。",
  ],
} as const;

export const { t, tn } = words(table);
