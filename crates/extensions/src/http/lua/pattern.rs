//! Lua's patterns (Lua 5.1 manual §5.4.1), matched with a limited number of steps.
//!
//! Scripts match patterns against what clients send. LuaJIT's matcher backtracks without end: a pattern with a few
//! repetitions takes hours on the right text of some kilobytes, and no hook interrupts it.

use std::cell::Cell;

/// Most captures of a pattern (`LUA_MAXCAPTURES`).
const MAX_CAPTURES: usize = 32;

/// How deep a match may nest (`MAXCCALLS`).
const MAX_DEPTH: usize = 200;

const ESCAPE: u8 = b'%';

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatternError {
    /// The pattern is none; why.
    Malformed(&'static str),
    /// It takes too many steps.
    TooLong,
}

/// A capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capture {
    /// It is open.
    Open(usize),
    /// A position, counted from 0: `()`.
    Position(usize),
    /// A part of the text.
    Part(usize, usize),
}

/// A match: its start and end in the text, and what it captured.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub start: usize,
    pub end: usize,
    pub captures: Vec<Capture>,
}

/// Finds the first match at or after `from`. A pattern that starts with `^` matches there only, if `anchors`; otherwise `^`
/// stands for itself. Every comparison takes one of the steps that are `left`.
pub(super) fn scan(
    text: &[u8],
    pattern: &[u8],
    from: usize,
    anchors: bool,
    left: &Cell<u64>,
) -> Result<Option<Match>, PatternError> {
    let (pattern, anchored) = match pattern {
        [b'^', rest @ ..] if anchors => (rest, true),
        whole => (whole, false),
    };
    let mut matcher = Matcher { text, pattern, captures: Vec::new(), depth: 0, left };
    for start in from..=text.len() {
        matcher.captures.clear();
        if let Some(end) = matcher.run(start, 0)? {
            if matcher.captures.iter().any(|capture| matches!(capture, Capture::Open(_))) {
                return Err(PatternError::Malformed("unfinished capture"));
            }
            return Ok(Some(Match { start, end, captures: matcher.captures }));
        }
        if anchored {
            break;
        }
    }
    Ok(None)
}

struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    captures: Vec<Capture>,
    depth: usize,
    left: &'a Cell<u64>,
}

type Found = Result<Option<usize>, PatternError>;

impl Matcher<'_> {
    fn step(&self) -> Result<(), PatternError> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(PatternError::TooLong),
        }
    }

    /// Matches the pattern from `p` on at `s`, one level deeper.
    fn run(&mut self, s: usize, p: usize) -> Found {
        if self.depth >= MAX_DEPTH {
            return Err(PatternError::Malformed("pattern too complex"));
        }
        self.depth += 1;
        let found = self.run_here(s, p);
        self.depth -= 1;
        found
    }

    fn run_here(&mut self, mut s: usize, mut p: usize) -> Found {
        loop {
            self.step()?;
            let (first, second) = (self.pattern.get(p).copied(), self.pattern.get(p + 1).copied());
            match (first, second) {
                (None, _) => return Ok(Some(s)),
                (Some(b'('), Some(b')')) => return self.open(Capture::Position(s), s, p + 2),
                (Some(b'('), _) => return self.open(Capture::Open(s), s, p + 1),
                (Some(b')'), _) => return self.close(s, p + 1),
                (Some(b'$'), None) => return Ok((s == self.text.len()).then_some(s)),
                (Some(ESCAPE), Some(b'b')) => match self.balance(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                (Some(ESCAPE), Some(b'f')) => match self.frontier(s, p + 2)? {
                    Some(end) => p = end,
                    None => return Ok(None),
                },
                (Some(ESCAPE), Some(digit @ b'0'..=b'9')) => match self.repeated(s, digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.class_end(p)?;
                    let fits = self.fits(s, p, end);
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if fits && let Some(found) = self.run(s + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        Some(b'*') => return self.most(s, p, end),
                        Some(b'+') => return if fits { self.most(s + 1, p, end) } else { Ok(None) },
                        Some(b'-') => return self.fewest(s, p, end),
                        _ if fits => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    /// As many repetitions as possible.
    fn most(&mut self, s: usize, p: usize, end: usize) -> Found {
        let mut count = 0;
        while self.fits(s + count, p, end) {
            self.step()?;
            count += 1;
        }
        loop {
            if let Some(found) = self.run(s + count, end + 1)? {
                return Ok(Some(found));
            }
            if count == 0 {
                return Ok(None);
            }
            count -= 1;
        }
    }

    /// As few repetitions as possible.
    fn fewest(&mut self, mut s: usize, p: usize, end: usize) -> Found {
        loop {
            if let Some(found) = self.run(s, end + 1)? {
                return Ok(Some(found));
            }
            if !self.fits(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open(&mut self, capture: Capture, s: usize, p: usize) -> Found {
        if self.captures.len() >= MAX_CAPTURES {
            return Err(PatternError::Malformed("too many captures"));
        }
        self.captures.push(capture);
        let level = self.captures.len();
        let found = self.run(s, p)?;
        if found.is_none() {
            self.captures.truncate(level - 1);
        }
        Ok(found)
    }

    fn close(&mut self, s: usize, p: usize) -> Found {
        let open = self.captures.iter().rposition(|capture| matches!(capture, Capture::Open(_)));
        let Some((level, Capture::Open(start))) = open.map(|level| (level, self.captures[level])) else {
            return Err(PatternError::Malformed("invalid pattern capture"));
        };
        self.captures[level] = Capture::Part(start, s);
        let found = self.run(s, p)?;
        if found.is_none()
            && let Some(capture) = self.captures.get_mut(level)
        {
            *capture = Capture::Open(start);
        }
        Ok(found)
    }

    /// `%bxy`.
    fn balance(&self, s: usize, p: usize) -> Found {
        let (Some(opens), Some(closes)) = (self.pattern.get(p), self.pattern.get(p + 1)) else {
            return Err(PatternError::Malformed("unbalanced pattern"));
        };
        if self.text.get(s) != Some(opens) {
            return Ok(None);
        }
        let mut nested = 1usize;
        for (at, byte) in self.text.iter().enumerate().skip(s + 1) {
            self.step()?;
            if byte == closes {
                nested -= 1;
                if nested == 0 {
                    return Ok(Some(at + 1));
                }
            } else if byte == opens {
                nested += 1;
            }
        }
        Ok(None)
    }

    /// `%f[set]`: the place in the pattern behind it, if the text turns from outside the set to inside here.
    fn frontier(&self, s: usize, p: usize) -> Found {
        if self.pattern.get(p) != Some(&b'[') {
            return Err(PatternError::Malformed("missing '[' after '%f' in pattern"));
        }
        let end = self.class_end(p)?;
        let at = |index: Option<usize>| index.and_then(|index| self.text.get(index)).copied().unwrap_or(0);
        let turns = !self.in_set(at(s.checked_sub(1)), p, end) && self.in_set(at(Some(s)), p, end);
        Ok(turns.then_some(end))
    }

    /// `%1`: what a capture holds, once more.
    fn repeated(&self, s: usize, digit: u8) -> Found {
        let capture = usize::from(digit).checked_sub(usize::from(b'1')).and_then(|index| self.captures.get(index));
        let Some(Capture::Part(start, end)) = capture else {
            return Err(PatternError::Malformed("invalid capture index"));
        };
        let part = self.text.get(*start..*end).unwrap_or_default();
        for _ in 0..part.len() / 64 {
            self.step()?;
        }
        Ok(self.text.get(s..).is_some_and(|rest| rest.starts_with(part)).then_some(s + part.len()))
    }

    /// Where the single-character class at `p` ends.
    fn class_end(&self, p: usize) -> Result<usize, PatternError> {
        match self.pattern.get(p) {
            Some(&ESCAPE) if p + 1 < self.pattern.len() => Ok(p + 2),
            Some(&ESCAPE) => Err(PatternError::Malformed("malformed pattern (ends with '%')")),
            Some(b'[') => {
                let mut at = p + 1;
                if self.pattern.get(at) == Some(&b'^') {
                    at += 1;
                }
                // A bracket that comes first is an element.
                loop {
                    let element =
                        self.pattern.get(at).ok_or(PatternError::Malformed("malformed pattern (missing ']')"))?;
                    at += if *element == ESCAPE { 2 } else { 1 };
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    /// Whether the character at `s` is of the class from `p` to `end`.
    fn fits(&self, s: usize, p: usize, end: usize) -> bool {
        let (Some(&byte), Some(&class)) = (self.text.get(s), self.pattern.get(p)) else { return false };
        match class {
            b'.' => true,
            ESCAPE => self.pattern.get(p + 1).is_some_and(|class| in_class(byte, *class)),
            b'[' => self.in_set(byte, p, end),
            literal => literal == byte,
        }
    }

    /// Whether a byte is in the set whose brackets stand at `p` and before `end`.
    fn in_set(&self, byte: u8, p: usize, end: usize) -> bool {
        let set = self.pattern.get(p + 1..end - 1).unwrap_or_default();
        let (set, wanted) = match set {
            [b'^', rest @ ..] => (rest, false),
            set => (set, true),
        };
        let mut rest = set;
        while let Some((&first, others)) = rest.split_first() {
            let (hit, next) = match (first, others) {
                (ESCAPE, [class, others @ ..]) => (in_class(byte, *class), others),
                (from, [b'-', to, others @ ..]) => ((from..=*to).contains(&byte), others),
                (literal, others) => (literal == byte, others),
            };
            if hit {
                return wanted;
            }
            rest = next;
        }
        !wanted
    }
}

/// `%a` and its like; any other character stands for itself.
fn in_class(byte: u8, class: u8) -> bool {
    let is = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'g' => byte.is_ascii_graphic(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, b' ' | 9..=13),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is != class.is_ascii_uppercase()
}
