//! The hash that a route's policies make of a request, for hashing load balancers and weighted clusters.

use crate::environment::Environment;
use nuncio_headers::{HeaderMap, Known};
use nuncio_lb::hash_bytes;
use nuncio_matcher::{cookie_value, query_parameter};
use nuncio_route::{HashCookie, HashInput, HashPolicy};
use nuncio_stream_info::StreamInfo;
use std::borrow::Cow;

/// What the policies look at.
pub(super) struct Hashed<'a> {
    pub request: &'a HeaderMap,
    pub info: &'a StreamInfo,
    pub env: &'a Environment,
}

impl Hashed<'_> {
    /// The hash; `None` if no policy finds anything. Cookies that the client is to be given are added to `set_cookies`.
    pub fn hash(&self, policies: &[HashPolicy], set_cookies: &mut Vec<Vec<u8>>) -> Option<u64> {
        let mut hash: Option<u64> = None;
        for policy in policies {
            if let Some(found) = self.of(&policy.input, set_cookies) {
                // Rotated, so that two equal policies do not cancel each other.
                hash = Some(hash.map_or(0, |before| before.rotate_left(1)) ^ found);
            }
            if policy.terminal && hash.is_some() {
                break;
            }
        }
        hash
    }

    fn of(&self, input: &HashInput, set_cookies: &mut Vec<Vec<u8>>) -> Option<u64> {
        match input {
            HashInput::Header(name, rewrite) => {
                let rewritten = |value| match rewrite {
                    Some(rewrite) => Cow::Owned(rewrite.replace_all(value)),
                    None => Cow::Borrowed(value),
                };
                let mut values: Vec<Cow<'_, [u8]>> = self.request.all(name).map(rewritten).collect();
                // Whatever the order of several values is.
                values.sort_unstable();
                (!values.is_empty()).then(|| values.iter().fold(0, |seed, value| hash_bytes(value, seed)))
            }
            HashInput::Cookie(cookie) => {
                let present = cookie_value(self.request, cookie.name.as_bytes()).filter(|value| !value.is_empty());
                match present {
                    Some(value) => Some(hash_bytes(value, 0)),
                    None => self.make_cookie(cookie, set_cookies),
                }
            }
            HashInput::SourceIp => {
                let address = self.info.remote_address.as_ref().unwrap_or(&self.env.info.remote);
                Some(hash_bytes(address.ip()?.to_string().as_bytes(), 0))
            }
            HashInput::QueryParameter(name) => {
                let path = self.request.get(Known::PATH)?;
                query_parameter(path, name.as_bytes()).map(|value| hash_bytes(value, 0))
            }
            HashInput::FilterState(key) => {
                let object = self.info.filter_state.get(key)?;
                object.to_plain().map(|text| hash_bytes(text.as_bytes(), 0))
            }
        }
    }

    /// A cookie for a client that has none. All requests of a connection are given the same.
    fn make_cookie(&self, cookie: &HashCookie, set_cookies: &mut Vec<Vec<u8>>) -> Option<u64> {
        let ttl = cookie.ttl?;
        let ends = format!("{}{}", self.env.info.remote, self.env.info.local);
        let value = format!("{:016x}", hash_bytes(ends.as_bytes(), 0));
        let mut text = format!("{}=\"{value}\"", cookie.name);
        if ttl.as_secs() > 0 {
            text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
        }
        if !cookie.path.is_empty() {
            text.push_str("; Path=");
            text.push_str(&cookie.path);
        }
        for attribute in &cookie.attributes {
            text.push_str("; ");
            text.push_str(&attribute.name);
            if !attribute.value.is_empty() {
                text.push('=');
                text.push_str(&attribute.value);
            }
        }
        text.push_str("; HttpOnly");
        set_cookies.push(text.into_bytes());
        Some(hash_bytes(value.as_bytes(), 0))
    }
}
