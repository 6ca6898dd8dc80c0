// Words of the list of captures, and of what a capture says while it runs.
import { words } from "../../i18n";

export const table = {
  verdict: ["Verdict", "診斷"],
  "verdict.pending": ["not diagnosed yet", "尚未診斷"],
  "verdict.none": ["Nothing found", "沒有發現問題"],
  "verdict.unchecked": ["{n} not checked", "{n} 項無法檢查"],
  "verdict.more": ["+{n}", "另 {n} 項"],
  search: ["Filter: note, verdict, who, instance", "篩選：備註、診斷、人員、實例"],
  state: ["State", "狀態"],
  severity: ["Verdict", "診斷"],
  "severity.none": ["Nothing found", "沒有發現問題"],
  running: ["Running", "進行中"],

  "act.waiting": ["Connection lost: it waits up to 30 s for the instance to come back, then keeps what has arrived", "連線中斷：最多等 30 秒讓實例回來，之後保留已收到的內容"],
  "act.again": ["sending the rest again", "重新傳送其餘內容"],
  "act.describing": ["describing the process", "讀取程序資訊"],
  "act.first": ["first {what} snapshot", "起始 {what} 快照"],
  "act.last": ["last {what} snapshot", "結束 {what} 快照"],
  "act.recording": ["recording", "錄製中"],
  "act.tracing": ["recording, with trace", "錄製中，含執行追蹤"],
  "act.more": ["tracing one second more", "再追蹤一秒"],
  "act.ending": ["ending CPU profile and trace", "結束 CPU profile 與執行追蹤"],
  "act.dump": ["goroutine dump", "Goroutine dump"],
  "act.leaks": ["looking for goroutine leaks", "檢查 goroutine 洩漏"],
  "act.types": ["types of heap objects", "辨識 heap 物件的型別"],
  "act.series": ["runtime series", "執行期指標"],
  "act.sending": ["sending", "傳送中"],

  "loss.dump": ["goroutine.txt was not taken: with {n} goroutines it would stop the process for about {time}, and it is only taken below {max}", "未取得 goroutine.txt：有 {n} 個 goroutine，會讓程序停頓約 {time}，只在少於 {max} 個時擷取"],
  "loss.leakBuild": ["{go} has no goroutine leak profile: build with GOEXPERIMENT=goroutineleakprofile, or with Go 1.27", "{go} 沒有 goroutine 洩漏 profile：請以 GOEXPERIMENT=goroutineleakprofile 建置，或使用 Go 1.27"],
  "loss.leak": ["goroutineleak.pprof was not taken: {why}", "未取得 goroutineleak.pprof：{why}"],
  "loss.cpuBusy": ["there is no CPU profile: {why}", "沒有 CPU profile：{why}"],
  "loss.traceBusy": ["there is no trace: {why}", "沒有執行追蹤：{why}"],
  "loss.segments": ["the CPU profile was taken in {n} segments; {time} between them were not sampled", "CPU profile 分 {n} 段錄製，段與段之間有 {time} 未取樣"],
  "loss.traceCap": ["the trace reached its cap of {size} bytes after {time} of {window}: shorten the trace window or raise the cap", "執行追蹤在 {window} 中的第 {time} 達到上限 {size} 位元組：請縮短追蹤時間或提高上限"],
  "loss.stopEarly": ["the capture was stopped before its trace window began: it traced one second after the stop instead of {window}", "擷取在追蹤開始前就停止了：改為在停止後追蹤一秒，而非 {window}"],
  "loss.noGC": ["{file} is as of the last garbage collection: none was run for it, because {why}", "{file} 停留在上一次垃圾回收時的狀態：沒有為它執行 GC，原因：{why}"],
  "loss.noProfile": ["{go} has no {kind} profile", "{go} 沒有 {kind} profile"],
  "loss.notTaken": ["{file} was not taken: {why}", "未取得 {file}：{why}"],
  "loss.cutOff": ["cut off: {why}", "中斷：{why}"],
  "loss.rest": ["the rest did not arrive: {why}", "其餘內容未送達：{why}"],
  "loss.fetched": ["the rest could not be fetched: {why}", "其餘內容無法取回：{why}"],
  "loss.missing": ["{why}: what had not arrived by then is missing", "{why}：當時尚未送達的內容已遺失"],
  "loss.cameBack": ["instance {id} was lost while it was captured and did not come back within {time}", "實例 {id} 在擷取途中斷線，{time} 內沒有回來"],
} as const;

export const { t, tn } = words(table);
