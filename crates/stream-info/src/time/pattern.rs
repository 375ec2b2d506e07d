//! strftime patterns, with Envoy's `%f`, `%1f` to `%9f` and `%s`, and the extensions of its time library
//! (`%E3S`, `%E*S`, `%E3f`, `%E4Y`, `%Ez`, `%:z`).

use super::calendar::{Civil, since_epoch};
use super::zone::TimeZone;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// A pattern that would print a newline: a log line or a header could be split by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormatError;

impl fmt::Display for TimeFormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time format contains a newline (%n)")
    }
}

impl std::error::Error for TimeFormatError {}

/// A compiled pattern.
#[derive(Debug)]
pub struct TimeFormat {
    /// Empty for the default: `2026-11-20T14:16:55.338Z`.
    tokens: Vec<Token>,
    /// The zone of local time; none for UTC.
    zone: Option<Arc<TimeZone>>,
    /// Whether any token but literals, fractions and `%s` is there.
    needs_date: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(Box<str>),
    /// `%Y-%m-%dT%H:%M:%S` in UTC: the text is kept for the second.
    IsoSecond,
    /// Seconds since 1970.
    Epoch,
    /// The first so many digits of the nanoseconds.
    Fraction(usize),
    /// The same without trailing zeros, at least one.
    AllFraction,
    /// Seconds with so many digits after the point.
    Seconds(usize),
    /// Seconds with as many as needed.
    AllSeconds,
    Offset(OffsetStyle),
    /// A conversion of strftime with its flag and least width.
    Conversion {
        letter: u8,
        flag: Option<u8>,
        width: usize,
    },
    /// A conversion that stands for several, such as `%T`.
    Several {
        tokens: Box<[Token]>,
        flag: Option<u8>,
        width: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OffsetStyle {
    /// `+0100`
    Plain,
    /// `+01:00`
    Colon,
    /// `+01:00:00`
    Full,
    /// `+01`, longer if needed.
    Shortest,
}

/// The pattern of local time when none is given.
const DEFAULT_LOCAL: &str = "%Y-%m-%dT%H:%M:%E3S%z";
/// What starts most patterns.
const ISO_SECONDS: [&str; 2] = ["%Y-%m-%dT%H:%M:%S", "%FT%T"];
/// Widest a field is padded to.
const MAX_WIDTH: usize = 255;

impl TimeFormat {
    /// Compiles a pattern for UTC; an empty one is the default.
    pub fn new(pattern: &str) -> Result<TimeFormat, TimeFormatError> {
        if prints_newline(pattern) {
            return Err(TimeFormatError);
        }
        let tokens = match ISO_SECONDS.iter().find_map(|iso| pattern.strip_prefix(iso)) {
            Some(rest) => std::iter::once(Token::IsoSecond).chain(compile(rest)).collect(),
            None => compile(pattern),
        };
        let is_dateless =
            |token: &Token| matches!(token, Token::Literal(_) | Token::IsoSecond | Token::Epoch | Token::Fraction(_));
        let needs_date = !tokens.iter().all(is_dateless);
        Ok(TimeFormat { tokens, zone: None, needs_date })
    }

    /// Whether it is the default of UTC.
    pub(crate) fn is_default(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Compiles a pattern for the time of a zone; an empty one is the default.
    pub fn local(pattern: &str, zone: Arc<TimeZone>) -> Result<TimeFormat, TimeFormatError> {
        let pattern = if pattern.is_empty() { DEFAULT_LOCAL } else { pattern };
        if prints_newline(pattern) {
            return Err(TimeFormatError);
        }
        Ok(TimeFormat { tokens: compile(pattern), zone: Some(zone), needs_date: true })
    }

    /// Appends a point in time.
    pub fn write(&self, at: SystemTime, out: &mut Vec<u8>) {
        let (seconds, nanos) = since_epoch(at);
        if self.tokens.is_empty() {
            return write_default(seconds, nanos, out);
        }
        let (offset, name) = self.zone.as_deref().map_or((0, "UTC"), |zone| zone.at(seconds));
        let civil = if self.needs_date { Civil::at(seconds.saturating_add(i64::from(offset))) } else { Civil::EPOCH };
        let moment = Moment { seconds, nanos, civil, offset, name };
        for token in &self.tokens {
            moment.write(token, out);
        }
    }
}

/// Text of the second that was printed last on this thread: lines come many to a second.
#[derive(Clone, Copy)]
struct LastSecond {
    seconds: i64,
    text: [u8; 19],
}

thread_local! {
    static LAST: Cell<LastSecond> = const { Cell::new(LastSecond { seconds: i64::MIN, text: [0; 19] }) };
}

/// `2026-11-20T14:16:55.338Z`
fn write_default(seconds: i64, nanos: u32, out: &mut Vec<u8>) {
    write_iso_second(seconds, out);
    let millis = nanos / 1_000_000;
    let digit = |value: u32| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
}

/// `2026-11-20T14:16:55`
fn write_iso_second(seconds: i64, out: &mut Vec<u8>) {
    let mut last = LAST.get();
    if last.seconds != seconds {
        let civil = Civil::at(seconds);
        if !(0..=9999).contains(&civil.year) {
            return write_far_second(&civil, out);
        }
        last = LastSecond { seconds, text: iso_text(&civil) };
        LAST.set(last);
    }
    out.extend_from_slice(&last.text);
}

fn iso_text(civil: &Civil) -> [u8; 19] {
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |at: usize, value: u8| {
        text[at] = b'0' + value / 10 % 10;
        text[at + 1] = b'0' + value % 10;
    };
    put(0, (civil.year / 100) as u8);
    put(2, (civil.year % 100) as u8);
    put(5, civil.month);
    put(8, civil.day);
    put(11, civil.hour);
    put(14, civil.minute);
    put(17, civil.second);
    text
}

fn write_far_second(civil: &Civil, out: &mut Vec<u8>) {
    let Civil { year, month, day, hour, minute, second, .. } = civil;
    let text = format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    out.extend_from_slice(text.as_bytes());
}

/// Whether the pattern holds `%n`, with any flags, digits and modifiers between.
fn prints_newline(pattern: &str) -> bool {
    pattern.match_indices('%').any(|(at, _)| {
        let rest = pattern[at + 1..].trim_start_matches(['-', '_', '0', '^', '#']);
        let rest = rest.trim_start_matches(|c: char| matches!(c, '1'..='9'));
        let rest = rest.strip_prefix(['E', 'O']).unwrap_or(rest);
        rest.starts_with('n')
    })
}

/// Envoy's own commands: `%s`, `%f` and `%1f` to `%9f`, with their length. They are looked for before anything else.
fn envoy_command(text: &str) -> Option<(Token, usize)> {
    match text.as_bytes() {
        [b'%', b's', ..] => Some((Token::Epoch, 2)),
        [b'%', b'f', ..] => Some((Token::Fraction(9), 2)),
        [b'%', digits @ b'1'..=b'9', b'f', ..] => Some((Token::Fraction(usize::from(digits - b'0')), 3)),
        _ => None,
    }
}

fn compile(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut literal = String::new();
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let (token, len) = match envoy_command(rest).or_else(|| library_command(rest)) {
            Some((token, len)) => (Some(token), len),
            None if rest.starts_with("%%") && envoy_command(&rest[1..]).is_none() => {
                literal.push('%');
                (None, 2)
            }
            None => {
                literal.push(character);
                (None, character.len_utf8())
            }
        };
        if let Some(token) = token {
            if !literal.is_empty() {
                tokens.push(Token::Literal(std::mem::take(&mut literal).into()));
            }
            tokens.push(token);
        }
        rest = &rest[len..];
    }
    if !literal.is_empty() {
        tokens.push(Token::Literal(literal.into()));
    }
    tokens
}

/// The commands of strftime and of Envoy's time library, with their length.
fn library_command(text: &str) -> Option<(Token, usize)> {
    let body = text.strip_prefix('%')?;
    for (suffix, style) in [
        (":::z", OffsetStyle::Shortest),
        ("::z", OffsetStyle::Full),
        (":z", OffsetStyle::Colon),
        ("E*z", OffsetStyle::Full),
        ("Ez", OffsetStyle::Colon),
        ("z", OffsetStyle::Plain),
    ] {
        if body.starts_with(suffix) {
            return Some((Token::Offset(style), 1 + suffix.len()));
        }
    }
    if let Some(rest) = body.strip_prefix('E') {
        return extended_command(rest);
    }
    if let [b'O', letter, ..] = body.as_bytes() {
        let token = Token::Conversion { letter: *letter, flag: None, width: 0 };
        return b"deHImMSuUVwWy".contains(letter).then_some((token, 3));
    }
    let flags = body.bytes().take_while(|byte| b"-_0^#".contains(byte)).count();
    let digits = body[flags..].bytes().take_while(u8::is_ascii_digit).count();
    let letter = *body.as_bytes().get(flags + digits)?;
    let flag = body[..flags].bytes().next_back();
    let width = body[flags..flags + digits].parse().map_or(MAX_WIDTH, |width: usize| width.min(MAX_WIDTH));
    let width = if digits == 0 { 0 } else { width };
    let is_known = b"aAbBcCdDeFgGhHIjklmMpPrRSstTuUVwWxXyYZ".contains(&letter);
    is_known.then(|| (conversion(letter, flag, width), 1 + flags + digits + 1))
}

fn conversion(letter: u8, flag: Option<u8>, width: usize) -> Token {
    let parts = match letter {
        b'c' => "%a %b %e %H:%M:%S %Y",
        b'D' | b'x' => "%m/%d/%y",
        b'F' => "%Y-%m-%d",
        b'r' => "%I:%M:%S %p",
        b'R' => "%H:%M",
        b'T' | b'X' => "%H:%M:%S",
        _ => return Token::Conversion { letter, flag, width },
    };
    Token::Several { tokens: compile(parts).into(), flag, width }
}

/// What follows `%E`; the length counts the two bytes before.
fn extended_command(rest: &str) -> Option<(Token, usize)> {
    let bytes = rest.as_bytes();
    match bytes {
        [b'T', ..] => return Some((Token::Literal("T".into()), 3)),
        [b'*', b'S', ..] => return Some((Token::AllSeconds, 4)),
        [b'*', b'f', ..] => return Some((Token::AllFraction, 4)),
        [b'4', b'Y', ..] => return Some((Token::Conversion { letter: b'Y', flag: Some(b'0'), width: 4 }, 4)),
        [letter, ..] if b"cCxXyY".contains(letter) => {
            return Some((conversion(*letter, None, 0), 3));
        }
        _ => {}
    }
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let count = rest[..digits].parse::<usize>().ok()?.min(MAX_WIDTH);
    match bytes.get(digits)? {
        b'S' => Some((Token::Seconds(count), 3 + digits)),
        b'f' => Some((Token::Fraction(count), 3 + digits)),
        _ => None,
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

struct Moment<'a> {
    seconds: i64,
    nanos: u32,
    civil: Civil,
    /// Seconds east of UTC.
    offset: i32,
    /// Abbreviation of the zone.
    name: &'a str,
}

/// How a conversion is padded by itself.
enum Field<'a> {
    /// Padded with zeros to so many digits.
    Zeros(i64, usize),
    /// Padded with spaces.
    Spaces(i64, usize),
    Text(&'a str),
}

impl Moment<'_> {
    fn write(&self, token: &Token, out: &mut Vec<u8>) {
        match token {
            Token::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Token::IsoSecond => write_iso_second(self.seconds, out),
            Token::Epoch => put_number(self.seconds, 0, b'0', out),
            Token::Fraction(digits) => self.write_fraction(*digits, out),
            Token::AllFraction => {
                let start = out.len();
                self.write_fraction(9, out);
                trim_zeros(start + 1, out);
            }
            Token::Seconds(digits) => {
                put_number(i64::from(self.civil.second), 2, b'0', out);
                if *digits > 0 {
                    out.push(b'.');
                    self.write_fraction(*digits, out);
                }
            }
            Token::AllSeconds => {
                put_number(i64::from(self.civil.second), 2, b'0', out);
                let start = out.len();
                if self.nanos > 0 {
                    out.push(b'.');
                    self.write_fraction(9, out);
                    trim_zeros(start, out);
                }
            }
            Token::Offset(style) => self.write_offset(*style, out),
            Token::Conversion { letter, flag, width } => self.write_conversion(*letter, *flag, *width, out),
            Token::Several { tokens, flag, width } => {
                let start = out.len();
                for token in tokens {
                    self.write(token, out);
                }
                pad_text(start, *width, if *flag == Some(b'0') { b'0' } else { b' ' }, out);
                if *flag == Some(b'^') {
                    out[start..].make_ascii_uppercase();
                }
            }
        }
    }

    fn write_fraction(&self, digits: usize, out: &mut Vec<u8>) {
        let start = out.len();
        put_number(i64::from(self.nanos), 9, b'0', out);
        out.resize(start + digits, b'0');
    }

    fn write_offset(&self, style: OffsetStyle, out: &mut Vec<u8>) {
        out.push(if self.offset < 0 { b'-' } else { b'+' });
        let total = i64::from(self.offset.unsigned_abs());
        let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
        put_number(hours, 2, b'0', out);
        let with_seconds = style == OffsetStyle::Full || (style == OffsetStyle::Shortest && seconds > 0);
        if style == OffsetStyle::Shortest && minutes == 0 && seconds == 0 {
            return;
        }
        if style != OffsetStyle::Plain {
            out.push(b':');
        }
        put_number(minutes, 2, b'0', out);
        if with_seconds {
            out.push(b':');
            put_number(seconds, 2, b'0', out);
        }
    }

    fn write_conversion(&self, letter: u8, flag: Option<u8>, width: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let padding = match flag {
            Some(b'_') => Some(b' '),
            Some(b'0') => Some(b'0'),
            _ => None,
        };
        match self.field(letter) {
            Field::Zeros(value, _) | Field::Spaces(value, _) if flag == Some(b'-') => put_number(value, 0, b'0', out),
            Field::Zeros(value, digits) => put_number(value, digits.max(width), padding.unwrap_or(b'0'), out),
            Field::Spaces(value, digits) => put_number(value, digits.max(width), padding.unwrap_or(b' '), out),
            Field::Text(text) => {
                out.extend_from_slice(text.as_bytes());
                pad_text(start, width, padding.unwrap_or(b' '), out);
            }
        }
        match flag {
            Some(b'#') if matches!(letter, b'p' | b'Z') => out[start..].make_ascii_lowercase(),
            Some(b'^' | b'#') => out[start..].make_ascii_uppercase(),
            _ => {}
        }
    }

    fn field(&self, letter: u8) -> Field<'_> {
        let civil = &self.civil;
        let twelve = i64::from((civil.hour + 11) % 12 + 1);
        let is_afternoon = civil.hour >= 12;
        let month = MONTHS.get(usize::from(civil.month) - 1).copied().unwrap_or("");
        let weekday = WEEKDAYS.get(usize::from(civil.weekday)).copied().unwrap_or("");
        match letter {
            b'a' => Field::Text(&weekday[..3]),
            b'A' => Field::Text(weekday),
            b'b' | b'h' => Field::Text(&month[..3]),
            b'B' => Field::Text(month),
            b'C' => Field::Zeros(civil.year.div_euclid(100), 2),
            b'd' => Field::Zeros(civil.day.into(), 2),
            b'e' => Field::Spaces(civil.day.into(), 2),
            b'g' => Field::Zeros(civil.iso_week().0.rem_euclid(100), 2),
            b'G' => Field::Zeros(civil.iso_week().0, 0),
            b'H' => Field::Zeros(civil.hour.into(), 2),
            b'I' => Field::Zeros(twelve, 2),
            b'j' => Field::Zeros(i64::from(civil.yearday) + 1, 3),
            b'k' => Field::Spaces(civil.hour.into(), 2),
            b'l' => Field::Spaces(twelve, 2),
            b'm' => Field::Zeros(civil.month.into(), 2),
            b'M' => Field::Zeros(civil.minute.into(), 2),
            b'p' => Field::Text(if is_afternoon { "PM" } else { "AM" }),
            b'P' => Field::Text(if is_afternoon { "pm" } else { "am" }),
            b's' => Field::Zeros(self.seconds, 0),
            b'S' => Field::Zeros(civil.second.into(), 2),
            b't' => Field::Text("\t"),
            b'u' => Field::Zeros(i64::from((civil.weekday + 6) % 7) + 1, 1),
            b'U' => Field::Zeros(civil.week_from_sunday(), 2),
            b'V' => Field::Zeros(civil.iso_week().1, 2),
            b'w' => Field::Zeros(civil.weekday.into(), 1),
            b'W' => Field::Zeros(civil.week_from_monday(), 2),
            b'y' => Field::Zeros(civil.year.rem_euclid(100), 2),
            b'Y' => Field::Zeros(civil.year, 0),
            b'Z' => Field::Text(self.name),
            _ => Field::Text(""),
        }
    }
}

/// Appends a number padded to so many characters.
fn put_number(value: i64, digits: usize, padding: u8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value.unsigned_abs());
    let missing = digits.saturating_sub(text.len() + usize::from(value < 0));
    if value < 0 && padding == b'0' {
        out.push(b'-');
    }
    out.resize(out.len() + missing, padding);
    if value < 0 && padding != b'0' {
        out.push(b'-');
    }
    out.extend_from_slice(text.as_bytes());
}

/// Pads on the left what was appended since `start`.
fn pad_text(start: usize, width: usize, padding: u8, out: &mut Vec<u8>) {
    let len = out.len() - start;
    if len < width {
        out.resize(start + width, padding);
        out[start..].rotate_right(width - len);
    }
}

/// Cuts zeros at the end, down to `start`.
fn trim_zeros(start: usize, out: &mut Vec<u8>) {
    while out.len() > start && out.last() == Some(&b'0') {
        out.pop();
    }
}
