package guide

import "github.com/opscenter/opscenter/internal/ops"

// waitsManual is about downstreams, pools and channels.
func waitsManual() map[ops.RuleID]Manual {
	return map[ops.RuleID]Manual{
		"downstream-wait": {
			Means:      say("The service looks idle because it waits for somebody else: requests were sent to a database, a cache or another service, and the answers are slow.", "服務看起來很閒，因為它在等別人：請求送去了資料庫、快取或其他服務，而回應很慢。"),
			Evidence:   say("The trace's network waits by client library and line, how many waited at a time and how long one wait lasts; the snapshots at both ends; CPU use; what pools and labels know of the remote.", "trace 中依用戶端函式庫與行號分類的網路等待、同時有幾個在等、一次等多久；兩端的快照；CPU 用量；連線池與標籤對遠端的了解。"),
			Thresholds: say("A wait of 200 ms with several goroutines in it at a time is critical, 100 ms a warning; twice as much for HTTP. People notice a tenth of a second, and a request usually asks more than once. Where the trace shows a request ask many times one after the other (N+1), or queue for a few workers that ask, what it waits in all counts.", "同時有好幾個 goroutine、每次等 200 毫秒是嚴重，100 毫秒是警告；HTTP 為兩倍。人會察覺十分之一秒，而一個請求通常不只問一次。若 trace 顯示一個請求依序詢問多次（N+1），或排隊等少數代為詢問的 worker，則以它總共等待的時間計算。"),
			NotThis:    say("Subscriptions, streams and long polls, where nobody promised to answer soon. Waiting for a free connection is an exhausted pool. A process too busy to read answers has a CPU problem.", "訂閱、串流與長輪詢本來就沒有承諾很快回應。等空閒連線是連線池耗盡。忙到沒空讀回應的行程是 CPU 問題。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindGoroutine, ops.KindRuntime, ops.KindCPU}, Related: []ops.RuleID{"pool-exhausted", "pool-leaked", "lock-held-across-io"},
		},
		"slow-call": {
			Means:      say("A call that the service times took long, once. On the average of a window it is nothing; whoever was in it felt it.", "服務計時的某個呼叫這一次花了很久。在時間窗的平均裡看不見，但遇上的人有感。"),
			Evidence:   say("The mark that the agent leaves in the trace when a call that a rule watches for has ended, and what its goroutine did until then: where it waited, how long it computed, or that no processor was free. Behind a lock, the line at which whoever held it first had been meanwhile. The call on which a rule fired comes first.", "規則監看的呼叫結束時，agent 在 trace 裡留下的標記，以及它的 goroutine 到那時為止做了什麼：在哪裡等待、運算了多久，或是沒有空閒的 CPU。如果是等鎖，就是最先持有鎖的 goroutine 當時所在的那一行。觸發規則的那個呼叫排在最前面。"),
			Thresholds: say("60 ms are a warning, 120 ms critical; from 25 ms on a notice. A call that mostly had no processor is a notice: no line is to blame.", "60 毫秒是警告，120 毫秒是嚴重；25 毫秒起是提示。主要因為沒有 CPU 的呼叫只是提示：不是哪一行的錯。"),
			NotThis:    say("Calls that nobody told of are not judged. What everybody waits for all the time is told by the rules on locks, pools and downstreams.", "沒有回報的呼叫不會被判斷。大家一直在等的事情，由鎖、連線池與下游的規則說明。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindGoroutine}, Related: []ops.RuleID{"lock-held-across-io", "lock-contention", "scheduler-latency"},
		},
		"pool-exhausted": {
			Means:      say("All connections of a pool are in use and others queue for one. The same happens to requests at a semaphore of the program's own.", "連線池的連線全部用掉了，其他人排隊等。程式自己的 semaphore 也會讓請求遇到同樣的事。"),
			Evidence:   say("Waits in the acquire of database/sql, pgxpool, Redis, MongoDB and net/http; what those who have a connection wait for; the pools' own figures where the agent was handed them.", "在 database/sql、pgxpool、Redis、MongoDB 與 net/http 取得連線時的等待；拿到連線的人在等什麼；交給 agent 的連線池自己的數字。"),
			Thresholds: say("A queue of 200 ms with several goroutines in it at a time is critical, 100 ms a warning: it comes on top of the answer's time. What may be a batch that is bounded on purpose is at most a warning.", "同時有好幾個在排隊、每次 200 毫秒是嚴重，100 毫秒是警告：這還要加上回應的時間。可能是刻意限量的批次工作，最多只到警告。"),
			NotThis:    say("A pool from which nobody returns anything is leaked: there, a bigger pool only delays it. Rate limiters pace their callers on purpose.", "沒有人歸還連線的池是洩漏：那裡把池加大只是延後發作。限速器本來就是為了讓呼叫者慢下來。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindBlock, ops.KindGoroutine, ops.KindRuntime}, Related: []ops.RuleID{"downstream-wait", "pool-leaked"},
		},
		"pool-leaked": {
			Means:      say("Connections were taken from a pool and never given back: rows that were not closed, a transaction neither committed nor rolled back, or holders who wait for a second connection of the same pool. The same happens to the places of a semaphore, be it made of a channel. Only a restart brings such a pool back.", "連線從池裡取走就沒有歸還：rows 沒有關閉、交易沒有提交也沒有回復，或持有者又在等同一個池的第二條連線。semaphore（包括用 channel 做的）的名額也會這樣流失。這樣的池只有重啟才能恢復。"),
			Evidence:   say("Everybody waits in the acquire, no goroutine is inside the driver, no waiter was woken by a release while the trace ran; the pool's own figures where known.", "所有人都在等著取得連線、沒有 goroutine 在 driver 裡、trace 期間沒有人因為歸還而被喚醒；以及連線池自己的數字。"),
			Thresholds: say("One caller that can never go on is a warning, two are critical.", "一個永遠無法繼續的呼叫者是警告，兩個是嚴重。"),
			NotThis:    say("A pool that is merely too small, or behind a slow downstream: there the holders are in the driver, or wake others when they are done.", "只是太小的池，或後面的下游很慢：那裡的持有者在 driver 裡，或用完時會喚醒別人。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindGoroutine, ops.KindGoroutineDump, ops.KindRuntime}, Related: []ops.RuleID{"pool-exhausted", "response-body-leak"},
		},
		"channel-backpressure": {
			Means:      say("Senders wait because a receiver is slow: a broadcaster that one bad connection holds up, requests that wait for room in a queue whose worker does not keep up, be it a channel or a slice with a condition, or for the results of a few workers that never rest.", "接收端太慢，傳送端只好等：廣播者被一條爛連線拖住，或請求在等佇列（channel，或 slice 加 condition）騰出空間而 worker 跟不上，或在等少數幾個從不休息的 worker 交出結果。"),
			Evidence:   say("Waits in sends, and in selects that a receive ended, by trace, block profile and snapshots; who the receivers are and what they do the rest of their time. Senders that never woke are read from the snapshots.", "trace、block profile 與快照中的傳送等待，以及由接收結束的 select；接收者是誰、其餘時間在做什麼。從未醒來的傳送者由快照讀出。"),
			Thresholds: say("Within a request, sends of 200 ms are critical, 100 ms a warning. For senders that serve many, such as a broadcaster, half of their time in waits is critical, a quarter a warning. Producers that only produce are paced on purpose: at most a notice.", "在請求之中，傳送等 200 毫秒是嚴重，100 毫秒是警告。對服務很多人的傳送者（例如廣播），一半時間都在等是嚴重，四分之一是警告。純粹的生產者本來就該被節流：最多是提示。"),
			NotThis:    say("Workers parked in a receive are idle, not slow. A semaphore made of a channel is an exhausted pool. Results that nobody takes any more are a goroutine leak.", "停在接收的 worker 是閒著，不是慢。用 channel 做的 semaphore 屬於連線池耗盡。再也沒有人收的結果是 goroutine 洩漏。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindBlock, ops.KindGoroutine}, Related: []ops.RuleID{"deadlock", "goroutine-leak", "pool-exhausted"},
		},
	}
}
