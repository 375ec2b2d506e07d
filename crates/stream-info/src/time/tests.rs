use super::calendar::Civil;
use super::{TimeFormat, TimeZone};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2026-11-20T14:18:35.803038Z, a Friday.
fn moment() -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(1_795_184_315_803_038)
}

fn print(format: &TimeFormat, at: SystemTime) -> String {
    let mut out = Vec::new();
    format.write(at, &mut out);
    String::from_utf8(out).unwrap()
}

/// The expectations are what Envoy printed at that moment.
#[test]
fn patterns() {
    for (pattern, expected) in [
        ("", "2026-11-20T14:18:35.803Z"),
        ("%Y-%m-%dT%H:%M:%S.%3fZ", "2026-11-20T14:18:35.803Z"),
        ("%s.%f", "1795184315.803038000"),
        ("%s%3f", "1795184315803"),
        ("%s%s%f%f", "17951843151795184315803038000803038000"),
        ("%1f|%2f|%4f|%5f|%6f|%7f|%8f|%9f", "8|80|8030|80303|803038|8030380|80303800|803038000"),
        ("%E3S|%E*S|%E0S|%E6S|%ES", "35.803|35.803038|35|35.803038|%ES"),
        ("%E4Y|%Ez|%E*z|%:z|%::z|%:::z|%z|%Z", "2026|+00:00|+00:00:00|+00:00|+00:00:00|+00|+0000|UTC"),
        (
            "%a|%A|%b|%B|%c|%C|%d|%D|%e|%F",
            "Fri|Friday|Nov|November|Fri Nov 20 14:18:35 2026|20|20|11/20/26|20|2026-11-20",
        ),
        ("%g|%G|%h|%H|%I|%j|%k|%l|%m|%M|%p|%P|%q", "26|2026|Nov|14|02|324|14| 2|11|18|PM|pm|%q"),
        ("%r|%R|%S|%t|%T|%u|%U|%v|%V|%w|%W|%x", "02:18:35 PM|14:18|35|\t|14:18:35|5|46|%v|47|5|46|11/20/26"),
        ("%X|%y|%Y|%z|%Z|%%|%", "14:18:35|26|2026|+0000|UTC|%|%"),
        (
            "%i|%J|%K|%L|%N|%O|%Q|%E|%-d|%_d|%03d|%^a|%#a|%Od|%Ey|%+|%",
            "%i|%J|%K|%L|%N|%O|%Q|%E|20|20|020|FRI|FRI|20|26|%+|%",
        ),
        ("%ET|%E3f|%E3s|%ms", "T|803|%E3s|11s"),
        ("%0f", "%0f"),
        ("a%%3fb", "a%803b"),
        ("%%f", "%803038000"),
        ("%3S", "035"),
        ("Ünï", "Ünï"),
        ("%6T|%10T|%^c|%5p|%#p", "14:18:35|  14:18:35|FRI NOV 20 14:18:35 2026|   PM|pm"),
    ] {
        assert_eq!(print(&TimeFormat::new(pattern).unwrap(), moment()), expected, "{pattern}");
    }
}

#[test]
fn newlines_are_refused() {
    for pattern in ["%n", "%En", "%-n", "x%_0^#19On"] {
        assert!(TimeFormat::new(pattern).is_err(), "{pattern}");
    }
    assert!(TimeFormat::new("%0dn%m").is_ok());
}

#[test]
fn widths_are_bounded() {
    let text = print(&TimeFormat::new("%99999999999d|%E99999999999S").unwrap(), moment());
    assert_eq!(text.len(), 255 + 1 + 3 + 255);
}

#[test]
fn the_second_printed_last_is_not_mixed_up() {
    let format = TimeFormat::new("").unwrap();
    for (nanos, expected) in [
        (1_000_000, "1970-01-01T00:00:00.001Z"),
        (999_999_999, "1970-01-01T00:00:00.999Z"),
        (1_000_000_000, "1970-01-01T00:00:01.000Z"),
        (1_000_001, "1970-01-01T00:00:00.001Z"),
    ] {
        assert_eq!(print(&format, UNIX_EPOCH + Duration::from_nanos(nanos)), expected);
    }
    assert_eq!(print(&format, UNIX_EPOCH - Duration::from_millis(1)), "1969-12-31T23:59:59.999Z");
    let far = UNIX_EPOCH + Duration::from_secs(400_000_000_000);
    assert_eq!(print(&format, far), "14645-06-30T15:06:40.000Z");
}

#[test]
fn calendar_holds_over_four_centuries() {
    let first_day = -800 * 366;
    let mut previous = Civil::at((first_day - 1) * 86_400);
    for day in first_day..first_day + 400_000 {
        let civil = Civil::at(day * 86_400 + 5);
        let is_next_day = civil.day == previous.day + 1 && civil.month == previous.month;
        let is_new_month = civil.day == 1 && (civil.month == previous.month + 1 || civil.month == 1);
        assert!(is_next_day || is_new_month, "{previous:?} {civil:?}");
        assert_eq!(civil.weekday, (previous.weekday + 1) % 7);
        assert_eq!(civil.yearday == 0, civil.day == 1 && civil.month == 1);
        assert!((1..=53).contains(&civil.iso_week().1));
        previous = civil;
    }
    for (seconds, week) in [(1_609_459_200, (2020, 53)), (1_230_940_800, (2009, 1)), (1_704_067_200, (2024, 1))] {
        assert_eq!(Civil::at(seconds).iso_week(), week, "{seconds}");
    }
    Civil::at(i64::MIN);
    Civil::at(i64::MAX);
}

#[test]
fn local_time_follows_rules() {
    let new_york = Arc::new(TimeZone::from_posix("EST5EDT,M3.2.0,M11.1.0").unwrap());
    let print = |pattern: &str, seconds: u64| {
        print(&TimeFormat::local(pattern, new_york.clone()).unwrap(), UNIX_EPOCH + Duration::from_secs(seconds))
    };
    assert_eq!(print("%H:%M %z %Z", 1_795_184_315), "09:18 -0500 EST");
    assert_eq!(print("", 1_795_184_315), "2026-11-20T09:18:35.000-0500");
    // 2026-03-08 02:00 and 2026-11-01 02:00, a second before and at.
    assert_eq!(print("%T %Z", 1_772_953_199), "01:59:59 EST");
    assert_eq!(print("%T %Z", 1_772_953_200), "03:00:00 EDT");
    assert_eq!(print("%T %Z", 1_793_512_799), "01:59:59 EDT");
    assert_eq!(print("%T %Z", 1_793_512_800), "01:00:00 EST");
}

#[test]
fn rules_are_read_or_refused() {
    for (rule, seconds, expected) in [
        ("UTC0", 0, (0, "UTC")),
        ("<+0530>-5:30", 0, (19_800, "+0530")),
        // South: summer around the new year.
        ("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_767_225_600, (39_600, "AEDT")),
        ("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_782_864_000, (36_000, "AEST")),
        ("XXX3YYY,J60/0,J300/0", 1_772_340_000, (-7_200, "YYY")),
        ("XXX3YYY,59/0,300/0", 1_772_330_000, (-10_800, "XXX")),
        ("IST-1GMT0,M10.5.0,M3.5.0/1", 1_767_225_600, (0, "GMT")),
    ] {
        assert_eq!(TimeZone::from_posix(rule).unwrap().at(seconds), expected, "{rule}");
    }
    for rule in
        ["", "U", "UTC", "UTC+99", "EST5EDT,M3.2.0", "EST5EDT,M13.2.0,M1.1.1", "A<B>3", "EST5EDT,M3.2.0,M11.1.0x"]
    {
        assert_eq!(TimeZone::from_posix(rule), None, "{rule}");
    }
}

/// A version 2 file with one transition at 1,000,000 and a rule after it.
fn tzif() -> Vec<u8> {
    let header = |counts: [u32; 6]| {
        let mut bytes = b"TZif2".to_vec();
        bytes.extend([0; 15]);
        bytes.extend(counts.into_iter().flat_map(u32::to_be_bytes));
        bytes
    };
    let mut file = header([0, 0, 0, 0, 1, 4]);
    file.extend([0; 6]);
    file.extend(b"UTC\0");
    file.extend(header([0, 0, 0, 2, 2, 8]));
    file.extend(1_000_000_i64.to_be_bytes());
    file.extend(2_000_000_i64.to_be_bytes());
    file.extend([1, 0]);
    file.extend([0, 0, 0x0e, 0x10, 0, 0]);
    file.extend([0, 0, 0x1c, 0x20, 1, 4]);
    file.extend(b"CET\0EET\0");
    file.extend(b"\nCET-1CEST,M3.5.0,M10.5.0/3\n");
    file
}

#[test]
fn zone_files_are_read() {
    let zone = TimeZone::from_tzif(&tzif()).unwrap();
    assert_eq!(zone.at(0), (3600, "CET"));
    assert_eq!(zone.at(999_999), (3600, "CET"));
    assert_eq!(zone.at(1_000_000), (7200, "EET"));
    assert_eq!(zone.at(1_782_864_000), (7200, "CEST"));
    assert_eq!(zone.at(1_795_184_315), (3600, "CET"));
    // No prefix of a file and no file with a flipped byte makes it panic.
    let file = tzif();
    for len in 0..file.len() {
        assert_eq!(TimeZone::from_tzif(&file[..len]), None, "{len}");
    }
    for at in 0..file.len() {
        let mut broken = file.clone();
        broken[at] ^= 0xff;
        if let Some(zone) = TimeZone::from_tzif(&broken) {
            for seconds in [i64::MIN, 0, 1_500_000, i64::MAX] {
                zone.at(seconds);
            }
        }
    }
}

#[test]
fn environment_names_the_zone() {
    let read = |path: &str| match path {
        "/etc/localtime" | "/usr/share/zoneinfo/Europe/X" | "/tmp/zone" => Some(tzif()),
        _ => None,
    };
    for (tz, name) in [
        (None, "CET"),
        (Some(""), "UTC"),
        (Some("Europe/X"), "CET"),
        (Some(":Europe/X"), "CET"),
        (Some("/tmp/zone"), "CET"),
        (Some("EST5EDT"), "EST"),
        (Some("../x"), "UTC"),
        (Some("Nowhere/Y"), "UTC"),
    ] {
        assert_eq!(TimeZone::from_environment(tz, read).at(1_795_184_315).1, name, "{tz:?}");
    }
}
