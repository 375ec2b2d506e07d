//! Time zones from what the system stores: TZif files (RFC 9636) and POSIX `TZ` rules.

use super::calendar::{Civil, days_before_year, is_leap};

/// When a zone's clocks are how far from UTC. The default is UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZone {
    /// From which second on which of `types` holds, in order.
    transitions: Vec<(i64, u8)>,
    types: Vec<LocalType>,
    /// What holds after the last transition.
    rule: Option<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LocalType {
    /// Seconds east of UTC.
    offset: i32,
    name: Box<str>,
}

/// A POSIX rule: standard time, and summer time between two days of the year.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    standard: LocalType,
    summer: Option<Summer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Summer {
    local: LocalType,
    begin: Change,
    end: Change,
}

/// A day of the year and the seconds after its midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    day: Day,
    seconds: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    /// 1 to 365; the 29th of February is never counted.
    Julian(i64),
    /// 0 to 365; the 29th of February is counted.
    Ordinal(i64),
    /// The `week`th (5: last) `weekday` (0: Sunday) of the month.
    Weekday { month: u8, week: i64, weekday: i64 },
}

/// Largest offset that is believed: 26 hours.
const MAX_OFFSET: i32 = 26 * 3600;

impl Default for TimeZone {
    fn default() -> Self {
        TimeZone::utc()
    }
}

impl TimeZone {
    /// Coordinated universal time.
    pub fn utc() -> TimeZone {
        TimeZone { transitions: Vec::new(), types: vec![LocalType { offset: 0, name: "UTC".into() }], rule: None }
    }

    /// The zone that `TZ` (its value, if it is set) names, as POSIX and glibc read it: unset is `/etc/localtime`, empty
    /// is UTC, then a file under `/usr/share/zoneinfo`, then a rule. `read` reads a file; what can't be read is UTC.
    pub fn from_environment(tz: Option<&str>, read: impl Fn(&str) -> Option<Vec<u8>>) -> TimeZone {
        let file = |path: &str| read(path).and_then(|bytes| TimeZone::from_tzif(&bytes));
        let zone = match tz.map(|tz| tz.strip_prefix(':').unwrap_or(tz)) {
            None => file("/etc/localtime"),
            Some("") => None,
            Some(path) if path.starts_with('/') => file(path),
            Some(name) if name.split('/').any(|part| part == "..") => None,
            Some(name) => file(&format!("/usr/share/zoneinfo/{name}")).or_else(|| TimeZone::from_posix(name)),
        };
        zone.unwrap_or_default()
    }

    /// Reads a TZif file of any version.
    pub fn from_tzif(file: &[u8]) -> Option<TimeZone> {
        let header = Header::read(file)?;
        if header.version == 0 {
            return header.body(file.get(HEADER_LEN..)?, 4, b"");
        }
        let second = file.get(HEADER_LEN + header.body_len(4)?..)?;
        let header = Header::read(second)?;
        let body = second.get(HEADER_LEN..)?;
        let footer = body.get(header.body_len(8)?..)?.strip_prefix(b"\n")?;
        let end = footer.iter().position(|byte| *byte == b'\n')?;
        header.body(body, 8, footer.get(..end)?)
    }

    /// Reads a POSIX rule such as `CET-1CEST,M3.5.0,M10.5.0/3`.
    pub fn from_posix(rule: &str) -> Option<TimeZone> {
        let rule = RuleReader(rule).rule()?;
        Some(TimeZone { transitions: Vec::new(), types: vec![rule.standard.clone()], rule: Some(rule) })
    }

    /// Seconds east of UTC, and the abbreviation, at so many seconds since 1970.
    pub fn at(&self, seconds: i64) -> (i32, &str) {
        let later = self.transitions.partition_point(|(from, _)| *from <= seconds);
        let local = match (later.checked_sub(1).and_then(|at| self.transitions.get(at)), &self.rule) {
            (_, Some(rule)) if later == self.transitions.len() => Some(rule.at(seconds)),
            (Some((_, index)), _) => self.types.get(usize::from(*index)),
            (None, _) => self.types.first(),
        };
        local.map_or((0, "UTC"), |local| (local.offset, &local.name))
    }
}

const HEADER_LEN: usize = 44;

/// The counts of a TZif header.
struct Header {
    version: u8,
    ut_indicators: usize,
    wall_indicators: usize,
    leap_seconds: usize,
    transitions: usize,
    types: usize,
    names: usize,
}

impl Header {
    fn read(file: &[u8]) -> Option<Header> {
        let header = file.get(..HEADER_LEN)?;
        let count = |at: usize| {
            let bytes = header.get(20 + 4 * at..24 + 4 * at)?.try_into().ok()?;
            // No zone has as many of anything.
            usize::try_from(u32::from_be_bytes(bytes)).ok().filter(|count| *count <= 1 << 16)
        };
        if !header.starts_with(b"TZif") {
            return None;
        }
        Some(Header {
            version: *header.get(4)?,
            ut_indicators: count(0)?,
            wall_indicators: count(1)?,
            leap_seconds: count(2)?,
            transitions: count(3)?,
            types: count(4)?,
            names: count(5)?,
        })
    }

    /// Length of the body with times of `width` bytes.
    fn body_len(&self, width: usize) -> Option<usize> {
        let transitions = self.transitions * (width + 1);
        let leap_seconds = self.leap_seconds * (width + 4);
        Some(transitions + self.types * 6 + self.names + leap_seconds + self.wall_indicators + self.ut_indicators)
    }

    fn body(&self, body: &[u8], width: usize, footer: &[u8]) -> Option<TimeZone> {
        let (times, rest) = body.split_at_checked(self.transitions * width)?;
        let (indices, rest) = rest.split_at_checked(self.transitions)?;
        let (types, rest) = rest.split_at_checked(self.types * 6)?;
        let names = rest.get(..self.names)?;
        let types = types.chunks_exact(6).map(|bytes| local_type(bytes, names)).collect::<Option<Vec<_>>>()?;
        let seconds = times.chunks_exact(width).map(|bytes| match width {
            4 => bytes.try_into().ok().map(|bytes| i64::from(i32::from_be_bytes(bytes))),
            _ => bytes.try_into().ok().map(i64::from_be_bytes),
        });
        let transitions: Option<Vec<(i64, u8)>> =
            seconds.zip(indices).map(|(seconds, index)| Some((seconds?, *index))).collect();
        let transitions = transitions?;
        let is_sound = transitions.is_sorted_by_key(|(from, _)| *from)
            && transitions.iter().all(|(_, index)| usize::from(*index) < types.len());
        let rule = RuleReader(std::str::from_utf8(footer).ok()?).rule();
        (is_sound && !types.is_empty()).then_some(TimeZone { transitions, types, rule })
    }
}

fn local_type(bytes: &[u8], names: &[u8]) -> Option<LocalType> {
    let [a, b, c, d, _, name] = bytes else { return None };
    let offset = i32::from_be_bytes([*a, *b, *c, *d]);
    let name = names.get(usize::from(*name)..)?.split(|byte| *byte == 0).next()?;
    let name = std::str::from_utf8(name).ok()?;
    (offset.abs() <= MAX_OFFSET).then(|| LocalType { offset, name: name.into() })
}

impl Rule {
    fn at(&self, seconds: i64) -> &LocalType {
        let Some(summer) = &self.summer else { return &self.standard };
        let year = Civil::at(seconds.saturating_add(i64::from(self.standard.offset))).year;
        let begin = summer.begin.in_year(year) - i64::from(self.standard.offset);
        let end = summer.end.in_year(year) - i64::from(summer.local.offset);
        let is_summer = match begin <= end {
            true => (begin..end).contains(&seconds),
            // South of the equator.
            false => !(end..begin).contains(&seconds),
        };
        if is_summer { &summer.local } else { &self.standard }
    }
}

impl Change {
    /// Seconds from 1970 to the change in a year, by the clock on the wall.
    fn in_year(&self, year: i64) -> i64 {
        let first = days_before_year(year);
        let day = match self.day {
            Day::Julian(day) => first + day - 1 + i64::from(is_leap(year) && day >= 60),
            Day::Ordinal(day) => first + day,
            Day::Weekday { month, week, weekday } => weekday_in_month(year, month, week, weekday),
        };
        day * 86_400 + self.seconds
    }
}

fn weekday_in_month(year: i64, month: u8, week: i64, weekday: i64) -> i64 {
    const BEFORE: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let leap = i64::from(is_leap(year));
    let start_of = |month: u8| {
        let at = usize::from(month).min(12);
        days_before_year(year) + BEFORE[at] + if at >= 2 { leap } else { 0 }
    };
    let (first, next) = (start_of(month.saturating_sub(1)), start_of(month));
    let first_weekday = (first + 4).rem_euclid(7);
    let day = first + (weekday - first_weekday).rem_euclid(7) + (week - 1) * 7;
    if day >= next { day - 7 } else { day }
}

/// Reads a POSIX rule from its start.
struct RuleReader<'a>(&'a str);

impl RuleReader<'_> {
    fn rule(mut self) -> Option<Rule> {
        let standard_name = self.name()?;
        let offset = self.offset()?;
        let standard = LocalType { offset: -offset, name: standard_name };
        if self.0.is_empty() {
            return Some(Rule { standard, summer: None });
        }
        let name = self.name()?;
        let offset = if self.0.is_empty() || self.0.starts_with(',') { offset - 3600 } else { self.offset()? };
        let local = LocalType { offset: -offset, name };
        // Without days, glibc takes those of the United States.
        if self.0.is_empty() {
            self.0 = ",M3.2.0,M11.1.0";
        }
        let begin = self.change()?;
        let end = self.change()?;
        self.0.is_empty().then_some(Rule { standard, summer: Some(Summer { local, begin, end }) })
    }

    fn accept(&mut self, prefix: char) -> bool {
        let rest = self.0.strip_prefix(prefix);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn name(&mut self) -> Option<Box<str>> {
        let (name, rest) = match self.0.strip_prefix('<') {
            Some(quoted) => quoted.split_once('>')?,
            None => {
                let end = self.0.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.0.len());
                self.0.split_at(end)
            }
        };
        self.0 = rest;
        (3..=16).contains(&name.len()).then(|| name.into())
    }

    fn number(&mut self) -> Option<i64> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at_checked(end.min(4))?;
        self.0 = rest;
        digits.parse().ok()
    }

    /// Seconds from `[+-]hh[:mm[:ss]]`.
    fn seconds(&mut self) -> Option<i64> {
        let sign = if self.accept('-') { -1 } else { 1 };
        self.accept('+');
        let mut total = self.number()? * 3600;
        for unit in [60, 1] {
            if !self.accept(':') {
                break;
            }
            total += self.number()? * unit;
        }
        Some(sign * total)
    }

    fn offset(&mut self) -> Option<i32> {
        i32::try_from(self.seconds()?).ok().filter(|offset| offset.abs() <= MAX_OFFSET)
    }

    /// `,Mm.w.d`, `,Jn` or `,n`, with `/time`.
    fn change(&mut self) -> Option<Change> {
        if !self.accept(',') {
            return None;
        }
        let day = if self.accept('M') {
            let month = u8::try_from(self.number()?).ok().filter(|month| (1..=12).contains(month))?;
            let week = self.accept('.').then(|| self.number())??;
            let weekday = self.accept('.').then(|| self.number())??;
            ((1..=5).contains(&week) && weekday <= 6).then_some(Day::Weekday { month, week, weekday })?
        } else if self.accept('J') {
            Day::Julian(self.number().filter(|day| (1..=365).contains(day))?)
        } else {
            Day::Ordinal(self.number().filter(|day| *day <= 365)?)
        };
        let seconds = if self.accept('/') { self.seconds()? } else { 7200 };
        Some(Change { day, seconds })
    }
}
