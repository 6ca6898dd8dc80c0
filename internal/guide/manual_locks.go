package guide

import "github.com/opscenter/opscenter/internal/ops"

// locksManual is about who waits for a lock, and what its holder does.
func locksManual() map[ops.RuleID]Manual {
	lockScore := say("What counts is the lower of two: how many wait at any moment and how long each waits. Three goroutines at a time for 4 ms each, a quarter of a frame, are critical. Neither a crowd that waits for microseconds nor a single long wait is an incident.", "取兩者中較低的：任一時刻有幾個在等，以及每個等多久。同時三個、各等 4 毫秒（四分之一個畫格）就是嚴重。一群人各等幾微秒，或只有一個人等很久，都不算事故。")
	return map[ops.RuleID]Manual{
		"lock-held-across-io": {
			Means:      say("A lock is held while its holder waits for a database, the network, a file, a timer or a channel. Whoever wants the lock waits for the same, one after the other, while the CPU idles.", "持鎖者在持鎖期間等資料庫、網路、檔案、計時器或 channel。想要這把鎖的人只好一個接一個等同一件事，而 CPU 很閒。"),
			Evidence:   say("Three sources, each of which can do without the others: the trace, which knows what the holder did between Lock and Unlock; the mutex profile with the goroutine snapshots; the snapshots alone, with a crowd at a Lock and somebody behind it. The more agree, the surer.", "三個來源，缺了哪個都能成立：trace 知道持鎖者在 Lock 與 Unlock 之間做了什麼；mutex profile 加上 goroutine 快照；或只憑快照看到一群人卡在 Lock、而有人在鎖內。來源越一致越有把握。"),
			Thresholds: lockScore,
			NotThis:    say("I/O after the Unlock; sync.Cond, whose Wait gives the lock back; a pool's own waiting for connections; holders who compute, which is lock contention.", "Unlock 之後的 I/O；sync.Cond，它的 Wait 會放開鎖；連線池自己的等待；持鎖者在計算則是鎖競爭。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindMutex, ops.KindGoroutine, ops.KindBlock}, Related: []ops.RuleID{"lock-contention", "log-contention", "deadlock"},
		},
		"lock-contention": {
			Means:      say("Goroutines queue for a lock because its holders compute, or because too much happens under one lock.", "goroutine 排隊搶鎖，因為持鎖者在計算，或太多事情都在同一把鎖底下進行。"),
			Evidence:   say("Waits of a millisecond and more in the trace, or those in the block and mutex profiles; whose holds they are; what the holder does, by the CPU profile's lines between Lock and Unlock.", "trace 中一毫秒以上的等待，或 block 與 mutex profile 中的等待；是誰持有；持鎖者做了什麼，依 CPU profile 在 Lock 與 Unlock 之間的行。"),
			Thresholds: lockScore,
			NotThis:    say("A busy and healthy lock, whose waits are below a millisecond. Holders who wait for something (lock held across I/O). A lack of processors, where the holder itself is merely ready to run.", "忙碌但健康的鎖，等待不到一毫秒。持鎖者在等別的東西（持鎖期間執行 I/O）。處理器不足，持鎖者自己也只是在等著執行。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindMutex, ops.KindBlock, ops.KindCPU}, Related: []ops.RuleID{"lock-held-across-io", "cpu-hot-path", "scheduler-latency"},
		},
		"log-contention": {
			Means:      say("Goroutines queue for a logger: its own lock while it writes to a slow place, the lock of the file that all write to, or a lock of the program's under which it logs.", "goroutine 排隊寫日誌：logger 寫到慢的地方時自己的鎖、大家共用檔案的鎖，或程式在自己的鎖底下寫日誌。"),
			Evidence:   say("That of a lock held across I/O, where what waits is a known logging library, your own type that is named a log, or the write lock of a file; how many log lines are on their way at once.", "與持鎖期間執行 I/O 相同，只是等的是已知的日誌函式庫、你自己名為 log 的型別，或檔案的寫入鎖；以及同時有多少行日誌在路上。"),
			Thresholds: lockScore,
			NotThis:    say("Logging that costs CPU is a hot path. A write-ahead, commit or event log is data, not a log of what the program does.", "吃 CPU 的日誌是熱點路徑。預寫、提交或事件日誌是資料，不是程式的執行日誌。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindMutex, ops.KindGoroutine}, Related: []ops.RuleID{"lock-held-across-io", "lock-contention"},
		},
		"deadlock": {
			Means:      say("Goroutines wait for each other and nothing can wake them: a lock that its own holder locks again, several who hold what the others want, a lock that nobody gave back, goroutines that wait for each other over channels. With a listener or a timer in the process Go never notices, and the CPU idles.", "goroutine 互相等待，誰也叫不醒誰：持鎖者又鎖同一把鎖、彼此握著對方要的鎖、沒有人歸還的鎖，或透過 channel 互相等待。行程裡只要有 listener 或計時器，Go 就不會發現，而 CPU 很閒。"),
			Evidence:   say("Waits that lasted the whole trace while nobody else waited long, or a minute and more by the dump; then who could hold the lock, by which goroutines are behind a Lock of it. Block and mutex profiles have nothing of waits that never end.", "整段 trace 都沒有結束、而其他人都沒有久等的等待，或完整傾印中超過一分鐘的等待；再看誰可能握著鎖。永遠不會結束的等待不會出現在 block 與 mutex profile。"),
			Thresholds: say("One goroutine that stands for good is critical: those that come after join it.", "有一個永遠停住就是嚴重：後來的都會加入。"),
			NotThis:    say("Holders who wait for something outside, however long, wake up some day. Slow consumers are channel backpressure. Idle workers miss nobody.", "等外界的持鎖者總有一天會醒。慢消費者是 channel 背壓。閒置的 worker 沒有人在等它。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindGoroutine, ops.KindGoroutineDump}, Related: []ops.RuleID{"lock-held-across-io", "channel-backpressure", "goroutine-leak"},
		},
	}
}
