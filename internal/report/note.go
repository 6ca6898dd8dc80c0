package report

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/opscenter/opscenter/internal/ops"
)

// Style says how a note is written. The zero value is English, without colour,
// 80 columns wide.
type Style struct {
	Lang  ops.Lang
	Color bool
	Width int
}

// Note writes one diagnosis as a doctor would: the worst first, what to change,
// how that is known, what else was looked at, and what could not be seen.
func Note(w io.Writer, d ops.Diagnosis, s Style) error {
	n := &note{s: s, w: words[s.Lang == ops.TraditionalChinese]}
	if n.s.Width < 40 {
		n.s.Width = 80
	}
	n.head(d)
	for _, l := range d.Losses {
		if l.Reason == ops.LossDisconnected {
			n.paragraph("", clean("! "+l.Message))
		}
	}
	if len(d.Findings) == 0 {
		n.line("")
		n.paragraph("", n.healthy(d))
	}
	byID := map[string]bool{}
	for _, f := range d.Findings {
		byID[f.ID()] = true
	}
	for _, f := range d.Findings {
		if f.CausedBy == "" || !byID[f.CausedBy] {
			n.finding(f, d)
		}
	}
	n.checks(d)
	n.losses(d)
	_, err := io.WriteString(w, n.b.String())
	return err
}

type vocabulary struct {
	change, wait, evidence, against, fix, effect, next, fine, unknown, losses, none, noneBut, window, cores, confidence, outliers, effectLine, evidenceLine, nothing string
	severity                                                                                                                                                         map[ops.Severity]string
	level                                                                                                                                                            map[ops.Confidence]string
	role                                                                                                                                                             map[ops.Role]string
}

var words = map[bool]vocabulary{
	false: {
		change: "Change first", wait: "See also", evidence: "How we know", against: "What speaks against it, or limits it", fix: "What to do", effect: "Its effects", next: "To be surer",
		fine: "Checked and fine", unknown: "Could not check", losses: "Not seen in this capture",
		nothing: "This could not be diagnosed: no rule had the evidence that it needs (below).",
		none:    "Nothing is wrong as far as these rules can see.", noneBut: "Nothing is wrong in what could be checked; %d of %d rules lacked evidence (below).",
		window: "window", cores: "GOMAXPROCS", confidence: "confidence", outliers: "Which instances differ", effectLine: "%s %d: %s. %s", evidenceLine: "%s (%s: %s)",
		severity: map[ops.Severity]string{ops.Critical: "CRITICAL", ops.Warning: "WARNING", ops.Notice: "NOTICE"},
		level:    map[ops.Confidence]string{ops.High: "high", ops.Medium: "medium", ops.Low: "low"},
		role: map[ops.Role]string{ops.RoleHold: "holds", ops.RoleWait: "waits", ops.RoleIO: "does I/O", ops.RoleCall: "calls", ops.RoleSend: "sends", ops.RoleReceive: "receives",
			ops.RoleAlloc: "allocates", ops.RoleCreate: "starts", ops.RoleAcquire: "acquires"},
	},
	true: {
		change: "先改這裡", wait: "相關位置", evidence: "判斷依據", against: "反證與限制", fix: "處理方式", effect: "連帶影響", next: "想更確定",
		fine: "已檢查，正常", unknown: "無法檢查", losses: "這次擷取沒有看到的部分",
		nothing: "無法診斷：沒有任何規則取得所需的證據（見下）。",
		none:    "就這些規則所見，沒有問題。", noneBut: "可檢查的部分沒有問題；有 %d／%d 條規則缺少證據（見下）。",
		window: "時窗", cores: "GOMAXPROCS", confidence: "信心", outliers: "與其他實例不同者", effectLine: "%s %d：%s。%s", evidenceLine: "%s（%s：%s）",
		severity: map[ops.Severity]string{ops.Critical: "嚴重", ops.Warning: "警告", ops.Notice: "注意"},
		level:    map[ops.Confidence]string{ops.High: "高", ops.Medium: "中", ops.Low: "低"},
		role: map[ops.Role]string{ops.RoleHold: "持有鎖", ops.RoleWait: "等待", ops.RoleIO: "I/O", ops.RoleCall: "呼叫", ops.RoleSend: "送出", ops.RoleReceive: "接收",
			ops.RoleAlloc: "配置", ops.RoleCreate: "啟動", ops.RoleAcquire: "取得"},
	},
}

type note struct {
	s Style
	w vocabulary
	b strings.Builder
}

func (n *note) head(d ops.Diagnosis) {
	name := string(d.Instance.Service)
	if d.Instance.ID != "" {
		name = strings.TrimPrefix(name+"/"+string(d.Instance.ID), "/")
	}
	if name == "" {
		name = d.Instance.Address
	}
	parts := []string{}
	for _, p := range []string{name, string(d.Instance.Project), d.Instance.Build.GoVersion} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if p := d.Instance.Process.GOMAXPROCS; p > 0 {
		parts = append(parts, fmt.Sprintf("%s %d", n.w.cores, p))
	}
	if d.Window > 0 {
		parts = append(parts, fmt.Sprintf("%s %.1f s", n.w.window, d.Window.Seconds()))
	}
	if len(parts) > 0 {
		n.line(n.bold(strings.Join(parts, " · ")))
	}
}

func (n *note) healthy(d ops.Diagnosis) string {
	judged, blind := d.Judged()
	switch {
	case judged == 0:
		return n.w.nothing
	case blind > 0:
		return fmt.Sprintf(n.w.noneBut, blind, len(d.Checks))
	}
	return n.w.none
}

func (n *note) finding(f ops.Finding, d ops.Diagnosis) {
	l := n.s.Lang
	n.line("")
	mark := n.colour(f.Severity(), fmt.Sprintf("● %s %d", n.w.severity[f.Severity()], f.Score))
	n.paragraph("", mark+"  "+n.bold(f.Title.In(l)))
	n.paragraph("  ", clean(f.Summary.In(l)))
	for i, p := range f.Where {
		label := n.w.wait
		if i == 0 {
			label = n.w.change
		}
		place := p.File
		if p.Line > 0 {
			place = fmt.Sprintf("%s:%d", p.File, p.Line)
		}
		place = clean(place)
		if i == 0 {
			place = n.bold(place)
		}
		n.line(fmt.Sprintf("  %s  %s  %s (%s)", pad(label, 14), place, clean(p.Function), n.w.role[p.Role]))
	}
	n.paragraph("  ", clean(f.Explanation.In(l)))
	n.list(n.w.fix, texts(f.Remedies, l), true)
	n.list(fmt.Sprintf(n.w.evidenceLine, n.w.evidence, n.w.confidence, n.w.level[f.Confidence]), proofLines(f.Evidence, l), false)
	n.list(n.w.against, proofLines(f.CounterEvidence, l), false)
	var effects []string
	for _, e := range d.Findings {
		if e.CausedBy == f.ID() {
			effects = append(effects, fmt.Sprintf(n.w.effectLine, n.w.severity[e.Severity()], e.Score, e.Title.In(l), e.Summary.In(l)))
		}
	}
	n.list(n.w.effect, effects, false)
	if f.Next != nil {
		n.line("  " + n.w.next + ": " + clean(Command(*f.Next, d.Instance)))
	}
}

func (n *note) checks(d ops.Diagnosis) {
	var fine, unknown []string
	for _, c := range d.Checks {
		line := string(c.Rule) + ": " + c.Reason.In(n.s.Lang)
		switch c.Verdict {
		case ops.VerdictOK, ops.VerdictNotApplicable:
			fine = append(fine, line)
		case ops.VerdictCouldNotCheck:
			unknown = append(unknown, line)
			if c.Next != nil {
				unknown = append(unknown, arrow+Command(*c.Next, d.Instance))
			}
		}
	}
	n.section(n.w.fine, fine)
	n.section(n.w.unknown, unknown)
}

func (n *note) losses(d ops.Diagnosis) {
	var lines []string
	for _, l := range d.Losses {
		lines = append(lines, strings.TrimPrefix(string(l.Kind)+": "+l.Message, ": "))
	}
	n.section(n.w.losses, lines)
}

func (n *note) section(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	n.line("")
	n.line(n.bold(title))
	for _, l := range lines {
		if command, ok := strings.CutPrefix(l, arrow); ok {
			n.line("    " + arrow + clean(command)) // not wrapped: it is there to be copied
			continue
		}
		n.item("  ", "· ", clean(l))
	}
}

// arrow leads to the command that would answer.
const arrow = "→ "

func (n *note) list(title string, lines []string, numbered bool) {
	if len(lines) == 0 {
		return
	}
	n.line("  " + n.bold(title))
	for i, l := range lines {
		mark := "· "
		if numbered {
			mark = fmt.Sprintf("%d. ", i+1)
		}
		n.item("    ", mark, clean(l))
	}
}

func texts(all []ops.Text, l ops.Lang) (out []string) {
	for _, t := range all {
		out = append(out, t.In(l))
	}
	return out
}

func proofLines(all []ops.Proof, l ops.Lang) (out []string) {
	for _, p := range all {
		out = append(out, string(p.Artifact)+": "+p.Text.In(l))
	}
	return out
}

func (n *note) line(s string) { n.b.WriteString(strings.TrimRight(s, " ") + "\n") }

func (n *note) paragraph(indent, text string) { n.item(indent, "", text) }

// item writes a text that is wrapped, its first line behind mark.
func (n *note) item(indent, mark, text string) {
	rest := strings.Repeat(" ", columns(mark))
	for i, l := range wrap(text, n.s.Width-columns(indent)-columns(mark)) {
		if i == 0 {
			n.line(indent + mark + l)
			continue
		}
		n.line(indent + rest + l)
	}
}

const (
	reset = "\x1b[0m"
	bold  = "\x1b[1m"
)

func (n *note) bold(s string) string {
	if !n.s.Color {
		return clean(s)
	}
	return bold + clean(s) + reset
}

func (n *note) colour(sev ops.Severity, s string) string {
	if !n.s.Color {
		return s
	}
	code := map[ops.Severity]string{ops.Critical: "\x1b[1;31m", ops.Warning: "\x1b[1;33m", ops.Notice: "\x1b[1;36m"}[sev]
	return code + s + reset
}

// clean takes out what a foreign name could do to a terminal. Our own colours
// are put on afterwards.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
}

// columns is how wide a text is on a terminal: Chinese is two wide, our colours
// are nothing.
func columns(s string) (n int) {
	escape := false
	for _, r := range s {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		case wide(r):
			n += 2
		default:
			n++
		}
	}
	return n
}

func wide(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul) || r >= 0x3000 && r <= 0x303f || r >= 0xff00 && r <= 0xff60
}

func pad(s string, to int) string { return s + strings.Repeat(" ", max(0, to-columns(s))) }

// wrap breaks a text at spaces, and within Chinese anywhere.
func wrap(text string, width int) (out []string) {
	line, col := "", 0
	flush := func() {
		out = append(out, strings.TrimRight(line, " "))
		line, col = "", 0
	}
	for _, word := range pieces(text) {
		w := columns(word)
		if col > 0 && col+columns(strings.TrimRight(word, " ")) > width {
			flush()
		}
		line += word
		col += w
	}
	if line != "" || len(out) == 0 {
		flush()
	}
	return out
}

// pieces are what a line may be broken between. Punctuation that ends a
// sentence stays with what it ends.
func pieces(text string) (out []string) {
	cur := ""
	for _, r := range text {
		if wide(r) && !strings.ContainsRune("，。、；：？！）」』〉》", r) {
			if cur != "" {
				out = append(out, cur)
			}
			cur = string(r)
			continue
		}
		if cur != "" && lastWide(cur) && !wide(r) && r != ' ' {
			out = append(out, cur)
			cur = ""
		}
		cur += string(r)
		if r == ' ' {
			out = append(out, cur)
			cur = ""
		}
	}
	if cur != "" {
		out = append(out, cur)
	}
	return out
}

func lastWide(s string) bool {
	r := []rune(s)
	return wide(r[len(r)-1])
}

// Outliers writes which instances differ from their siblings; nothing if none do.
func Outliers(w io.Writer, all []ops.Outlier, s Style) error {
	if len(all) == 0 {
		return nil
	}
	n := &note{s: s, w: words[s.Lang == ops.TraditionalChinese]}
	if n.s.Width < 40 {
		n.s.Width = 80
	}
	var lines []string
	for _, o := range all {
		lines = append(lines, string(o.Instance)+": "+o.Text.In(s.Lang))
	}
	n.section(n.w.outliers, lines)
	_, err := io.WriteString(w, n.b.String())
	return err
}
