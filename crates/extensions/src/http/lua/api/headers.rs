//! Header maps.

use super::{Primitives, tell_once};
use crate::http::lua::exchange::{Direction, Parts};
use mlua::{Error, Lua, LuaString};
use nuncio_headers::{HeaderMap, HeaderName, Known, KnownSet};
use std::rc::Rc;

/// `OWN`, `TRAILERS` and `REQUEST` of `handle.lua`.
const TRAILERS: u8 = 1;
const REQUEST: u8 = 2;

/// Request headers to whose value Envoy appends, with `,`, where it adds a line to others.
const JOINED_IN_REQUESTS: KnownSet = KnownSet::of(&[
    Known::METHOD,
    Known::PATH,
    Known::AUTHORITY,
    Known::SCHEME,
    Known::PROTOCOL,
    Known::ACCEPT,
    Known::ACCEPT_ENCODING,
    Known::ACCESS_CONTROL_REQUEST_METHOD,
    Known::AUTHORIZATION,
    Known::CACHE_CONTROL,
    Known::CONNECTION,
    Known::CONTENT_ENCODING,
    Known::CONTENT_LENGTH,
    Known::CONTENT_TYPE,
    Known::EXPECT,
    Known::GRPC_TIMEOUT,
    Known::IF_MODIFIED_SINCE,
    Known::IF_NONE_MATCH,
    Known::KEEP_ALIVE,
    Known::ORIGIN,
    Known::PROXY_CONNECTION,
    Known::REFERER,
    Known::TE,
    Known::TRANSFER_ENCODING,
    Known::UPGRADE,
    Known::USER_AGENT,
    Known::VIA,
    Known::X_CLIENT_TRACE_ID,
    Known::X_ENVOY_ATTEMPT_COUNT,
    Known::X_ENVOY_DECORATOR_OPERATION,
    Known::X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER,
    Known::X_ENVOY_DOWNSTREAM_SERVICE_NODE,
    Known::X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
    Known::X_ENVOY_EXTERNAL_ADDRESS,
    Known::X_ENVOY_FORCE_TRACE,
    Known::X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
    Known::X_ENVOY_INTERNAL,
    Known::X_ENVOY_IP_TAGS,
    Known::X_ENVOY_MAX_RETRIES,
    Known::X_ENVOY_ORIGINAL_HOST,
    Known::X_ENVOY_ORIGINAL_PATH,
    Known::X_ENVOY_RETRIABLE_HEADER_NAMES,
    Known::X_ENVOY_RETRIABLE_STATUS_CODES,
    Known::X_ENVOY_RETRY_GRPC_ON,
    Known::X_ENVOY_RETRY_ON,
    Known::X_ENVOY_UPSTREAM_ALT_STAT_NAME,
    Known::X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
    Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
    Known::X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
    Known::X_ENVOY_UPSTREAM_STREAM_DURATION_MS,
    Known::X_FORWARDED_CLIENT_CERT,
    Known::X_FORWARDED_FOR,
    Known::X_FORWARDED_HOST,
    Known::X_FORWARDED_PORT,
    Known::X_FORWARDED_PROTO,
    Known::X_REQUEST_ID,
]);

/// Most headers of a map that a script adds to: what it may look at in a loop stays small.
const MAX_HEADERS: usize = 4096;

/// The same of responses.
const JOINED_IN_RESPONSES: KnownSet = KnownSet::of(&[
    Known::STATUS,
    Known::ACCESS_CONTROL_ALLOW_ORIGIN,
    Known::AGE,
    Known::CACHE_CONTROL,
    Known::CONNECTION,
    Known::CONTENT_ENCODING,
    Known::CONTENT_LENGTH,
    Known::CONTENT_TYPE,
    Known::DATE,
    Known::ETAG,
    Known::GRPC_MESSAGE,
    Known::GRPC_STATUS,
    Known::KEEP_ALIVE,
    Known::LOCATION,
    Known::PROXY_CONNECTION,
    Known::SERVER,
    Known::TRANSFER_ENCODING,
    Known::UPGRADE,
    Known::VARY,
    Known::VIA,
    Known::X_ENVOY_ATTEMPT_COUNT,
    Known::X_ENVOY_DECORATOR_OPERATION,
    Known::X_ENVOY_DEGRADED,
    Known::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL,
    Known::X_ENVOY_RATELIMITED,
    Known::X_ENVOY_UPSTREAM_CANARY,
    Known::X_ENVOY_UPSTREAM_SERVICE_TIME,
    Known::X_REQUEST_ID,
]);

pub(super) fn add(primitives: &Primitives<'_>) -> Result<(), Error> {
    primitives.add("header_add", |_, parts, (at, name, value): (u8, LuaString, LuaString)| {
        Ok(write(parts, at, &name.as_bytes(), &value.as_bytes(), true))
    })?;
    primitives.add("header_replace", |_, parts, (at, name, value): (u8, LuaString, LuaString)| {
        Ok(write(parts, at, &name.as_bytes(), &value.as_bytes(), false))
    })?;
    primitives.add("header_remove", |_, parts, (at, name): (u8, LuaString)| {
        if let Some(refused) = refuse(parts, at) {
            return Ok(Some(refused));
        }
        if let Some(name) = name_of(parts, at, &name.as_bytes()) {
            map(parts, at)?.remove(&name);
        }
        Ok(None)
    })?;
    let shared = Rc::clone(primitives.shared);
    primitives.add("reason_phrase", move |_, parts, (at, _): (u8, LuaString)| {
        tell_once(&shared, 1, "setHttp1ReasonPhrase()");
        Ok(refuse(parts, at))
    })?;
    readers(primitives)
}

fn readers(primitives: &Primitives<'_>) -> Result<(), Error> {
    primitives.add("header_get", |lua, parts, (at, name): (u8, LuaString)| {
        let Some(name) = name_of(parts, at, &name.as_bytes()) else { return Ok(None) };
        map(parts, at)?.joined(&name).map(|value| lua.create_string(value)).transpose()
    })?;
    primitives.add("header_at", |lua, parts, (at, name, index): (u8, LuaString, f64)| {
        let Some(name) = name_of(parts, at, &name.as_bytes()) else { return Ok(None) };
        if index.is_nan() || index < 0.0 {
            return Ok(None);
        }
        map(parts, at)?.all(&name).nth(index as usize).map(|value| lua.create_string(value)).transpose()
    })?;
    primitives.add("header_count", |_, parts, (at, name): (u8, LuaString)| {
        let Some(name) = name_of(parts, at, &name.as_bytes()) else { return Ok(0) };
        Ok(map(parts, at)?.all(&name).count())
    })?;
    primitives.add("header_entry", |lua: &Lua, parts, (at, index): (u8, usize)| {
        match map(parts, at)?.iter().nth(index) {
            Some((name, value)) => Ok((Some(lua.create_string(name)?), Some(lua.create_string(value)?))),
            None => Ok((None, None)),
        }
    })
}

/// The map that a script's object stands for.
fn map(parts: &mut Parts, at: u8) -> Result<&mut HeaderMap, Error> {
    let direction = parts.side.direction;
    let stream = parts.stream().ok_or_else(|| Error::runtime(super::OUT_OF_SCOPE))?;
    Ok(match (at, direction) {
        (REQUEST, _) => stream.request,
        (TRAILERS, Direction::Request) => stream.request_trailers,
        (TRAILERS, Direction::Response) => stream.response_trailers,
        (_, Direction::Request) => stream.request,
        (_, Direction::Response) => stream.response,
    })
}

/// Whether a map is that of a request's head.
fn is_request_head(parts: &Parts, at: u8) -> bool {
    at == REQUEST || (at != TRAILERS && parts.side.direction == Direction::Request)
}

/// The name of a header; in a request, `host` is another name of `:authority`. `None` if no header can have it.
fn name_of(parts: &Parts, at: u8, name: &[u8]) -> Option<HeaderName> {
    let name = HeaderName::new(std::str::from_utf8(name).ok()?).ok()?;
    if name.known() == Some(Known::HOST) && is_request_head(parts, at) {
        return Some(Known::AUTHORITY.into());
    }
    Some(name)
}

/// Why a map can't be changed. Changing the head of a request makes its route stale, unless configuration says otherwise.
fn refuse(parts: &mut Parts, at: u8) -> Option<String> {
    let own_head = at != TRAILERS && at != REQUEST;
    if own_head && !parts.side.headers_open {
        return Some("header map can no longer be modified".to_owned());
    }
    let clears = parts.side.config.as_ref().is_some_and(|config| config.clear_route_cache);
    if own_head && clears && parts.side.direction == Direction::Request {
        parts.clear_route();
    }
    None
}

/// Gives a header a value: another one, or the only one. Says what prevents it.
fn write(parts: &mut Parts, at: u8, name: &[u8], value: &[u8], add: bool) -> Option<String> {
    if let Some(refused) = refuse(parts, at) {
        return Some(refused);
    }
    let Some(known) = name_of(parts, at, name) else {
        return Some(format!("'{}' is not a header name", String::from_utf8_lossy(name)));
    };
    let joined = if is_request_head(parts, at) { JOINED_IN_REQUESTS } else { JOINED_IN_RESPONSES };
    let joins = add && known.known().is_some_and(|known| joined.contains(known));
    let Ok(map) = map(parts, at) else { return Some(super::OUT_OF_SCOPE.to_owned()) };
    if add && map.len() >= MAX_HEADERS {
        return Some(format!("script writes more than {MAX_HEADERS} headers"));
    }
    let present = joins.then(|| map.joined(&known)).flatten().map(|present| present.into_owned());
    let size = name.len() + value.len() + present.as_ref().map_or(0, Vec::len);
    if let Some(refused) = super::charge(parts, size) {
        return Some(refused);
    }
    let Ok(map) = self::map(parts, at) else { return Some(super::OUT_OF_SCOPE.to_owned()) };
    match present {
        Some(present) => map.set_with(&known, |out| {
            out.extend_from_slice(&present);
            out.push(b',');
            out.extend_from_slice(value);
        }),
        None if add => map.append(&known, value),
        None => map.set(&known, value),
    }
    None
}
