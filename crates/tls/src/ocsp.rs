//! OCSP responses that are stapled (RFC 6960): for which certificate, and until when.

use crate::der::{self, Reader};

/// What of a response matters here. Its signature is for clients to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staple {
    pub(crate) der: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    /// Seconds since 1970; without it newer information is available all the time.
    pub(crate) next_update: Option<i64>,
}

impl Staple {
    /// `Err` says what is wrong, in Envoy's words where it has some.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Staple, &'static str> {
        const MALFORMED: &str = "OCSP response is malformed";
        const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
        let mut response = Reader::new(bytes).enter(der::SEQUENCE).ok_or(MALFORMED)?;
        if response.content(der::ENUMERATED) != Some(&[0]) {
            return Err("OCSP response was unsuccessful");
        }
        let body = response.enter(der::context(0)).and_then(|mut body| body.enter(der::SEQUENCE));
        let mut body = body.ok_or(MALFORMED)?;
        if body.content(der::OID) != Some(BASIC) {
            return Err("Unknown OCSP Response type");
        }
        let basic = body.enter(der::OCTET_STRING).and_then(|mut basic| basic.enter(der::SEQUENCE));
        let mut data = basic.and_then(|mut basic| basic.enter(der::SEQUENCE)).ok_or(MALFORMED)?;
        let _version = data.element(der::context(0));
        let _responder = data.any();
        data.time().ok_or(MALFORMED)?;
        let mut responses = data.enter(der::SEQUENCE).ok_or(MALFORMED)?;
        let mut single = responses.enter(der::SEQUENCE).ok_or(MALFORMED)?;
        if !responses.is_empty() {
            return Err("OCSP Response must be for one certificate only");
        }
        let mut id = single.enter(der::SEQUENCE).ok_or(MALFORMED)?;
        id.element(der::SEQUENCE).and_then(|_| id.content(der::OCTET_STRING)).ok_or(MALFORMED)?;
        let serial = id.content(der::OCTET_STRING).and_then(|_| id.content(der::INTEGER)).ok_or(MALFORMED)?.to_vec();
        let _status = single.any().ok_or(MALFORMED)?;
        single.time().ok_or(MALFORMED)?;
        let next_update = match single.enter(der::context(0)) {
            Some(mut next) => Some(next.time().ok_or(MALFORMED)?),
            None => None,
        };
        Ok(Staple { der: bytes.to_vec(), serial, next_update })
    }

    pub(crate) fn is_expired(&self, now: i64) -> bool {
        self.next_update.is_some_and(|next| next <= now)
    }
}
