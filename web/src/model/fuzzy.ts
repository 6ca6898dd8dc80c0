// Finding what people half-remember: the letters of a query in their order, the
// more together and the nearer to beginnings of words the better.

export interface Match {
  /** Higher is better. */
  score: number;
  /** Places of the letters found, in order. */
  at: number[];
  /** Every word in one piece, or by its initials: not just letters strewn about. */
  sure: boolean;
}

const isStart = (text: string, i: number): boolean => i === 0 || /[\s/._:\-()·]/.test(text[i - 1]!) || (/[a-z]/.test(text[i - 1]!) && /[A-Z]/.test(text[i]!)) || (/[A-Za-z0-9]/.test(text[i]!) !== /[A-Za-z0-9]/.test(text[i - 1]!));

/** One word of a query in a text; null = its letters are not there in this order. */
function word(query: string, text: string, lower: string): Match | null {
  const whole = lower.indexOf(query);
  if (whole >= 0) {
    // In one piece, at the beginning of a word if there is such a place.
    let at = whole;
    for (let i = whole; i >= 0; i = lower.indexOf(query, i + 1)) {
      if (isStart(text, i)) {
        at = i;
        break;
      }
    }
    return { score: 100 + query.length * 4 + (isStart(text, at) ? 40 : 0) + (at === 0 ? 20 : 0) - text.length * 0.1, at: Array.from(query, (_, n) => at + n), sure: true };
  }
  const at: number[] = [];
  let score = 0;
  for (const c of query) {
    const from = (at.at(-1) ?? -1) + 1;
    let i = lower.indexOf(c, from);
    if (i < 0) return null;
    // The beginning of a later word is what initials mean, unless the letter goes on.
    if (i !== from || !at.length) for (let j = i; j >= 0; j = lower.indexOf(c, j + 1)) if (isStart(text, j)) {
      if (canFollow(query, at.length + 1, lower, j)) i = j;
      break;
    }
    score += i === from && at.length ? 8 : isStart(text, i) ? 10 : -2;
    at.push(i);
  }
  return score > 0 ? { score: score - (at.at(-1)! - at[0]! - at.length) * 0.5 - text.length * 0.1, at, sure: at.every((i) => isStart(text, i)) } : null;
}

/** Whether the rest of the query is still there behind i. */
function canFollow(query: string, n: number, lower: string, i: number): boolean {
  for (const c of [...query].slice(n)) {
    i = lower.indexOf(c, i + 1);
    if (i < 0) return false;
  }
  return true;
}

/** A query, whose words may come in any order, in a text; null = it is not there. An empty query is everywhere. */
export function fuzzy(query: string, text: string): Match | null {
  const lower = text.toLowerCase();
  const all = query.toLowerCase().split(/\s+/).filter(Boolean).map((w) => word(w, text, lower));
  if (all.some((m) => !m)) return null;
  return { score: all.reduce((n, m) => n + m!.score, 0), at: [...new Set(all.flatMap((m) => m!.at))].sort((a, b) => a - b), sure: all.every((m) => m!.sure) };
}

/** A text in pieces, of which some were found. */
export function marked(text: string, at: readonly number[]): { text: string; on: boolean }[] {
  const on = new Set(at);
  const out: { text: string; on: boolean }[] = [];
  for (let i = 0; i < text.length; i++) {
    const last = out.at(-1);
    if (last && last.on === on.has(i)) last.text += text[i];
    else out.push({ text: text[i]!, on: on.has(i) });
  }
  return out;
}
