//! A look at the ClientHello before rustls gets it (RFC 8446 §4.1.2).
//!
//! rustls ends the handshake when no application protocol is shared, where Envoy goes on without; and it does not tell whether the
//! client wants an OCSP staple. Besides, nothing is allocated for a client that does not send a whole hello.

/// Largest ClientHello, bytes: as in BoringSSL. What a client holds that never completes its hello is bounded by it.
const MOST_HELLO: usize = 16 * 1024;
/// Records that one may be spread over: more is an attack.
const MOST_RECORDS: usize = 64;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// It is complete.
    Complete(Wishes),
    /// It says that it is larger than any honest one.
    TooLarge,
    /// It is something else; rustls says what is wrong with it.
    Malformed,
}

/// What the client asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) wants_staple: bool,
    /// Content of the ALPN extension's list; empty if there is none.
    pub(crate) protocols: Vec<u8>,
}

impl Wishes {
    /// Whether the client offers protocols of which none is in `ours`.
    pub(crate) fn shares_no_protocol(&self, ours: &[Vec<u8>]) -> bool {
        let mut rest = self.protocols.as_slice();
        let mut offers_any = false;
        while let Some((name, after)) = vector::<1>(rest) {
            offers_any = true;
            if ours.iter().any(|own| own == name) {
                return false;
            }
            rest = after;
        }
        offers_any
    }
}

/// Looks at what was received so far.
pub(crate) fn look(received: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = received;
    for record in 0..MOST_RECORDS {
        let [kind, major, _, high, low, after @ ..] = rest else { return incomplete(rest, record) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != 22 || *major != 3 || length == 0 || length > 1 << 14 {
            return Hello::Malformed;
        }
        let Some((payload, after)) = after.split_at_checked(length) else { return unfinished(&message, after) };
        rest = after;
        // Nearly always it is one record, which then is not copied.
        let found = if record == 0 { whole(payload) } else { None };
        message.extend_from_slice(if found.is_some() { &[] } else { payload });
        if let Some(found) = found.or_else(|| if record > 0 { whole(&message) } else { None }) {
            return found;
        }
    }
    Hello::Malformed
}

/// Fewer bytes than a header: what there is must look like one.
fn incomplete(rest: &[u8], record: usize) -> Hello {
    let is_fine = rest.first().is_none_or(|kind| *kind == 22) && rest.get(1).is_none_or(|major| *major == 3);
    if is_fine || record > 0 { Hello::Incomplete } else { Hello::Malformed }
}

/// The first bytes of a record whose others are missing: a length is looked at as soon as it is there, so that nobody is waited
/// for who announces too much. `message` is what the records before brought.
fn unfinished(message: &[u8], record: &[u8]) -> Hello {
    let mut start = message.iter().chain(record).copied();
    match [start.next(), start.next(), start.next(), start.next()] {
        [Some(1), Some(a), Some(b), Some(c)] if length_of(a, b, c) > MOST_HELLO => Hello::TooLarge,
        _ => Hello::Incomplete,
    }
}

fn length_of(a: u8, b: u8, c: u8) -> usize {
    u32::from_be_bytes([0, a, b, c]) as usize
}

fn whole(message: &[u8]) -> Option<Hello> {
    let [kind, a, b, c, body @ ..] = message else { return None };
    let length = length_of(*a, *b, *c);
    if *kind != 1 {
        return Some(Hello::Malformed);
    }
    if length > MOST_HELLO {
        return Some(Hello::TooLarge);
    }
    let body = body.get(..length)?;
    Some(wishes(body).map_or(Hello::Malformed, Hello::Complete))
}

fn wishes(body: &[u8]) -> Option<Wishes> {
    let (_, rest) = body.split_at_checked(2 + 32)?;
    let (_session, rest) = vector::<1>(rest)?;
    let (_suites, rest) = vector::<2>(rest)?;
    let (_compressions, rest) = vector::<1>(rest)?;
    let mut wishes = Wishes::default();
    let mut extensions = if rest.is_empty() { rest } else { vector::<2>(rest)?.0 };
    while let [high, low, rest @ ..] = extensions {
        let (content, rest) = vector::<2>(rest)?;
        match u16::from_be_bytes([*high, *low]) {
            5 => wishes.wants_staple = content.first() == Some(&1),
            16 => wishes.protocols = vector::<2>(content)?.0.to_vec(),
            _ => {}
        }
        extensions = rest;
    }
    Some(wishes)
}

/// A vector with a length of `N` bytes, and what follows it.
fn vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<N>()?;
    rest.split_at_checked(length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: usize, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![22, 3, 1];
        bytes.extend((length as u16).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_hello_that_announces_too_much_is_refused_by_its_first_bytes() {
        for announced in [MOST_HELLO, MOST_HELLO + 1, 0xff_ffff] {
            let length = (announced as u32).to_be_bytes();
            let start = [1, length[1], length[2], length[3]];
            let expected = if announced > MOST_HELLO { Hello::TooLarge } else { Hello::Incomplete };
            let whole = record(1 << 14, &start);
            for end in 0..whole.len() {
                assert_eq!(look(&whole[..end]), Hello::Incomplete, "{end} bytes");
            }
            assert_eq!(look(&whole), expected);
            let spread = [record(2, &start[..2]), record(1 << 14, &start[2..])].concat();
            assert_eq!(look(&spread[..spread.len() - 1]), Hello::Incomplete);
            assert_eq!(look(&spread), expected);
        }
    }
}
