package guide

import "github.com/opscenter/opscenter/internal/ops"

// cpuManual is about what uses the processors, and who waits for them.
func cpuManual() map[ops.RuleID]Manual {
	return map[ops.RuleID]Manual{
		"cpu-password-hashing": {
			Means:      say("The process spends its CPU on hashing passwords. Logins spin while the database idles, and everything else the service does waits behind them.", "行程的 CPU 都花在密碼雜湊上。登入一直轉圈圈而資料庫很閒，這個服務的其他工作也都排在後面等。"),
			Evidence:   say("The share of the CPU profile below bcrypt, scrypt, argon2 or PBKDF2, who calls it, and how much of the CPU limit is in use: quota, GOMAXPROCS, throttling, goroutines that queue for a processor.", "CPU profile 中 bcrypt、scrypt、argon2、PBKDF2 底下的占比、誰呼叫它，以及 CPU 上限用了多少：配額、GOMAXPROCS、限流、排隊等處理器的 goroutine。"),
			Thresholds: say("It counts how much of the CPU limit hashing takes: 40 % of it is critical, because latency roughly doubles at half load. 5 %, as in a healthy service with other work, is nothing, and so is hashing that dominates an idle process.", "看的是雜湊占 CPU 上限的多少：40 % 就是嚴重，因為負載過半後延遲大約會加倍。健康而有其他工作的服務只有 5 %，不算問題；閒置行程裡雜湊占比再高也不算。"),
			NotThis:    say("TLS handshakes and signatures are a hot path. A queue at a lock around the hash is an effect of the hashing.", "TLS 交握與簽章屬於熱點路徑。圍著雜湊的鎖大排長龍，是雜湊的結果而不是原因。"),
			Kinds:      []ops.Kind{ops.KindCPU, ops.KindRuntime, ops.KindTrace}, Related: []ops.RuleID{"cpu-hot-path", "lock-contention", "scheduler-latency"},
		},
		"cpu-hot-path": {
			Means:      say("One place in the program, or one kind of work such as JSON, regular expressions or compression, takes most of the CPU. It is what would have to change for the process to need less.", "程式中的某一處，或某一種工作（例如 JSON、正規表示式、壓縮），用掉大部分 CPU。要讓行程省下 CPU，就得改這裡。"),
			Evidence:   say("The CPU profile by the innermost function of your own code, the kind of work done there, how much of the CPU limit is in use, and whether anybody waits for a processor.", "CPU profile 依你自己的程式碼中最內層的函式加總、那裡做的是哪一種工作、CPU 上限用了多少，以及有沒有人在等處理器。"),
			Thresholds: say("A busy process is no fault. The share of the limit counts: a warning from 30 % on, critical near 60 %, and never critical while nobody waits for processors. Work that can be a program's very purpose is a notice as long as nobody waits.", "忙碌本身不是錯。看的是占上限的多少：30 % 起是警告，接近 60 % 是嚴重；只要沒有人在等處理器就不會是嚴重。本來就可能是程式目的的工作，在沒有人等待時只是提示。"),
			NotThis:    say("Password hashing and the garbage collector have rules of their own. A batch job that keeps a core busy is as it should be.", "密碼雜湊與垃圾回收各有自己的規則。批次工作把一個核心用滿是正常的。"),
			Kinds:      []ops.Kind{ops.KindCPU, ops.KindRuntime, ops.KindTrace}, Related: []ops.RuleID{"cpu-password-hashing", "cpu-gc-pressure", "scheduler-latency"},
		},
		"cpu-gc-pressure": {
			Means:      say("The garbage collector takes a good part of the CPU, because the program makes much garbage for a small heap, or asks for collections itself (runtime.GC). Requests get slow when they have to help the collector.", "垃圾回收用掉相當一部分 CPU，因為程式以很小的堆積製造大量垃圾，或自己不斷要求回收（runtime.GC）。請求被迫協助回收時就會變慢。"),
			Evidence:   say("The collector's share of the CPU profile, the runtime's own account, assists and collections in the trace, and which lines allocated in the window.", "CPU profile 中回收器的占比、執行期自己的統計、trace 中的協助與回收次數，以及時間窗內由哪幾行配置記憶體。"),
			Thresholds: say("2 to 10 % is usual, 15 % with a tiny heap. A third of what the process can get is a warning, two thirds are critical. Of a process that uses half of what it can get, a third of the CPU time that it uses is a warning as well, what is marked on idle processors included.", "2 至 10 % 是常態，堆積極小時 15 % 也正常。占可用 CPU 的三分之一是警告，三分之二是嚴重。行程已用掉一半可用 CPU 時，回收占其 CPU 時間三分之一（含在閒置處理器上的標記）也是警告。"),
			NotThis:    say("A heap at its memory limit is collected as often without much being allocated: that is memory limit thrashing. A burst of allocation at start is over soon.", "堆積頂到記憶體上限時，配置不多也會不停回收：那是記憶體上限震盪。啟動時的一陣配置很快就過去了。"),
			Kinds:      []ops.Kind{ops.KindCPU, ops.KindAllocs, ops.KindRuntime, ops.KindTrace}, Related: []ops.RuleID{"memory-limit-thrash", "heap-growth"},
		},
		"cpu-throttled": {
			Means:      say("The CPU quota of the container stops the process again and again. While it is stopped everything stands still, usually until the next tenth of a second begins.", "容器的 CPU 配額一再暫停行程。暫停期間一切靜止，通常要等到下一個十分之一秒。"),
			Evidence:   say("The share of the window's periods in which the cgroup was stopped, and for how long; the quota against GOMAXPROCS; who waits meanwhile.", "時間窗內 cgroup 被暫停的週期占比與時間長度、配額與 GOMAXPROCS 的對照，以及這段期間誰在等。"),
			Thresholds: say("Stopped in a quarter of the periods is a warning: one request in four meets a stop. Half of them is critical. Where nobody waits it is a notice.", "四分之一的週期被暫停是警告，等於每四個請求就有一個遇上；一半是嚴重。沒有人在等時只是提示。"),
			NotThis:    say("A slow downstream: throttled processes wait for everything a little longer. What uses up the quota is the cause.", "不是下游變慢：被限流的行程等什麼都會久一點。用光配額的才是原因。"),
			Kinds:      []ops.Kind{ops.KindRuntime, ops.KindCPU}, Related: []ops.RuleID{"cpu-hot-path", "scheduler-latency", "cpu-gc-pressure"},
		},
		"memory-limit-thrash": {
			Means:      say("What lives in the heap has come near to the memory limit (GOMEMLIMIT). There is no room left to allocate, so that the collector runs all the time.", "堆積中存活的資料已接近記憶體上限（GOMEMLIMIT）。沒有空間可以配置，垃圾回收只好不停執行。"),
			Evidence:   say("The limit, the live heap and the goal of the next collection, how often it collects and what that costs. With the agent also the line that sets the limit, where the program does so itself: GOMEMLIMIT in the environment then has no effect.", "上限、存活的堆積、下一次回收的目標、回收的頻率與成本。有 agent 時，若上限是程式自己設定的，也會指出設定的那一行：此時環境變數 GOMEMLIMIT 沒有作用。"),
			Thresholds: say("It counts what the collector takes of the CPU the process can get: 40 % is critical. Go itself gives the limit up at 50 %.", "看回收器用掉多少可用的 CPU：40 % 是嚴重。到 50 % 時 Go 會自行放棄這個上限。"),
			NotThis:    say("Where the heap is small and much is allocated, it is garbage collection pressure. A heap that grows but is far from its limit is heap growth.", "堆積小而配置多，是垃圾回收壓力。堆積在成長但離上限還遠，是堆積成長。"),
			Kinds:      []ops.Kind{ops.KindRuntime, ops.KindCPU, ops.KindHeap}, Related: []ops.RuleID{"cpu-gc-pressure", "heap-growth", "retained-objects"},
		},
		"scheduler-latency": {
			Means:      say("Goroutines are ready to go on but wait long for a processor. Everything is slow although nothing blocks. Or the program stops its own world over and over, for instance to read memory statistics for each request.", "goroutine 已經可以繼續，卻要等很久才輪到處理器。沒有任何東西阻塞，但一切都慢。也可能是程式一再讓自己全面停頓（stop-the-world），例如每個請求都讀記憶體統計。"),
			Evidence:   say("How long goroutines were runnable each time, how many were ready on average, and what kept the processors busy; for how long the world was stopped, and which line asked for it. Without a trace the runtime's histogram stands in, with less confidence.", "goroutine 每次處於可執行狀態多久、平均有多少個在等、處理器在忙什麼；全面停頓了多久、是哪一行要求的。沒有 trace 時改用執行期的直方圖，信心較低。"),
			Thresholds: say("Go lets a goroutine run 10 ms when others wait. One such slice as the average wait is a warning, two are critical. Where only workers of a batch wait for each other it is a notice. A world that is stopped for a tenth of the time is critical.", "有人在等時，Go 一次最多讓 goroutine 執行 10 毫秒。平均等待一個時間片是警告，兩個是嚴重。若只是批次工作彼此等待，則為提示。有十分之一的時間全面停頓是嚴重。"),
			NotThis:    say("It is usually an effect of what keeps the processors busy: a hot path, the collector, a quota. Where the processors are not full, something outside takes the CPU.", "它通常是處理器被占用的結果：熱點路徑、垃圾回收、配額。處理器沒有滿載時，是外面的東西搶走了 CPU。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindCPU, ops.KindRuntime}, Related: []ops.RuleID{"cpu-hot-path", "cpu-throttled", "cpu-gc-pressure"},
		},
		"syscall-blocked": {
			Means:      say("Goroutines stand in blocking system calls or in C code, each on a thread of its own: file locks, slow disks, name resolution by C.", "goroutine 卡在阻塞式系統呼叫或 C 程式碼裡，每一個都占住一條執行緒：檔案鎖、慢速磁碟、由 C 進行的名稱解析。"),
			Evidence:   say("How many goroutines were in a system call at one line of the program at any time, and how long each stayed; the snapshots at both ends of the window must agree where there is no trace.", "任一時刻有多少 goroutine 在程式的同一行做系統呼叫、每次停多久；沒有 trace 時，時間窗兩端的快照必須一致。"),
			Thresholds: say("Ten at once are a warning, twenty critical: from there on threads, and the requests on them, queue behind something slow.", "同時十個是警告，二十個是嚴重：從這裡開始，執行緒與其上的請求都排在某個慢的東西後面。"),
			NotThis:    say("Network connections do not count, Go waits for those without a thread. Calls that wait by design, such as event loops, signals and child processes, are left out.", "網路連線不算，Go 不用執行緒等它們。本來就用來等待的呼叫（事件迴圈、訊號、子行程）不列入。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindGoroutine}, Related: []ops.RuleID{"thread-explosion", "downstream-wait"},
		},
		"thread-explosion": {
			Means:      say("The process has far more threads than it can run. Each takes memory, and platforms and Go itself end the process at some number of them.", "行程的執行緒遠多於能執行的數量。每條都吃記憶體，平台與 Go 都會在超過某個數量時結束行程。"),
			Evidence:   say("The number of threads over the window, and what keeps them: goroutines in blocking system calls or C, or locked to their thread.", "時間窗內的執行緒數，以及是什麼占住它們：卡在阻塞式系統呼叫或 C 的 goroutine，或鎖定在執行緒上的 goroutine。"),
			Thresholds: say("What counts are the threads beyond GOMAXPROCS and a dozen: 400 are critical. Container platforms often allow 1,024 a pod, Go ends the program at 10,000.", "計算超出 GOMAXPROCS 加上十餘條的部分：400 條是嚴重。容器平台常限制一個 Pod 1,024 條，Go 在 10,000 條時結束程式。"),
			NotThis:    say("A burst in the past whose threads are idle now is a notice: Go keeps every thread that it ever needed at once.", "過去的一陣尖峰留下的閒置執行緒只是提示：Go 會保留曾經同時需要過的每一條執行緒。"),
			Kinds:      []ops.Kind{ops.KindRuntime, ops.KindGoroutine, ops.KindGoroutineDump}, Related: []ops.RuleID{"syscall-blocked"},
		},
		"timer-storm": {
			Means:      say("Timers, tickers and sleeps fire so often that waking goroutines is what the processors do: polling instead of waiting.", "計時器、ticker 與 sleep 觸發得太頻繁，處理器都忙著喚醒 goroutine：那是輪詢，而不是等待。"),
			Evidence:   say("The share of CPU time in the runtime's timers, how many waits a timer ended per second and at which lines, and how much of the CPU limit is in use.", "CPU 時間花在執行期計時器的占比、每秒有多少等待是由計時器結束、在哪幾行，以及 CPU 上限用了多少。"),
			Thresholds: say("Below 5,000 wake-ups a second nothing is said. 40 % of what the process can get is critical; it stays a warning while nobody waits.", "每秒喚醒不到 5,000 次就不列出。占可用 CPU 的 40 % 是嚴重；沒有人在等時止於警告。"),
			NotThis:    say("An idle process spends most of its little CPU time in timers. Timers that are never stopped are a leak, not a storm.", "閒置行程本來就把僅有的 CPU 時間花在計時器上。從未停止的計時器是洩漏，不是風暴。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindCPU, ops.KindRuntime}, Related: []ops.RuleID{"timer-leak", "goroutine-churn"},
		},
		"goroutine-churn": {
			Means:      say("A go statement runs so often, for so little, that starting, scheduling and ending goroutines costs more than what they do.", "某個 go 敘述執行得太頻繁、每次做的事又太少，啟動、排程與結束 goroutine 的成本比它們做的事還高。"),
			Evidence:   say("How many goroutines your own code starts per second and where, and the share of CPU time in starting and ending them.", "你的程式碼每秒啟動多少 goroutine、在哪裡啟動，以及啟動與結束它們的 CPU 占比。"),
			Thresholds: say("Below 10,000 a second, about 1 % of a core, nothing is said. 30 % of what the process can get is critical; it stays a warning while nobody waits.", "每秒不到 10,000 個（約一個核心的 1 %）不列出。占可用 CPU 的 30 % 是嚴重；沒有人在等時止於警告。"),
			NotThis:    say("Goroutines that pile up are something else: those that churn are gone at once.", "堆積起來的 goroutine 是另一回事：這裡的 goroutine 馬上就結束了。"),
			Kinds:      []ops.Kind{ops.KindTrace, ops.KindCPU, ops.KindRuntime}, Related: []ops.RuleID{"unbounded-concurrency", "goroutine-leak"},
		},
	}
}
