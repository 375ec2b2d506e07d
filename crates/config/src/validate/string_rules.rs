//! Rules of strings and bytes: lengths, patterns, and well-known forms.

use super::Validator;
use super::rules::{self, CONST, Rule};
use crate::diagnostics::quoted;
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MIN_LEN: u32 = 2;
const MAX_LEN: u32 = 3;
const MIN_BYTES: u32 = 4;
const MAX_BYTES: u32 = 5;
const PATTERN: u32 = 6;
const PREFIX: u32 = 7;
const SUFFIX: u32 = 8;
const CONTAINS: u32 = 9;
const IN: u32 = 10;
const NOT_IN: u32 = 11;
const EMAIL: u32 = 12;
const HOSTNAME: u32 = 13;
const IP: u32 = 14;
const IPV4: u32 = 15;
const IPV6: u32 = 16;
const URI: u32 = 17;
const URI_REF: u32 = 18;
const LEN: u32 = 19;
const LEN_BYTES: u32 = 20;
const ADDRESS: u32 = 21;
const UUID: u32 = 22;
const NOT_CONTAINS: u32 = 23;
const WELL_KNOWN_REGEX: u32 = 24;
const STRICT: u32 = 25;
const IGNORE_EMPTY: u32 = 26;

const HTTP_HEADER_NAME: u64 = 1;
const HTTP_HEADER_VALUE: u64 = 2;

const BYTES_PATTERN: u32 = 4;
const BYTES_PREFIX: u32 = 5;
const BYTES_SUFFIX: u32 = 6;
const BYTES_CONTAINS: u32 = 7;
const BYTES_IN: u32 = 8;
const BYTES_NOT_IN: u32 = 9;
const BYTES_IP: u32 = 10;
const BYTES_IPV4: u32 = 11;
const BYTES_IPV6: u32 = 12;
const BYTES_LEN: u32 = 13;
const BYTES_IGNORE_EMPTY: u32 = 14;

/// The texts of a rule that lists them.
fn listed(given: &[Rule], number: u32) -> Vec<&'static [u8]> {
    given.iter().filter(|rule| rule.number == number).map(|rule| rule.bytes()).collect()
}

impl Validator<'_> {
    pub(super) fn string(&mut self, value: &[u8], rules: &'static [u8]) {
        let given = rules::read_all(rules);
        let flag = |number| given.iter().find(|rule| rule.number == number).map(|rule| rule.bits() != 0);
        if value.is_empty() && flag(IGNORE_EMPTY) == Some(true) {
            return;
        }
        let Ok(text) = std::str::from_utf8(value) else {
            return self.report("found bytes that are not UTF-8, expected a string".to_owned());
        };
        let allowed = listed(&given, IN);
        if !allowed.is_empty() && !allowed.contains(&value) {
            let shown: Vec<_> = allowed.iter().map(|it| quoted(&String::from_utf8_lossy(it))).collect();
            self.report(format!("found {}, expected {}", quoted(text), shown.join(" or ")));
        }
        if listed(&given, NOT_IN).contains(&value) {
            self.report(format!("{} is not allowed here", quoted(text)));
        }
        let strict = flag(STRICT) != Some(false);
        for rule in &given {
            if let Some(expected) = self.string_rule(text, *rule, strict) {
                let found = if text.is_empty() { "an empty string".to_owned() } else { quoted(text) };
                match expected.as_str() {
                    "" => self.report("must not be empty".to_owned()),
                    expected => self.report(format!("found {found}, expected {expected}")),
                }
            }
        }
    }

    /// What the rule expects, if the text breaks it; an empty expectation is that there be something.
    fn string_rule(&mut self, text: &str, rule: Rule, strict: bool) -> Option<String> {
        let characters = || text.chars().count() as u64;
        let bytes = text.len() as u64;
        let limit = rule.bits();
        let form = |holds: bool, what: &str| (!holds).then(|| what.to_owned());
        let affix = |holds: bool, what: &str| (!holds).then(|| format!("{what} {}", quoted(rule.text())));
        match rule.number {
            CONST => affix(text == rule.text(), "exactly"),
            MIN_LEN | MIN_BYTES if limit == 1 => form(!text.is_empty(), ""),
            MIN_LEN => (characters() < limit).then(|| format!("at least {limit} characters")),
            MIN_BYTES => (bytes < limit).then(|| format!("at least {limit} bytes")),
            MAX_LEN => (characters() > limit).then(|| format!("at most {limit} characters")),
            MAX_BYTES => (bytes > limit).then(|| format!("at most {limit} bytes")),
            LEN => (characters() != limit).then(|| format!("{limit} characters")),
            LEN_BYTES => (bytes != limit).then(|| format!("{limit} bytes")),
            PATTERN => {
                (!self.matches(rule.text(), text)).then(|| format!("a match of the pattern {}", quoted(rule.text())))
            }
            PREFIX => affix(text.starts_with(rule.text()), "something that begins with"),
            SUFFIX => affix(text.ends_with(rule.text()), "something that ends with"),
            CONTAINS => affix(text.contains(rule.text()), "something that contains"),
            NOT_CONTAINS => affix(!text.contains(rule.text()), "something without"),
            WELL_KNOWN_REGEX => well_known(text, limit, strict),
            _ if limit == 0 => None,
            EMAIL => form(is_email(text), "an e-mail address"),
            HOSTNAME => form(is_hostname(text), "a host name"),
            IP => form(text.parse::<IpAddr>().is_ok(), "an IP address"),
            IPV4 => form(text.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
            IPV6 => form(text.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
            ADDRESS => form(is_hostname(text) || text.parse::<IpAddr>().is_ok(), "a host name or an IP address"),
            URI => form(is_uri(text), "a URI with a scheme"),
            URI_REF => form(!text.contains(char::is_whitespace), "a URI reference"),
            UUID => form(is_uuid(text), "a UUID"),
            _ => None,
        }
    }

    fn matches(&mut self, pattern: &'static str, text: &str) -> bool {
        let compiled = self.patterns.entry(pattern).or_insert_with(|| Regex::new(pattern).ok());
        compiled.as_ref().is_none_or(|regex| regex.is_match(text))
    }

    pub(super) fn bytes(&mut self, value: &[u8], rules: &'static [u8]) {
        let given = rules::read_all(rules);
        if value.is_empty() && given.iter().any(|rule| rule.number == BYTES_IGNORE_EMPTY && rule.bits() != 0) {
            return;
        }
        let allowed = listed(&given, BYTES_IN);
        if !allowed.is_empty() && !allowed.contains(&value) {
            self.report("found bytes that are not among those allowed here".to_owned());
        }
        if listed(&given, BYTES_NOT_IN).contains(&value) {
            self.report("these bytes are not allowed here".to_owned());
        }
        for rule in &given {
            let (length, limit) = (value.len() as u64, rule.bits());
            let part = rule.bytes();
            let broken = match rule.number {
                CONST => (value != part).then(|| "other bytes".to_owned()),
                BYTES_LEN => (length != limit).then(|| format!("{limit} bytes")),
                MIN_LEN => (length < limit).then(|| format!("at least {limit} bytes")),
                MAX_LEN => (length > limit).then(|| format!("at most {limit} bytes")),
                BYTES_PATTERN => {
                    let matches = std::str::from_utf8(value).is_ok_and(|text| self.matches(rule.text(), text));
                    (!matches).then(|| format!("a match of the pattern {}", quoted(rule.text())))
                }
                BYTES_PREFIX => (!value.starts_with(part)).then(|| "another beginning".to_owned()),
                BYTES_SUFFIX => (!value.ends_with(part)).then(|| "another end".to_owned()),
                BYTES_CONTAINS => {
                    let holds = part.is_empty() || value.windows(part.len()).any(|window| window == part);
                    (!holds).then(|| "other content".to_owned())
                }
                BYTES_IP => {
                    (limit != 0 && !matches!(length, 4 | 16)).then(|| "an IP address of 4 or 16 bytes".to_owned())
                }
                BYTES_IPV4 => (limit != 0 && length != 4).then(|| "an IPv4 address of 4 bytes".to_owned()),
                BYTES_IPV6 => (limit != 0 && length != 16).then(|| "an IPv6 address of 16 bytes".to_owned()),
                _ => None,
            };
            if let Some(expected) = broken {
                self.report(format!("found {length} bytes, expected {expected}"));
            }
        }
    }
}

/// The forms of HTTP header names and values; not strict, only what would break a header block is refused.
fn well_known(text: &str, which: u64, strict: bool) -> Option<String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+,-.^_|~`".contains(&byte);
    let name = text.strip_prefix(':').unwrap_or(text);
    match (which, strict) {
        (HTTP_HEADER_NAME, true) => {
            (name.is_empty() || !name.bytes().all(token)).then(|| "the name of an HTTP header".to_owned())
        }
        (HTTP_HEADER_VALUE, true) => {
            let refused = |byte: u8| matches!(byte, 0..=8 | 0x0a..=0x1f | 0x7f);
            text.bytes().any(refused).then(|| "a header value without control characters".to_owned())
        }
        (HTTP_HEADER_NAME | HTTP_HEADER_VALUE, false) => {
            text.contains(['\0', '\r', '\n']).then(|| "no line break and no NUL".to_owned())
        }
        _ => None,
    }
}

fn is_hostname(text: &str) -> bool {
    let host = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let inside = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && inside && !label.starts_with('-') && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, host)| (1..=64).contains(&local.len()) && is_hostname(host))
}

fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let starts = scheme.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    let inside = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    starts && inside && !rest.contains(char::is_whitespace)
}

fn is_uuid(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.into_iter().all(hex)
}
