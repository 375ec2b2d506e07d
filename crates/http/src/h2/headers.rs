//! Heads: from field lines into a header map and back, and what is wanted of them (RFC 9113 §8).
//!
//! Upgrades look in the map as they do in HTTP/1 (`upgrade`, `connection: upgrade`, answered 101), whichever version the
//! peer speaks, so that the stream driver knows one form only. On an HTTP/2 connection they are extended CONNECT (RFC 8441).

use super::Http2Options;
use super::hpack::{Encoder, Field};
use crate::h1::Underscores;
use nuncio_headers::{HeaderMap, HeadersTooLarge, Known, KnownSet, Line};

/// Connection-specific headers, which HTTP/2 has no place for (RFC 9113 §8.2.2): not sent.
const CONNECTION_SPECIFIC: KnownSet = FORBIDDEN.with(Known::HOST).with(Known::HTTP2_SETTINGS);
/// Those whose presence makes a message malformed.
const FORBIDDEN: KnownSet = KnownSet::of(&[
    Known::CONNECTION,
    Known::KEEP_ALIVE,
    Known::PROXY_CONNECTION,
    Known::TRANSFER_ENCODING,
    Known::UPGRADE,
]);
/// What trailers have no meaning for.
const NOT_IN_TRAILERS: KnownSet = CONNECTION_SPECIFIC.with(Known::CONTENT_LENGTH).with(Known::TE).with(Known::TRAILER);
const OF_REQUESTS: KnownSet =
    KnownSet::of(&[Known::METHOD, Known::SCHEME, Known::AUTHORITY, Known::PATH, Known::PROTOCOL]);
const OF_RESPONSES: KnownSet = KnownSet::of(&[Known::STATUS]);
/// Memory that a field costs besides its text: its entry in the map, and in the copy for the upstream.
const FIELD_COST: usize = 64;

/// Why a received head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Longer headers than allowed.
    TooLarge,
    /// More headers than allowed.
    TooMany,
    /// A name holds `_`, and that is not wanted.
    Underscore,
    /// The message is malformed (RFC 9113 §8.1.1).
    Malformed,
    /// The heads of the streams that are open take enough of memory.
    NoRoom,
}

impl From<HeadersTooLarge> for Refused {
    fn from(_: HeadersTooLarge) -> Self {
        Refused::TooLarge
    }
}

/// What is wanted of headers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub most: u16,
    pub underscores: Underscores,
    pub longest: u32,
    /// Bytes of all fields, as RFC 9113 §6.5.2 counts them.
    pub heaviest: u32,
    pub disallow_obs_text: bool,
    /// Whether extended CONNECT was offered.
    pub extended_connect: bool,
}

impl Rules {
    pub fn new(options: &Http2Options, underscores: Underscores) -> Rules {
        Rules {
            most: options.max_headers,
            underscores,
            longest: options.max_header_field_bytes.unwrap_or(u32::MAX),
            heaviest: options.max_header_list_bytes,
            disallow_obs_text: options.disallow_obs_text,
            extended_connect: options.allow_connect,
        }
    }
}

/// What a head says besides what is in the map.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    /// Names and values, in bytes.
    pub bytes: u32,
    /// The same with what each field costs besides: what the head makes this side hold.
    pub weight: u32,
    pub dropped_underscores: u16,
    pub expect_continue: bool,
    pub upgrade: bool,
    pub connect: bool,
    pub length: Option<u64>,
}

/// Which field section is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Request,
    Response,
    Trailers,
}

/// Reads the lines of one field section into a map.
pub(super) struct Reader<'m> {
    section: Section,
    rules: Rules,
    into: &'m mut HeaderMap,
    taken: Taken,
    count: u32,
    /// As RFC 9113 §6.5.2 counts: "the uncompressed size of field lines in units of octets plus an overhead of 32 octets
    /// for each".
    listed: u32,
    /// Pseudo-headers are over.
    fields_began: bool,
    refused: Option<Refused>,
}

impl<'m> Reader<'m> {
    pub fn new(section: Section, rules: Rules, into: &'m mut HeaderMap) -> Reader<'m> {
        into.clear();
        let taken = Taken::default();
        Reader { section, rules, into, taken, count: 0, listed: 0, fields_began: false, refused: None }
    }

    /// Takes a line. The first that is wrong refuses the section; the others are still decoded, for the table's sake.
    #[inline]
    pub fn line(&mut self, field: Field<'_>) {
        if self.refused.is_none()
            && let Err(refused) = self.take(field)
        {
            self.refused = Some(refused);
            self.into.clear();
        }
    }

    #[inline]
    fn take(&mut self, Field { known, name, value }: Field<'_>) -> Result<(), Refused> {
        let size = name.len() + value.len();
        self.listed = self.listed.saturating_add((size + 32) as u32);
        if self.listed > self.rules.heaviest {
            return Err(Refused::TooLarge);
        }
        if name.first() == Some(&b':') {
            return self.take_pseudo(known, name, value);
        }
        self.fields_began = true;
        // Browsers send a cookie in many crumbs, which become one header: the limit of bytes bounds them
        // (CVE-2026-47774), not the limit of headers.
        self.count += u32::from(known != Some(Known::COOKIE));
        if self.count > u32::from(self.rules.most) {
            return Err(Refused::TooMany);
        }
        if size > self.rules.longest as usize {
            return Err(Refused::TooLarge);
        }
        if !is_value(value) || (self.rules.disallow_obs_text && !value.is_ascii()) {
            return Err(Refused::Malformed);
        }
        match known {
            Some(known) if !self.take_known(known, value)? => return Ok(()),
            None if !is_name(name) => return Err(Refused::Malformed),
            _ => {}
        }
        if self.rules.underscores != Underscores::Allow && name.contains(&b'_') {
            if self.rules.underscores == Underscores::Reject {
                return Err(Refused::Underscore);
            }
            self.taken.dropped_underscores = self.taken.dropped_underscores.saturating_add(1);
            return Ok(());
        }
        self.taken.bytes = self.taken.bytes.saturating_add(size as u32);
        self.taken.weight = self.taken.weight.saturating_add((size + FIELD_COST) as u32);
        Ok(self.into.append_received(known, name, value)?)
    }

    /// What a well-known name asks for. False if the line is not to be added.
    #[inline]
    fn take_known(&mut self, known: Known, value: &[u8]) -> Result<bool, Refused> {
        const OF_INTEREST: KnownSet = FORBIDDEN
            .with(Known::TE)
            .with(Known::COOKIE)
            .with(Known::CONTENT_LENGTH)
            .with(Known::EXPECT)
            .with(Known::HOST);
        if !OF_INTEREST.contains(known) {
            return Ok(true);
        }
        match known {
            // RFC 9113 §8.2.2: "it MUST NOT contain any value other than "trailers"".
            Known::TE if !value.eq_ignore_ascii_case(b"trailers") => return Err(Refused::Malformed),
            // RFC 9113 §8.2.3: crumbs "MUST be concatenated into a single octet string using the two-octet delimiter of
            // 0x3b, 0x20".
            Known::COOKIE if self.into.extend_last(Known::COOKIE, b"; ", value) => {
                let size = (Known::COOKIE.as_str().len() + value.len()) as u32;
                self.taken.bytes = self.taken.bytes.saturating_add(size);
                self.taken.weight = self.taken.weight.saturating_add(value.len() as u32 + 2);
                return Ok(false);
            }
            Known::CONTENT_LENGTH => self.note_length(value)?,
            Known::EXPECT => self.taken.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            // What stands in place of `:authority` is not a header.
            Known::HOST if self.section == Section::Request => {
                // Which of two is meant could be read differently by the next hop.
                if self.into.has(Known::HOST) {
                    return Err(Refused::Malformed);
                }
                self.into.append_received(Some(Known::HOST), b"host", value)?;
                return Ok(false);
            }
            _ if FORBIDDEN.contains(known) => return Err(Refused::Malformed),
            _ => {}
        }
        Ok(true)
    }

    /// Several lengths, or one that is no number, could be read differently by the next hop.
    fn note_length(&mut self, value: &[u8]) -> Result<(), Refused> {
        let length = crate::h1::parse_length(value).ok_or(Refused::Malformed)?;
        if self.taken.length.replace(length).is_some() {
            return Err(Refused::Malformed);
        }
        Ok(())
    }

    /// RFC 9113 §8.3: pseudo-headers stand before other lines, once each, and no others than those that are defined.
    fn take_pseudo(&mut self, known: Option<Known>, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        let allowed = match self.section {
            Section::Request => OF_REQUESTS,
            Section::Response => OF_RESPONSES,
            Section::Trailers => return Err(Refused::Malformed),
        };
        match known {
            Some(known) if allowed.contains(known) && !self.into.has(known) && !self.fields_began => {}
            _ => return Err(Refused::Malformed),
        }
        // Their limits of length are those of the whole head.
        let size = (name.len() + value.len()) as u32;
        self.taken.bytes = self.taken.bytes.saturating_add(size);
        self.taken.weight = self.taken.weight.saturating_add(size);
        Ok(self.into.append_received(known, name, value)?)
    }

    /// The section is over: what it said.
    pub fn finish(mut self) -> Result<Taken, Refused> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        match self.section {
            Section::Request => self.finish_request()?,
            Section::Response => self.into.join_repeated(crate::h1::JOINED_RESPONSE),
            Section::Trailers => self.into.remove_all(NOT_IN_TRAILERS),
        }
        Ok(self.taken)
    }

    /// RFC 9113 §8.3.1, and §8.5 for CONNECT.
    fn finish_request(&mut self) -> Result<(), Refused> {
        let map = &mut *self.into;
        let method = map.get(Known::METHOD).ok_or(Refused::Malformed)?;
        if !is_method(method) {
            return Err(Refused::Malformed);
        }
        let connect = method == b"CONNECT";
        let extended = map.has(Known::PROTOCOL);
        if extended && !(connect && self.rules.extended_connect) {
            return Err(Refused::Malformed);
        }
        let plain_connect = connect && !extended;
        match (map.get(Known::SCHEME), map.get(Known::PATH)) {
            (None, None) if plain_connect => {}
            (Some(scheme), Some(path)) if !plain_connect && is_scheme(scheme) && is_path(path) => {
                // RFC 9113 §8.3.1: it starts with "/", and is "*" for OPTIONS alone.
                if !path.starts_with(b"/") && (path != b"*" || method != b"OPTIONS") {
                    return Err(Refused::Malformed);
                }
            }
            _ => return Err(Refused::Malformed),
        }
        self.take_authority()?;
        self.taken.connect = plain_connect;
        if extended {
            self.take_upgrade()?;
        }
        self.into.join_repeated(crate::h1::JOINED_REQUEST);
        join_cookies(self.into);
        Ok(())
    }

    /// `host` counts where there is no `:authority`.
    fn take_authority(&mut self) -> Result<(), Refused> {
        if let Some(authority) = self.into.get(Known::AUTHORITY) {
            if !is_authority(authority) {
                return Err(Refused::Malformed);
            }
            self.into.remove_known(Known::HOST);
            return Ok(());
        }
        let Some(host) = self.into.get(Known::HOST) else { return Ok(()) };
        if !is_authority(host) {
            return Err(Refused::Malformed);
        }
        let host = host.to_vec();
        self.into.remove_known(Known::HOST);
        self.into.set_known(Known::AUTHORITY, &host);
        Ok(())
    }

    /// Extended CONNECT becomes an upgrade.
    fn take_upgrade(&mut self) -> Result<(), Refused> {
        let protocol = self.into.get(Known::PROTOCOL).unwrap_or_default().to_vec();
        if protocol.is_empty() || !protocol.iter().all(|byte| is_token(*byte) || *byte == b'/') {
            return Err(Refused::Malformed);
        }
        self.into.remove_known(Known::PROTOCOL);
        self.into.set_known(Known::METHOD, b"GET");
        self.into.append_known(Known::UPGRADE, &protocol);
        self.into.append_known(Known::CONNECTION, b"upgrade");
        self.taken.upgrade = true;
        Ok(())
    }
}

/// Crumbs that did not stand side by side.
fn join_cookies(into: &mut HeaderMap) {
    if !into.is_repeated(Known::COOKIE) {
        return;
    }
    let name = Known::COOKIE.into();
    let joined = into.all(&name).collect::<Vec<_>>().join(&b"; "[..]);
    into.set(&name, &joined);
}

/// The status of a response, if it has one.
pub(super) fn status(headers: &HeaderMap) -> Option<u16> {
    match headers.get(Known::STATUS)? {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => None,
    }
}

/// Makes the answer to extended CONNECT that to an upgrade.
pub(super) fn make_upgraded(headers: &mut HeaderMap, protocol: &[u8]) {
    headers.set_known(Known::STATUS, b"101");
    headers.append_known(Known::UPGRADE, protocol);
    headers.append_known(Known::CONNECTION, b"upgrade");
}

#[inline]
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9113 §8.2: a field name is a token without upper case.
#[inline]
fn is_name(name: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut table = [false; 256];
        let allowed = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
        let mut at = 0;
        while at < allowed.len() {
            table[allowed[at] as usize] = true;
            at += 1;
        }
        table
    };
    !name.is_empty() && name.iter().all(|byte| PLAIN.get(usize::from(*byte)) == Some(&true))
}

/// No control characters but tab (RFC 9110 §5.5).
#[inline]
fn is_value(value: &[u8]) -> bool {
    !value.iter().fold(false, |bad, byte| bad | ((*byte < 0x20) & (*byte != b'\t')) | (*byte == 0x7f))
}

fn is_method(method: &[u8]) -> bool {
    !method.is_empty() && method.iter().all(|byte| is_token(*byte))
}

fn is_scheme(scheme: &[u8]) -> bool {
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

/// What may be a target in HTTP/1 too: visible ASCII (RFC 3986 §2).
fn is_path(path: &[u8]) -> bool {
    !path.is_empty() && path.iter().all(u8::is_ascii_graphic)
}

/// Whether this may be `:authority`, or `host` in its place: not empty, and without user information (RFC 9113 §8.3.1).
fn is_authority(host: &[u8]) -> bool {
    !host.is_empty() && crate::h1::is_host_value(host) && !host.contains(&b'@')
}

/// Whether a request can stand in HTTP/2.
pub(super) fn is_sendable_request(headers: &HeaderMap) -> bool {
    let connect = headers.get(Known::METHOD) == Some(b"CONNECT");
    headers.get(Known::METHOD).is_some_and(is_method)
        && headers.get(Known::AUTHORITY).is_none_or(|authority| authority.iter().all(u8::is_ascii_graphic))
        && (connect || headers.get(Known::PATH).is_none_or(is_path))
}

/// Writes a request. The map's upgrade becomes extended CONNECT. Returns the bytes of its fields.
pub(super) fn write_request(headers: &HeaderMap, encoder: &mut Encoder, out: &mut Vec<u8>) -> usize {
    let method = headers.get(Known::METHOD).unwrap_or_default();
    let protocol = headers.get(Known::UPGRADE).filter(|_| method != b"CONNECT");
    let mut pseudo = |known: Known, value: &[u8]| encoder.field(Some(known), known.as_str().as_bytes(), value, out);
    pseudo(Known::METHOD, if protocol.is_some() { b"CONNECT" } else { method });
    if method != b"CONNECT" {
        let https = headers.get(Known::SCHEME).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https"));
        pseudo(Known::SCHEME, if https { b"https" } else { b"http" });
        pseudo(Known::PATH, headers.get(Known::PATH).unwrap_or(b"/"));
    }
    if let Some(authority) = headers.get(Known::AUTHORITY) {
        pseudo(Known::AUTHORITY, authority);
    }
    if let Some(protocol) = protocol {
        pseudo(Known::PROTOCOL, protocol);
    }
    let skip = if protocol.is_some() { KnownSet::of(&[Known::CONTENT_LENGTH]) } else { KnownSet::of(&[]) };
    write_fields(headers, skip, encoder, out)
}

/// Writes a response. The answer to an upgrade (101) becomes 200, the answer to extended CONNECT. Returns the bytes of its
/// fields.
pub(super) fn write_response(headers: &HeaderMap, encoder: &mut Encoder, out: &mut Vec<u8>) -> usize {
    let status = headers.get(Known::STATUS).unwrap_or(b"500");
    let upgraded = status == b"101";
    encoder.field(Some(Known::STATUS), b":status", if upgraded { b"200" } else { status }, out);
    let skip = if upgraded { KnownSet::of(&[Known::CONTENT_LENGTH]) } else { KnownSet::of(&[]) };
    write_fields(headers, skip, encoder, out)
}

/// Writes trailers.
pub(super) fn write_trailers(headers: &HeaderMap, encoder: &mut Encoder, out: &mut Vec<u8>) -> usize {
    write_fields(headers, KnownSet::of(&[Known::CONTENT_LENGTH, Known::TRAILER]), encoder, out)
}

/// The bytes that the fields of a response will take.
pub(super) fn response_bytes(headers: &HeaderMap) -> usize {
    sent_lines(headers, KnownSet::of(&[])).map(|line| line.name.len() + line.value.len()).sum()
}

fn write_fields(headers: &HeaderMap, extra_skip: KnownSet, encoder: &mut Encoder, out: &mut Vec<u8>) -> usize {
    let mut bytes = 0;
    for line in sent_lines(headers, extra_skip) {
        bytes += line.name.len() + line.value.len();
        encoder.field(line.known, line.name, line.value, out);
    }
    bytes
}

/// What is sent of a map besides pseudo-headers.
fn sent_lines(headers: &HeaderMap, extra_skip: KnownSet) -> impl Iterator<Item = Line<'_>> {
    headers.lines().filter(move |line| match line.known {
        Some(known) if CONNECTION_SPECIFIC.contains(known) || extra_skip.contains(known) => false,
        Some(Known::TE) => line.value.eq_ignore_ascii_case(b"trailers"),
        _ => line.name.first() != Some(&b':'),
    })
}
