package waits

import (
	"slices"
	"strings"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/goroutines"
	"github.com/opscenter/opscenter/internal/ops"
)

const semaphores = "golang.org/x/sync/semaphore"

// takesPlace reports whether a wait is for a place of a semaphore: that of
// golang.org/x/sync, or a channel that counts places, by the name of who sends to it (or,
// for a request, receives from it): a trace knows no channels.
func takesPlace(w *wait) bool {
	switch {
	case w.client == semaphores:
		return true
	case w.user == nil || w.kind != send && (w.kind != receive || !w.handler):
		return false
	}
	return calledLike(w.user, places) || w.kind == send && typeLike(w.user, limiters)
}

var (
	places   = []string{"acquire", "enter", "lock", "take", "obtain", "borrow", "admit", "claim", "grab", "checkout", "reserve", "permit", "slot"}
	limiters = []string{"semaphore", "limiter", "slots", "bulkhead", "permits", "throttle"}
)

// typeLike reports whether the function is a method of a type whose name has one of
// the words.
func typeLike(f *evidence.Frame, words []string) bool {
	name := strings.ToLower(typeOf(f.Plain()))
	return name != "" && slices.ContainsFunc(words, func(word string) bool { return strings.Contains(name, word) })
}

// lost returns the semaphore at which w waits if its places were taken and not
// given back: everybody has waited for as long as the trace was, nobody was let in
// by anybody, and no goroutine is about something that could end in which a place
// may be kept: past the Acquire, or in code of the same function or type.
func (v *view) lost(w *wait) *pool {
	if v.e.Trace == nil || !takesPlace(w) || w.whole == 0 || w.count != w.open || len(v.wakers(w)) > 0 {
		return nil
	}
	for _, x := range v.waits {
		if x != w && !takesPlace(x) && x.kind != idle && (v.busy(x) > 0 || v.counted(x) > 0) && mayKeep(w, x.stack) {
			return nil
		}
	}
	if v.now != nil {
		for i := range v.now.Groups {
			g := &v.now.Groups[i]
			if (g.State == goroutines.Running || g.State == goroutines.Runnable || g.State == goroutines.Syscall) && mayKeep(w, g.Stack) {
				return nil
			}
		}
	}
	p := &pool{client: semaphores, holders: []*wait{}}
	p.add(takerOf(w), w)
	return p
}

// takerOf is the line that takes the place: where a channel's send is all that a
// function such as (*Gate).enter does, that of its caller, who would have to give it back.
func takerOf(w *wait) *evidence.Frame {
	if w.client == semaphores || !calledLike(w.user, places) {
		return w.user
	}
	for _, f := range w.stack[w.at+1:] {
		if f.Origin == evidence.OwnCode && f.Outer() != w.user.Outer() {
			return f
		}
	}
	return w.user
}

// mayKeep reports whether a stack is in the function that acquires, in one that is
// written within it, or in a method of its type.
func mayKeep(w *wait, s evidence.Stack) bool {
	return withinOf(w.user, s) || withinOf(takerOf(w), s)
}

func withinOf(f *evidence.Frame, s evidence.Stack) bool {
	name := strings.TrimSuffix(f.Plain(), "-fm")
	if i := strings.Index(name, ".func"); i > 0 {
		name = name[:i]
	}
	family := name
	if i := strings.LastIndexByte(name, ')'); i > 0 {
		family = name[:i+1]
	}
	return s.Index(func(f *evidence.Frame) bool { return strings.HasPrefix(f.Plain(), family+".") || f.Plain() == name }) >= 0
}

// sayLost words a semaphore whose places are gone.
func (v *view) sayLost(f *ops.Finding, p *pool, user *evidence.Frame) {
	f.Confidence = rule.Lower(f.Confidence, ops.Medium)
	f.Title = rule.Say("%[1]s waits at a semaphore whose places are not given back (%[2]s)", "%[1]s 卡在 semaphore：名額沒有人歸還（%[2]s）", rule.Code(user), rule.Line(user))
	f.Summary = rule.Say("Waiting for a place: %s, and nobody is seen to have one. Only a restart brings it back.", "%s 在等名額，卻看不到有人占用。只有重啟才會恢復。", rule.Goroutines(max(p.busy, v.countedAll(p))))
	if w := p.places[0].waits[0]; w.client != semaphores {
		f.Title = rule.Say("%[1]s waits for a place, and none is given back (%[2]s)", "%[1]s 在等名額，但沒有人歸還（%[2]s）", rule.Code(user), rule.Line(user))
		f.Explanation = rule.Say("The channel counts places, by the name of who uses it: a place was taken and not given back, often on a path that returns early because of an error. Each time costs one, until none is left. (If it is a queue instead, whoever takes from it has gone.)",
			"從使用者的名稱看，這個 channel 是在計算名額：有人取了名額卻沒有歸還，常見於因錯誤提早 return 的路徑。每發生一次就少一個，直到用光。（如果它其實是佇列，就是取出的那一方已經不在。）")
		f.Remedies = []ops.Text{
			rule.Say("Right after a place is taken: defer its return (`defer func() { <-slots }()`).", "取得名額後立刻以 defer 歸還（`defer func() { <-slots }()`）。"),
			rule.Say("Take it in a select with case <-ctx.Done(), so that callers get an error rather than wait for ever.", "取名額時用 select 加上 case <-ctx.Done()，讓呼叫端得到錯誤，而不是永遠等待。"),
			rule.Say("Restart to get going again.", "先重啟恢復服務。"),
		}
		return
	}
	f.Explanation = rule.Say("Acquire was called and Release was not, often on a path that returns early because of an error. Each time costs one place, until none is left.",
		"呼叫了 Acquire 卻沒有 Release，常見於因錯誤提早 return 的路徑。每發生一次就少一個名額，直到用光。")
	f.Remedies = []ops.Text{
		rule.Say("Right after each successful Acquire: defer sem.Release(n), with the same n.", "每次 Acquire 成功後立刻寫上 defer sem.Release(n)，n 要一致。"),
		rule.Say("Acquire with a context that has a deadline, so that callers get an error rather than wait for ever.", "Acquire 要用帶期限的 context，讓呼叫端得到錯誤，而不是永遠等待。"),
		rule.Say("Restart to get going again.", "先重啟恢復服務。"),
	}
}
