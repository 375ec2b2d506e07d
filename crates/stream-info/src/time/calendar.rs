//! The proleptic Gregorian calendar.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time as seconds since 1970 and nanoseconds in that second.
pub(super) fn since_epoch(at: SystemTime) -> (i64, u32) {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            let seconds = i64::try_from(before.as_secs()).map_or(i64::MIN, |seconds| -seconds);
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds.saturating_sub(1), 1_000_000_000 - nanos),
            }
        }
    }
}

/// A date and a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: u8,
    /// 1 to 31.
    pub(super) day: u8,
    pub(super) hour: u8,
    pub(super) minute: u8,
    pub(super) second: u8,
    /// 0 is Sunday.
    pub(super) weekday: u8,
    /// 0 is the first of January.
    pub(super) yearday: u16,
}

const SECONDS_PER_DAY: i64 = 86_400;
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

impl Civil {
    /// 1970-01-01T00:00:00, a Thursday.
    pub(super) const EPOCH: Civil =
        Civil { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, weekday: 4, yearday: 0 };

    /// The date and time at so many seconds since 1970. Years beyond ± 10^11 are clamped.
    pub(super) fn at(seconds: i64) -> Civil {
        let seconds = seconds.clamp(-(1 << 60), 1 << 60);
        let (days, rest) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        // Years that start in March, in eras of 400, so that the leap day comes last.
        let shifted = days + EPOCH_DAYS;
        let (era, day_of_era) = (shifted.div_euclid(DAYS_PER_ERA), shifted.rem_euclid(DAYS_PER_ERA));
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (DAYS_PER_ERA - 1)) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil {
            year,
            month: month as u8,
            day: day as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
            yearday: (days - days_before_year(year)) as u16,
        }
    }

    /// Year and week of ISO 8601.
    pub(super) fn iso_week(&self) -> (i64, i64) {
        let from_monday = i64::from(self.weekday + 6) % 7;
        let week = (i64::from(self.yearday) - from_monday + 10).div_euclid(7);
        if week < 1 {
            return (self.year - 1, iso_weeks(self.year - 1));
        }
        if week > iso_weeks(self.year) {
            return (self.year + 1, 1);
        }
        (self.year, week)
    }

    /// Weeks begun since the year's first Sunday.
    pub(super) fn week_from_sunday(&self) -> i64 {
        (i64::from(self.yearday) + 7 - i64::from(self.weekday)) / 7
    }

    /// Weeks begun since the year's first Monday.
    pub(super) fn week_from_monday(&self) -> i64 {
        (i64::from(self.yearday) + 7 - i64::from(self.weekday + 6) % 7) / 7
    }
}

/// Whether a year has a 29th of February.
pub(super) fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from 1970-01-01 to the year's first of January.
pub(super) fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    let leaps = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * (year - 1970) + leaps(before) - leaps(1969)
}

fn iso_weeks(year: i64) -> i64 {
    let first_weekday = (days_before_year(year) + 4).rem_euclid(7);
    if first_weekday == 4 || (first_weekday == 3 && is_leap(year)) { 53 } else { 52 }
}
