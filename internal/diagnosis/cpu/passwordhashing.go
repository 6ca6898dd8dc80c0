package cpu

import (
	"cmp"
	"slices"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/rule"
	"github.com/opscenter/opscenter/internal/evidence"
	"github.com/opscenter/opscenter/internal/ops"
)

// passwordHashing finds processes whose CPU goes into hashing passwords: logins
// that spin while the database idles.
//
// Evidence: the share of CPU time under a function that is made to be slow, and
// how much of the CPU limit is in use (quota, GOMAXPROCS, throttling, goroutines
// that queue for a processor). Hashing that is the greater part of an idle
// process is what a user service does at night, so the score is of the share of
// the limit that hashing takes: 75 where it is 40 %, which leaves too little for
// the bursts of anything else (by the usual rule that latency doubles at half
// load); 5 %, as in a healthy service that does other work, is no finding.
//
// Not to be confused with TLS handshakes or signatures (cpu-hot-path), nor with
// time spent waiting for a lock around the hash (lock-contention, its effect).
var passwordHashing = rule.Rule{
	ID: "cpu-password-hashing", Scenario: 1,
	Name:  rule.Say("password hashing uses up the CPU", "密碼雜湊耗盡 CPU"),
	Judge: judgePasswordHashing,
}

// hashes are made to be slow. pbkdf2 is also a part of scrypt: the outermost
// names it.
var hashes = []struct{ prefix, name string }{
	{"golang.org/x/crypto/bcrypt.", "bcrypt"},
	{"golang.org/x/crypto/argon2.", "argon2"},
	{"golang.org/x/crypto/scrypt.", "scrypt"},
	{"golang.org/x/crypto/pbkdf2.", "PBKDF2"},
	{"crypto/pbkdf2.", "PBKDF2"},
	{"crypto/internal/fips140/pbkdf2.", "PBKDF2"},
	{"github.com/matthewhartstonge/argon2.", "argon2"},
	{"github.com/alexedwards/argon2id.", "argon2"},
	{"github.com/elithrar/simple-scrypt.", "scrypt"},
	{"github.com/GehirnInc/crypt/", "crypt(3)"},
	{"golang.org/x/crypto/blowfish.", "bcrypt"},
	{"github.com/xdg-go/pbkdf2.", "PBKDF2"},
}

// hashOf returns the outermost frame of a password hash, and its name.
func hashOf(s evidence.Stack) (at int, name string) {
	at = s.Outermost(func(f *evidence.Frame) bool {
		for _, h := range hashes {
			if evidence.Named(h.prefix)(f) {
				return true
			}
		}
		return false
	})
	if at < 0 {
		return -1, ""
	}
	for _, h := range hashes {
		if evidence.Named(h.prefix)(s[at]) {
			return at, h.name
		}
	}
	return -1, ""
}

// hashCaller is who calls a hash.
type hashCaller struct {
	frame, hash *evidence.Frame
	name        string
	value       int64
}

// hashCallers returns who calls hashes, most CPU time first. argon2 computes on
// goroutines of its own, whose stacks do not lead back: its callers are those
// that are seen to enter it or to wait for it.
func hashCallers(e *evidence.Evidence, typ int) (out []hashCaller) {
	add := func(s evidence.Stack, value int64) {
		at, name := hashOf(s)
		if at < 0 {
			return
		}
		c := hashCaller{frame: s.UserAbove(at), hash: s[at], name: name, value: value}
		if c.frame == nil || c.frame.Origin != evidence.OwnCode {
			return
		}
		for i := range out {
			if out[i].frame == c.frame {
				out[i].value += value
				return
			}
		}
		out = append(out, c)
	}
	for i := range e.CPU.Rows {
		add(e.CPU.Rows[i].Stack, e.CPU.Rows[i].Values[typ])
	}
	for _, g := range []*evidence.Goroutines{e.Goroutines, e.GoroutinesBefore, e.Dump} {
		if len(out) == 0 && g != nil {
			for i := range g.Groups {
				add(g.Groups[i].Stack, int64(g.Groups[i].Count))
			}
		}
	}
	if len(out) == 0 { // nobody's own code: name the library that it is
		for i := range e.CPU.Rows {
			s := e.CPU.Rows[i].Stack
			if at, name := hashOf(s); at >= 0 {
				f := s[at]
				if u := s.UserAbove(at); u != nil {
					f = u
				}
				return []hashCaller{{frame: f, hash: s[at], name: name, value: 1}}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b hashCaller) int { return cmp.Compare(b.value, a.value) })
	return out
}

func judgePasswordHashing(e *evidence.Evidence) rule.Result {
	typ := e.CPU.Type("cpu")
	if typ < 0 {
		return rule.Needs(e, ops.KindCPU)
	}
	l := loadOf(e)
	hashing := e.CPU.Sum(typ, func(s evidence.Stack) bool { at, _ := hashOf(s); return at >= 0 })
	if hashing == 0 || l.Total == 0 {
		return rule.OK(rule.Say("no CPU time in password hashing (%.2f cores in use)", "CPU 沒有花在密碼雜湊（使用 %.2f 核心）", l.Cores))
	}
	callers := hashCallers(e, typ)
	share := float64(hashing) / float64(l.Total)
	of := share * l.Use()
	top, called, name := callers[0].frame, callers[0].hash, callers[0].name
	cores := share * l.Cores
	f := ops.Finding{
		Rule: "cpu-password-hashing", Scenario: 1, Score: ops.Score(of, 0.4), Confidence: ops.High,
		Title: rule.Say("%[1]s takes %[2]s of the CPU: `%[3]s` hashes passwords (%[4]s)", "%[1]s 佔 CPU %[2]s：`%[3]s` 正在做密碼雜湊（%[4]s）",
			name, rule.Pct(share), rule.Short(top), rule.Line(top)),
		Summary: rule.Say("%[1]s of %[2]s CPU time in this window went into %[3]s: %.2[4]f cores on average%[5]s. Everything else, logins first, waits for its turn.",
			"這段時間 %[2]s 的 CPU 中有 %[1]s 花在 %[3]s，平均 %.2[4]f 核心%[5]s。其他工作（首先是登入）都在排隊等 CPU。",
			rule.Dur(time.Duration(hashing)), rule.Dur(l.Total), name, cores, ofLimit(l)),
		Explanation: rule.Say("%[1]s is slow on purpose, so that stolen hashes are hard to guess: each call keeps a processor busy for its whole cost, typically 50 to 300 ms. `%[2]s` calls it for every login. When logins arrive faster than the processors can hash, they queue, although the database is idle.",
			"%[1]s 是刻意設計成很慢的演算法，讓外洩的雜湊難以破解：每次呼叫都會佔滿一個核心，通常 50 到 300 毫秒。`%[2]s` 每次登入都呼叫它；登入速度一旦超過 CPU 能計算的速度，即使資料庫很閒，登入也只能排隊。",
			name, rule.Short(top)),
		Remedies: []ops.Text{
			rule.Say("Now: add pods (HPA on CPU), or raise the CPU limit; hashing scales with cores.", "立即：增加 Pod 數量（以 CPU 做 HPA）或提高 CPU 上限；雜湊運算會隨核心數擴展。"),
			rule.Say("Bound how many hashes run at once (a semaphore of GOMAXPROCS − 1, and of 1 at least, in front of `%s`), so that the rest of the service stays quick, and reject what would wait too long.",
				"在 `%s` 前限制同時進行的雜湊數量（例如 GOMAXPROCS − 1、至少為 1 的 semaphore），讓其他功能保持順暢，並拒絕等待過久的請求。", rule.Short(top)),
			rule.Say("Weigh a lower cost (bcrypt cost, argon2 time and memory, PBKDF2 iterations) with whoever is responsible for security: one step of bcrypt's cost halves the time.",
				"與資安負責人評估降低成本參數（bcrypt cost、argon2 的 time／memory、PBKDF2 次數）：bcrypt cost 每降一級，時間減半。"),
			rule.Say("Hash once and hand out a session token: requests after the login should never hash again.", "登入時只雜湊一次並發放 session token：登入後的請求不應再次雜湊。"),
		},
		Where: []ops.Place{rule.At(ops.RoleCall, top)},
		Evidence: []ops.Proof{{
			Artifact: ops.KindCPU, Metric: "cpu_seconds", Value: time.Duration(hashing).Seconds(), Unit: "s", Share: share,
			Text: rule.Say("%[1]s of %[2]s CPU time (%[3]s) is under `%[4]s`", "%[2]s 的 CPU 時間中有 %[1]s（%[3]s）在 `%[4]s` 之下",
				rule.Dur(time.Duration(hashing)), rule.Dur(l.Total), rule.Pct(share), called.Function),
		}},
	}
	for _, c := range callers[1:] {
		if float64(c.value) >= 0.1*float64(callers[0].value) {
			f.Where = append(f.Where, rule.At(ops.RoleCall, c.frame))
		}
	}
	f.Evidence = append(f.Evidence, loadProofs(e, l)...)
	doubts(&f, e, l)
	return rule.Found(rule.Say("%s is %s of the CPU time, %s of what the process may use", "%s 佔 CPU 時間 %s，為可用上限的 %s", name, rule.Pct(share), rule.Pct(of)), f)
}
