package guide

import "github.com/opscenter/opscenter/internal/ops"

// memoryManual is about what is kept.
func memoryManual() map[ops.RuleID]Manual {
	return map[ops.RuleID]Manual{
		"goroutine-leak": {
			Means:      say("Goroutines are started again and again and never end. Each keeps its stack and all that it refers to, until the process is killed for memory.", "goroutine 一再被啟動卻從不結束。每一個都留住自己的堆疊與它所參考的一切，直到行程因記憶體被殺掉。"),
			Evidence:   say("How many there are at the window's ends by start function and line; from the trace, how many waits at that line began and ended; ages from a dump; Go's own leak profile where the build has it.", "時間窗兩端依啟動函式與行號的數量；trace 中該行的等待開始與結束了多少；完整傾印中的等待時間；建置版本支援時，Go 自己的洩漏 profile。"),
			Thresholds: say("By the rate, 3 more a second are critical (a quarter of a million a day), and by the number, 4,000 that are stuck. Growth has to be more than chance and hardly any of them may end; three more senders that nobody receives from are a notice.", "依速率，每秒多 3 個是嚴重（一天二十五萬個）；依數量，卡住 4,000 個是嚴重。成長必須超出隨機，而且幾乎沒有任何一個結束；若是沒有人接收的送出，多 3 個就會提示。"),
			NotThis:    say("Workers that wait for work stay the same in number. Connections that come on bring goroutines. Requests that pile up behind a lock, a pool or a slow downstream are those rules' business.", "等工作的 worker 數量不變。新連線會帶來 goroutine。堆在鎖、連線池或慢下游後面的請求，由那些規則負責。"),
			Kinds:      []ops.Kind{ops.KindGoroutine, ops.KindGoroutineDump, ops.KindTrace, ops.KindGoroutineLeak}, Related: []ops.RuleID{"heap-growth", "unbounded-concurrency", "timer-leak"},
		},
		"heap-growth": {
			Means:      say("The live heap grows: objects are made and never let go. It ends with the memory limit.", "存活的堆積持續成長：物件產生後就不放掉。最後會撞上記憶體上限。"),
			Evidence:   say("The heap profiles of the window's ends by line and by type, what was allocated in between, the live heap after each collection, the memory limit.", "時間窗兩端依行號與型別的 heap profile、其間配置了多少、每次回收後的存活堆積、記憶體上限。"),
			Thresholds: say("If the limit is reached within an hour at this pace it is critical: that is what somebody who is called needs. Without a limit, 1 GiB an hour. A growth must be more than three standard deviations of what sampling alone does.", "以這個速度一小時內會撞上限就是嚴重：那是被叫醒的人需要的時間。沒有上限時，以每小時 1 GiB 計。成長必須超過取樣誤差的三個標準差。"),
			NotThis:    say("The sawtooth of garbage, a cold start, a batch, a cache that is full, where as much goes as comes. In the first minutes of a process it is at most a warning.", "垃圾的鋸齒、冷啟動、批次工作、已滿的快取（進多少就出多少）。行程剛啟動的幾分鐘內最多只到警告。"),
			Kinds:      []ops.Kind{ops.KindHeap, ops.KindAllocs, ops.KindRuntime, ops.KindHeapTypes}, Related: []ops.RuleID{"goroutine-leak", "retained-objects", "memory-limit-thrash"},
		},
		"retained-objects": {
			Means:      say("One line, or one type, holds most of what is live, although it does not grow now: a cache without a bound, a map that nobody empties, sessions of those who left.", "某一行或某個型別握住大部分存活的資料，雖然現在沒有在長：沒有上限的快取、沒有人清的 map、離線玩家的 session。"),
			Evidence:   say("The heap profile at the window's end by line and by type, the containers that hold them, the memory limit, and what was allocated there within the window. Where about as many goroutines of the same package wait at one line, without connections for them, that line comes first: each holds one of the objects.", "時間窗結束時依行號與型別的 heap profile、裝著它們的容器、記憶體上限，以及時間窗內在那裡的配置。若同一套件有數量相當的 goroutine 停在同一行，又沒有對應的連線，就先指出那一行：每個 goroutine 各持有一個物件。"),
			Thresholds: say("A line is spoken of from 40 % of the live heap on. Half of the limit scores 75, and it is critical only from 80 % of it on. Without a limit 400 MiB, and never critical.", "占存活堆積 40 % 起才會列出。達到上限的一半得 75 分，到上限的 80 % 才是嚴重。沒有上限時以 400 MiB 計，且不會是嚴重。"),
			NotThis:    say("Growth has a rule of its own. What is replaced all the time (a full cache) and what is few large pieces (buffers) does not look forgotten: a notice.", "成長有自己的規則。一直在替換的（已滿的快取）與少數幾塊大的（緩衝區）不像被遺忘：只是提示。"),
			Kinds:      []ops.Kind{ops.KindHeap, ops.KindHeapTypes, ops.KindAllocs, ops.KindRuntime}, Related: []ops.RuleID{"heap-growth", "memory-limit-thrash"},
		},
		"response-body-leak": {
			Means:      say("Answers of HTTP servers whose body was neither read to its end nor closed. Each keeps its connection, two goroutines and some 20 KiB.", "HTTP 回應的 body 沒有讀完也沒有關閉。每一個都留住一條連線、兩個 goroutine 與約 20 KiB。"),
			Evidence:   say("The goroutines of net/http's client: connections whose answer was handed over and whose body nobody reads. The caller is looked for in the heap and among all calls.", "net/http 用戶端的 goroutine：回應已交出、卻沒有人讀 body 的連線。呼叫者由堆積與所有呼叫中尋找。"),
			Thresholds: say("At least 20 are needed. 150 of them, or 2 more a second, are critical: file descriptors often end at 1,024.", "至少要有 20 個。150 個，或每秒多 2 個，就是嚴重：檔案描述元常以 1,024 為上限。"),
			NotThis:    say("Idle keep-alive connections, answers that are being streamed, requests that have no answer yet.", "閒置的 keep-alive 連線、正在串流的回應、還沒有回應的請求。"),
			Kinds:      []ops.Kind{ops.KindGoroutine, ops.KindHeap, ops.KindTrace}, Related: []ops.RuleID{"goroutine-leak", "pool-leaked"},
		},
		"timer-leak": {
			Means:      say("Timers are made again and again and never stopped: AfterFunc, contexts with a deadline that nobody cancels, tickers in goroutines that never end.", "計時器一再建立卻從不停止：AfterFunc、沒有人取消的 context 期限、永遠不結束的 goroutine 裡的 ticker。"),
			Evidence:   say("What package time allocated and is still live by line, at the window's ends; goroutines that become more and are woken by timers alone.", "時間窗兩端 time 套件配置且仍存活的物件，依行號；越來越多、只由計時器喚醒的 goroutine。"),
			Thresholds: say("500 more a second, or 100,000 live ones, are critical. In the first five minutes of a process it is at most a warning.", "每秒多 500 個，或存活 100,000 個，是嚴重。行程啟動的前五分鐘最多只到警告。"),
			NotThis:    say("One ticker for each of many connections: their number stays. Few and busy timers are a storm, not a leak.", "每條連線一個 ticker：數量不變。少而頻繁的計時器是風暴，不是洩漏。"),
			Kinds:      []ops.Kind{ops.KindHeap, ops.KindAllocs, ops.KindGoroutine, ops.KindTrace}, Related: []ops.RuleID{"timer-storm", "goroutine-leak"},
		},
		"unbounded-concurrency": {
			Means:      say("A goroutine per item or request that nothing limits: they are started faster than they are done, or are thousands at once that wait for the same few connections or locks.", "每個項目或請求一個 goroutine，而沒有任何限制：啟動得比做完快，或同時數千個都在等同樣的幾條連線或幾把鎖。"),
			Evidence:   say("The goroutines at the window's ends by start function and line; from the trace, how many of the function began and ended, where they are started, and how many at a time ran or were ready to.", "時間窗兩端依啟動函式與行號的 goroutine；trace 中該函式開始與結束了多少、在哪裡啟動、平均同時有多少在執行或等著執行。"),
			Thresholds: say("There must be at least 200. 1,500 at once, or 100 more a second, are critical: what shares some cores or connections gains nothing from more. Below 5,000 that do not become more it is a warning.", "至少要有 200 個。同時 1,500 個，或每秒多 100 個，是嚴重：共用少數核心或連線的工作，再多也沒有好處。不到 5,000 個且沒有增加時是警告。"),
			NotThis:    say("Goroutines of connections, pools of workers, a server's one goroutine per request, and goroutines that never end (a leak).", "連線的 goroutine、worker 池、伺服器每個請求一個的 goroutine，以及永遠不結束的 goroutine（洩漏）。"),
			Kinds:      []ops.Kind{ops.KindGoroutine, ops.KindTrace}, Related: []ops.RuleID{"goroutine-leak", "goroutine-churn", "pool-exhausted"},
		},
	}
}
