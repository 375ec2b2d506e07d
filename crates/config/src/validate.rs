//! The rules that the API's own definition gives its fields (`validate.rules`), checked on wire bytes by one interpreter.
//!
//! An absent scalar without presence has its default, and its rules apply to that; an absent message, wrapper or oneof field is
//! only held to `required`. The payload of an `Any` is checked as the message that it is.

mod number_rules;
mod rules;
mod string_rules;
mod time_rules;

#[cfg(test)]
mod tests;

use crate::diagnostics::{Diagnostic, Diagnostics, FieldPath, quoted};
use crate::source::Positions;
use crate::transcode::Gaps;
use crate::transcode::grouped::{self, Grouped, Number};
use crate::transcode::wire::{self, WireValue};
use nuncio_api::schema::{FieldRef, Kind, MessageRef, Schema, WellKnown};
use regex::Regex;
use rules::Rule;
use std::collections::{HashMap, HashSet};

/// How deep messages may be nested, payloads of `Any` included.
const MAX_DEPTH: usize = 200;

/// Checks `bytes`, a `message`, and reports every broken rule at its place.
pub fn validate(bytes: &[u8], message: MessageRef, gaps: &Gaps, positions: &Positions, diagnostics: &mut Diagnostics) {
    let path = FieldPath::root();
    let mut validator = Validator { gaps, positions, diagnostics, path, depth: 0, patterns: HashMap::new() };
    validator.message(bytes, message);
}

struct Validator<'a> {
    gaps: &'a Gaps,
    positions: &'a Positions,
    diagnostics: &'a mut Diagnostics,
    path: FieldPath,
    depth: usize,
    patterns: HashMap<&'static str, Option<Regex>>,
}

type Occurrences<'v, 'a> = &'v [(FieldRef, WireValue<'a>)];

/// Rules of the API that Envoy does not ask for: `trust_bundles` stands in the place of these.
fn is_not_enforced(message: MessageRef, field: FieldRef) -> bool {
    field.name() == "trust_domains"
        && message.full_name() == "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
}

impl Validator<'_> {
    fn report(&mut self, message: String) {
        self.report_with(message, None);
    }

    fn report_with(&mut self, message: String, hint: Option<String>) {
        let finding = Diagnostic::error(self.path.to_string(), message).at(self.positions.locate(&self.path));
        self.diagnostics.push(Diagnostic { hint, ..finding });
    }

    /// Whether the value at the path was wrong already.
    fn is_failed(&self) -> bool {
        !self.gaps.failed.is_empty() && self.gaps.failed.contains(&self.path.to_string())
    }

    /// Whether what is missing in the message at the path may be there under a wrong name.
    fn is_incomplete(&self) -> bool {
        !self.gaps.incomplete.is_empty() && self.gaps.incomplete.contains(&self.path.to_string())
    }

    fn message(&mut self, bytes: &[u8], message: MessageRef) {
        if !message.has_rules_inside() || message.is_unchecked() {
            return;
        }
        if self.depth >= MAX_DEPTH {
            return self.report(format!("messages are nested deeper than {MAX_DEPTH} levels"));
        }
        let Ok(values) = Grouped::read(bytes, message) else {
            return self.report(format!("is not a serialised {}", message.full_name()));
        };
        if message.well_known() == Some(WellKnown::Any) {
            return self.payload(&values, message);
        }
        self.depth += 1;
        let incomplete = self.is_incomplete();
        for field in message.fields() {
            let occurrences = values.of(field);
            let rules = field.rules();
            // A field of a oneof is held to its rules, `required` among them, only if it is the one that is set.
            let is_skipped = match occurrences.is_empty() {
                true => rules.is_none() || field.oneof().is_some(),
                false => rules.is_none() && field.kind() != Kind::Message,
            };
            if is_skipped {
                continue;
            }
            self.path.push_field(field.name());
            let is_excused =
                self.is_failed() || (incomplete && occurrences.is_empty()) || is_not_enforced(message, field);
            if !is_excused {
                self.field(field, occurrences, rules.unwrap_or_default());
            }
            self.path.pop();
        }
        for (index, oneof) in message.oneofs().enumerate() {
            if oneof.is_required() && !incomplete && !values.has_oneof(index) && !self.oneof_failed(message, index) {
                let names: Vec<&str> = message
                    .fields()
                    .filter(|field| field.oneof() == Some(index) && !field.is_deprecated())
                    .map(FieldRef::name)
                    .collect();
                let shown = if names.is_empty() { oneof.name().to_owned() } else { names.join(", ") };
                self.report(format!("one of these fields of {} must be set: {shown}", message.short_name()));
            }
        }
        self.depth -= 1;
    }

    /// Whether a field of the oneof was given a value that was wrong.
    fn oneof_failed(&mut self, message: MessageRef, oneof: usize) -> bool {
        if self.gaps.failed.is_empty() {
            return false;
        }
        let mut fields = message.fields().filter(|field| field.oneof() == Some(oneof));
        fields.any(|field| self.gaps.failed.contains(&self.path.field(field.name()).to_string()))
    }

    /// The message inside an `Any`.
    fn payload(&mut self, values: &Grouped<'_>, any: MessageRef) {
        let last = |number: u32| {
            let field = any.field(number)?;
            values.of(field).last().map(|(_, value)| value.bytes())
        };
        let url = last(1).and_then(|url| std::str::from_utf8(url).ok()).unwrap_or_default();
        let Some(message) = Schema::message_of_url(url) else { return };
        self.depth += 1;
        self.message(last(2).unwrap_or_default(), message);
        self.depth -= 1;
    }

    fn field(&mut self, field: FieldRef, occurrences: Occurrences<'_, '_>, rules: &'static [u8]) {
        if field.is_map() {
            self.map(field, occurrences, rules::inner(rules, rules::MAP));
        } else if field.is_list() {
            self.list(field, occurrences, rules::inner(rules, rules::REPEATED));
        } else if field.kind() == Kind::Message {
            let bytes = grouped::merged(occurrences);
            self.submessage(field, (!occurrences.is_empty()).then_some(&*bytes), rules);
        } else if let Some((_, value)) = occurrences.last() {
            self.scalar(field, *value, rules);
        } else if !field.has_presence() {
            let default = match field.kind() {
                Kind::String | Kind::Bytes => WireValue::Bytes(b""),
                _ => WireValue::Varint(0),
            };
            self.scalar(field, default, rules);
        }
    }

    fn list(&mut self, field: FieldRef, occurrences: Occurrences<'_, '_>, rules: &'static [u8]) {
        let Ok(elements) = grouped::elements(field, occurrences) else {
            return self.report("is not a serialised list".to_owned());
        };
        let given = rules::read_all(rules);
        let flag = |number| given.iter().any(|rule| rule.number == number && rule.bits() != 0);
        if elements.is_empty() && flag(rules::REPEATED_IGNORE_EMPTY) {
            return;
        }
        let mut item_rules: &'static [u8] = &[];
        for rule in &given {
            match rule.number {
                rules::REPEATED_ITEMS => item_rules = rule.bytes(),
                rules::REPEATED_MIN_ITEMS if (elements.len() as u64) < rule.bits() => {
                    self.report(too_few(elements.len(), rule.bits(), "element"));
                }
                rules::REPEATED_MAX_ITEMS if elements.len() as u64 > rule.bits() => {
                    self.report(format!("found {} elements, expected at most {}", elements.len(), rule.bits()));
                }
                rules::REPEATED_UNIQUE if rule.bits() != 0 => self.unique(field, &elements),
                _ => {}
            }
        }
        if item_rules.is_empty() && field.kind() != Kind::Message {
            return;
        }
        for (index, element) in elements.iter().enumerate() {
            self.path.push_index(index);
            if !self.is_failed() {
                self.value(field, *element, item_rules);
            }
            self.path.pop();
        }
    }

    fn unique(&mut self, field: FieldRef, elements: &[WireValue<'_>]) {
        let mut seen = HashSet::new();
        for (index, element) in elements.iter().enumerate() {
            let key = match element {
                WireValue::Bytes(bytes) => (0, *bytes),
                other => (other.bits(), &[][..]),
            };
            if !seen.insert(key) {
                self.path.push_index(index);
                self.report(format!("{} is given before, expected unique values", show(field, *element)));
                self.path.pop();
            }
        }
    }

    fn map(&mut self, field: FieldRef, occurrences: Occurrences<'_, '_>, rules: &'static [u8]) {
        let Some((key_field, value_field)) = field.map_entry() else { return };
        let given = rules::read_all(rules);
        if occurrences.is_empty() && given.iter().any(|it| it.number == rules::MAP_IGNORE_EMPTY && it.bits() != 0) {
            return;
        }
        let (mut key_rules, mut value_rules): (&'static [u8], &'static [u8]) = (&[], &[]);
        for rule in &given {
            match rule.number {
                rules::MAP_KEYS => key_rules = rule.bytes(),
                rules::MAP_VALUES => value_rules = rule.bytes(),
                rules::MAP_MIN_PAIRS if (occurrences.len() as u64) < rule.bits() => {
                    self.report(too_few(occurrences.len(), rule.bits(), "key"));
                }
                rules::MAP_MAX_PAIRS if occurrences.len() as u64 > rule.bits() => {
                    self.report(format!("found {} keys, expected at most {}", occurrences.len(), rule.bits()));
                }
                _ => {}
            }
        }
        for (_, entry) in occurrences {
            let (mut key, mut value) = (None, None);
            for (number, part) in wire::fields(entry.bytes()).flatten() {
                match number {
                    1 => key = Some(part),
                    2 => value = Some(part),
                    _ => {}
                }
            }
            let key = key.unwrap_or(WireValue::Bytes(b""));
            self.path.push_key(&show_plain(key_field, key));
            if !self.is_failed() {
                if !key_rules.is_empty() {
                    self.scalar(key_field, key, key_rules);
                }
                let value = value.unwrap_or(WireValue::Bytes(b""));
                if value_field.kind() == Kind::Message || !value_rules.is_empty() {
                    self.value(value_field, value, value_rules);
                }
            }
            self.path.pop();
        }
    }

    /// A list element or a map value.
    fn value(&mut self, field: FieldRef, value: WireValue<'_>, rules: &'static [u8]) {
        match field.kind() {
            Kind::Message => self.submessage(field, Some(value.bytes()), rules),
            _ => self.scalar(field, value, rules),
        }
    }

    fn submessage(&mut self, field: FieldRef, bytes: Option<&[u8]>, rules: &'static [u8]) {
        let Some(message) = field.message() else { return };
        let mut skip = false;
        for rule in rules::read(rules) {
            match rule.number {
                rules::MESSAGE => {
                    let given = rules::read_all(rule.bytes());
                    let flag = |number| given.iter().any(|it: &Rule| it.number == number && it.bits() != 0);
                    skip |= flag(rules::MESSAGE_SKIP);
                    if bytes.is_none() && flag(rules::MESSAGE_REQUIRED) {
                        self.report(format!("must be set, to {}", a_message(message)));
                    }
                }
                rules::ANY => self.any(bytes, rule.bytes()),
                rules::DURATION => self.duration(bytes, rule.bytes()),
                rules::TIMESTAMP => self.timestamp(bytes, rule.bytes()),
                _ => {
                    if let (Some(WellKnown::Wrapper(kind)), Some(bytes)) = (message.well_known(), bytes) {
                        self.wrapper(message, kind, bytes, rule);
                    }
                }
            }
        }
        if let Some(bytes) = bytes
            && !skip
        {
            self.message(bytes, message);
        }
    }

    /// A wrapper is held to the rules of what it wraps.
    fn wrapper(&mut self, message: MessageRef, kind: Kind, bytes: &[u8], rule: Rule) {
        let Some(field) = message.field(1) else { return };
        let found = wire::fields(bytes).flatten().filter(|(number, _)| *number == 1).last();
        let value = match (found, kind) {
            (Some((_, value)), _) => value,
            (None, Kind::String | Kind::Bytes) => WireValue::Bytes(b""),
            (None, _) => WireValue::Varint(0),
        };
        self.scalar_rule(field, value, rule);
    }

    fn any(&mut self, bytes: Option<&[u8]>, rules: &'static [u8]) {
        let urls = bytes.into_iter().flat_map(|bytes| wire::fields(bytes).flatten());
        let url = urls.filter(|(number, _)| *number == 1).last().map(|(_, value)| value.bytes()).unwrap_or_default();
        let list = |number| -> Vec<&[u8]> {
            rules::read(rules).filter(|rule| rule.number == number).map(Rule::bytes).collect()
        };
        let required = rules::read(rules).any(|rule| rule.number == rules::ANY_REQUIRED && rule.bits() != 0);
        let (allowed, refused) = (list(rules::ANY_IN), list(rules::ANY_NOT_IN));
        let wrong = (!allowed.is_empty() && !allowed.contains(&url)) || refused.contains(&url);
        if bytes.is_none() && required {
            self.report_with(
                "must be set, to a mapping with an `@type`".to_owned(),
                Some("the type decides which extension is meant, the name does not".to_owned()),
            );
        } else if bytes.is_some() && wrong {
            self.report(format!("the type {} is not allowed here", quoted(&String::from_utf8_lossy(url))));
        }
    }

    fn scalar(&mut self, field: FieldRef, value: WireValue<'_>, rules: &'static [u8]) {
        for rule in rules::read(rules) {
            self.scalar_rule(field, value, rule);
        }
    }

    fn scalar_rule(&mut self, field: FieldRef, value: WireValue<'_>, rule: Rule) {
        match rule.number {
            rules::FLOAT..=rules::SFIXED64 => self.number(field.kind(), value, rule),
            rules::BOOL => {
                let wanted = rules::read(rule.bytes()).find(|it| it.number == rules::CONST).map(Rule::bits);
                if wanted.is_some_and(|wanted| (wanted != 0) != (value.bits() != 0)) {
                    self.report(format!("found {}, expected {}", value.bits() != 0, value.bits() == 0));
                }
            }
            rules::STRING => self.string(value.bytes(), rule.bytes()),
            rules::BYTES => self.bytes(value.bytes(), rule.bytes()),
            rules::ENUM => self.enumeration(field, value, rule.bytes()),
            _ => {}
        }
    }

    fn enumeration(&mut self, field: FieldRef, value: WireValue<'_>, rules: &'static [u8]) {
        let Some(values) = field.enumeration() else { return };
        let number = value.bits() as i32;
        let given = rules::read_all(rules);
        let name = |number: i32| values.by_number(number).map_or_else(|| number.to_string(), |it| it.name().to_owned());
        let list = |which| -> Vec<i32> {
            given.iter().filter(|rule| rule.number == which).flat_map(|rule| rules::varints(*rule)).collect()
        };
        let names = |numbers: &[i32]| numbers.iter().map(|it| name(*it)).collect::<Vec<_>>().join(", ");
        let (allowed, refused) = (list(rules::ENUM_IN), list(rules::ENUM_NOT_IN));
        if !allowed.is_empty() && !allowed.contains(&number) {
            self.report(format!("found {}, expected one of {}", name(number), names(&allowed)));
        }
        if refused.contains(&number) {
            self.report(format!("{} is not allowed here", name(number)));
        }
        for rule in &given {
            let wanted = rule.bits() as i32;
            if rule.number == rules::CONST && wanted != number {
                self.report(format!("found {}, expected {}", name(number), name(wanted)));
            }
            if rule.number == rules::ENUM_DEFINED_ONLY && rule.bits() != 0 && values.by_number(number).is_none() {
                let known = values.values().map(|it| format!("{} ({})", it.name(), it.number())).collect::<Vec<_>>();
                self.report(format!("found {number}, expected one of {}", known.join(", ")));
            }
        }
    }
}

fn too_few(found: usize, wanted: u64, what: &str) -> String {
    match (found, wanted) {
        (0, 1) => format!("must have at least one {what}"),
        _ => format!("found {found} {what}s, expected at least {wanted}"),
    }
}

fn a_message(message: MessageRef) -> String {
    match message.well_known() {
        Some(WellKnown::Duration) => "a duration such as `1s`".to_owned(),
        Some(WellKnown::Wrapper(_)) => "a value".to_owned(),
        Some(WellKnown::Any) => "a mapping with an `@type`".to_owned(),
        _ => format!("a mapping of the fields of {}", message.short_name()),
    }
}

/// A scalar as a message shows it.
fn show(field: FieldRef, value: WireValue<'_>) -> String {
    quoted(&show_plain(field, value))
}

fn show_plain(field: FieldRef, value: WireValue<'_>) -> String {
    match (field.kind(), value) {
        (Kind::String | Kind::Bytes, value) => String::from_utf8_lossy(value.bytes()).into_owned(),
        (Kind::Bool, value) => (value.bits() != 0).to_string(),
        (kind, value) => match grouped::number(kind, value) {
            Number::Whole(value) => value.to_string(),
            Number::Real(value) => value.to_string(),
        },
    }
}
