//! Replies and requests of scripts.

use super::{Primitives, WAITS, wait_for};
use crate::http::lua::exchange::{Call, Direction, Parts, State};
use bytes::Bytes;
use mlua::{Error, Lua, LuaString, Table, Value};
use nuncio_filter::{ClientError, ClientRequest, ClientResponse, HttpClientHandle, LocalAddress, LocalReply};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_stream_info::details;
use std::time::Duration;

/// The largest answer to a call, bytes.
const MAX_RESPONSE: usize = 16 << 20;

/// Most calls of one coroutine that it does not wait for.
const MAX_DETACHED: usize = 16;

/// Most header lines of a reply or request of a script.
const MAX_LINES: usize = 1_000;

pub(super) fn add(primitives: &Primitives<'_>) -> Result<(), Error> {
    primitives.add("is_request", |_, parts, ()| Ok(parts.side.direction == Direction::Request))?;
    primitives.add("may_respond", |_, parts, ()| {
        Ok((!parts.side.headers_open).then_some("respond() cannot be called if headers have been continued"))
    })?;
    primitives.add("respond", |_, parts, (fields, body): (Table, Option<LuaString>)| {
        Ok(respond(parts, &fields, body).err().map(|refused| refused.to_string()))
    })?;
    primitives.add(
        "call",
        |_, parts, (cluster, fields, body, options): (LuaString, Table, Option<LuaString>, Table)| {
            Ok(call(parts, &cluster, &fields, body, &options).err().map(|refused| refused.to_string()))
        },
    )
}

/// Why a script's wish is not fulfilled.
#[derive(Debug)]
enum Refused {
    Because(&'static str),
    Name(String),
    Internal(Error),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Because(text) => f.write_str(text),
            Refused::Name(name) => write!(f, "'{name}' is not a header name"),
            Refused::Internal(error) => write!(f, "{error}"),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Internal(error)
    }
}

/// The headers of a flat table: name, value, name, value. `host` is `:authority`.
fn headers(fields: &Table) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::new();
    let mut texts = fields.sequence_values::<LuaString>();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        let (name, value) = (name?, value?);
        let text = name.to_string_lossy();
        let known = HeaderName::new(&text).map_err(|_| Refused::Name(text))?;
        let known = if known.known() == Some(Known::HOST) { Known::AUTHORITY.into() } else { known };
        if headers.len() >= MAX_LINES {
            return Err(Refused::Because("too many headers"));
        }
        headers.append(&known, &value.as_bytes());
    }
    Ok(headers)
}

fn respond(parts: &mut Parts, fields: &Table, body: Option<LuaString>) -> Result<(), Refused> {
    if parts.side.state != State::Running {
        return Err(Refused::Because(WAITS));
    }
    let mut headers = headers(fields)?;
    let status = headers.get(Known::STATUS).and_then(|value| std::str::from_utf8(value).ok()?.parse::<u16>().ok());
    let Some(status) = status.filter(|status| (200..600).contains(status)) else {
        return Err(Refused::Because(":status must be between 200-599"));
    };
    if parts.side.direction == Direction::Response {
        return Err(Refused::Because("respond not currently supported in the response path"));
    }
    headers.retain(|name, _| !name.starts_with(':'));
    headers.remove_known(Known::CONTENT_LENGTH);
    headers.remove_known(Known::TRANSFER_ENCODING);
    let body = body.map(|body| Bytes::copy_from_slice(&body.as_bytes())).unwrap_or_default();
    let reply = LocalReply::new(status, body, details::LUA_RESPONSE).with_edit(move |response| {
        for (name, value) in &headers {
            if let Ok(name) = HeaderName::new(name) {
                response.append(&name, value);
            }
        }
    });
    parts.side.reply = Some(reply);
    parts.side.state = State::Responded;
    Ok(())
}

fn call(
    parts: &mut Parts,
    cluster: &LuaString,
    fields: &Table,
    body: Option<LuaString>,
    options: &Table,
) -> Result<(), Refused> {
    let cluster = cluster.to_string_lossy();
    let Some(client) = parts.worker().and_then(|worker| worker.services().get::<HttpClientHandle>()) else {
        return Err(Refused::Because("http calls are not possible here"));
    };
    if !client.0.has_cluster(&cluster) {
        return Err(Refused::Because("http call cluster invalid. Must be configured"));
    }
    let mut headers = headers(fields)?;
    if [Known::PATH, Known::METHOD, Known::AUTHORITY].into_iter().any(|name| !headers.has(name)) {
        return Err(Refused::Because("http call headers must include ':path', ':method', and ':authority'"));
    }
    complete(parts, &mut headers, options.get("send_xff")?);
    let timeout: f64 = options.get("timeout")?;
    let request = ClientRequest {
        cluster: cluster.into(),
        headers,
        body: body.map(|body| Bytes::copy_from_slice(&body.as_bytes())).unwrap_or_default(),
        timeout: (timeout >= 1.0).then(|| Duration::from_millis(timeout as u64)),
        max_response_bytes: MAX_RESPONSE,
    };
    if options.get("asynchronous")? {
        if parts.side.detached.len() >= MAX_DETACHED {
            return Err(Refused::Because("too many asynchronous http calls"));
        }
        parts.side.detached.push(request);
        return Ok(());
    }
    if !wait_for(parts, State::Call) {
        return Err(Refused::Because(WAITS));
    }
    let duplicates = options.get("duplicates")?;
    parts.side.call = Some(Call { client: (*client).clone(), request, duplicates });
    Ok(())
}

/// Adds what Envoy adds to requests of its own.
fn complete(parts: &Parts, headers: &mut HeaderMap, send_xff: bool) {
    headers.remove_known(Known::CONTENT_LENGTH);
    headers.remove_known(Known::TRANSFER_ENCODING);
    if !headers.has(Known::SCHEME) {
        headers.append_known(Known::SCHEME, b"http");
    }
    let address = parts.worker().and_then(|worker| worker.services().get::<LocalAddress>());
    if send_xff && let Some(address) = address {
        let mut addresses =
            headers.joined(&Known::X_FORWARDED_FOR.into()).map(|all| all.into_owned()).unwrap_or_default();
        if !addresses.is_empty() {
            addresses.push(b',');
        }
        addresses.extend_from_slice(address.0.to_string().as_bytes());
        headers.set_known(Known::X_FORWARDED_FOR, &addresses);
    }
}

/// What `httpCall()` returns: a table of headers, and the body unless it is empty.
pub(crate) fn response_values(lua: &Lua, response: &ClientResponse, duplicates: bool) -> Result<(Table, Value), Error> {
    let table = lua.create_table()?;
    for (name, value) in &response.headers {
        let value = lua.create_string(value)?;
        match table.raw_get(name)? {
            Value::Table(values) if duplicates => values.raw_push(value)?,
            Value::String(first) if duplicates => table.raw_set(name, lua.create_sequence_from([first, value])?)?,
            _ => table.raw_set(name, value)?,
        }
    }
    let body = match response.body.is_empty() {
        true => Value::Nil,
        false => Value::String(lua.create_string(&response.body)?),
    };
    Ok((table, body))
}

/// The response that stands for a failure: what Envoy's router answers.
pub(crate) fn failure_response(error: &ClientError) -> ClientResponse {
    const BEFORE_HEADERS: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
    let (status, body) = match error {
        ClientError::Timeout => (504, "upstream request timeout".to_owned()),
        ClientError::NoHealthyHost => (503, "no healthy upstream".to_owned()),
        ClientError::Overflow => (503, format!("{BEFORE_HEADERS}overflow")),
        ClientError::Reset(reason) => (503, format!("{BEFORE_HEADERS}{reason}")),
        ClientError::NoCluster | ClientError::ResponseTooLarge => (503, "upstream failure".to_owned()),
    };
    let mut headers = HeaderMap::new();
    headers.append_known(Known::STATUS, itoa(status).as_bytes());
    headers.append_known(Known::CONTENT_LENGTH, itoa(body.len()).as_bytes());
    headers.append_known(Known::CONTENT_TYPE, b"text/plain");
    ClientResponse { headers, body: body.into(), trailers: HeaderMap::new() }
}

fn itoa(number: usize) -> String {
    number.to_string()
}
