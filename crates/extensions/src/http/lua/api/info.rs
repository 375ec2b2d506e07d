//! Facts of the stream and its connection, filter state, logging.

use super::{Primitives, charge, tell_once};
use crate::http::lua::exchange::{Direction, Parts};
use mlua::{Error, Lua, LuaString, Value};
use nuncio_stream_info::{Address, FieldValue, LifeSpan, Mutability, PlainString, Sharing, TlsInfo};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Methods of `streamInfo()` without arguments that return a text.
const INFO_NAMES: [&str; 8] = [
    "protocol",
    "routeName",
    "virtualClusterName",
    "downstreamDirectLocalAddress",
    "downstreamLocalAddress",
    "downstreamDirectRemoteAddress",
    "downstreamRemoteAddress",
    "requestedServerName",
];

/// Methods of the connection's TLS object.
const SSL_NAMES: [&str; 17] = [
    "peerCertificatePresented",
    "peerCertificateValidated",
    "uriSanLocalCertificate",
    "sha256PeerCertificateDigest",
    "serialNumberPeerCertificate",
    "issuerPeerCertificate",
    "subjectPeerCertificate",
    "uriSanPeerCertificate",
    "subjectLocalCertificate",
    "urlEncodedPemEncodedPeerCertificate",
    "dnsSansPeerCertificate",
    "dnsSansLocalCertificate",
    "validFromPeerCertificate",
    "expirationPeerCertificate",
    "sessionId",
    "ciphersuiteString",
    "tlsVersion",
];

/// The factory of text in the filter state, by Envoy's name.
const STRING_FACTORY: &str = "envoy.string";

pub(super) fn add(primitives: &Primitives<'_>) -> Result<(), Error> {
    let table = &primitives.table;
    table.raw_set("info_names", primitives.lua.create_sequence_from(INFO_NAMES)?)?;
    table.raw_set("ssl_names", primitives.lua.create_sequence_from(SSL_NAMES)?)?;
    primitives.add("info", |lua, parts, name: LuaString| lua.create_string(info(parts, &name.to_string_lossy())))?;
    primitives.add("ssl", |lua, parts, name: Option<LuaString>| {
        let connection = parts.info.connection.clone();
        let Some(tls) = connection.as_ref().and_then(|connection| connection.tls.as_ref()) else {
            return Ok(Value::Nil);
        };
        match name {
            None => Ok(Value::Boolean(true)),
            Some(name) => ssl(lua, tls, &name.to_string_lossy()),
        }
    })?;
    primitives.add("filter_state", |lua, parts, (name, field): (LuaString, Option<LuaString>)| {
        let text = filter_state(parts, &name.to_string_lossy(), field.map(|field| field.to_string_lossy()).as_deref());
        text.map(|text| lua.create_string(text)).transpose()
    })?;
    primitives.add("set_filter_state", |_, parts, (name, factory, value): (LuaString, LuaString, LuaString)| {
        if factory.to_string_lossy() != STRING_FACTORY {
            return Ok(Some(format!("'{}' does not have an object factory", factory.to_string_lossy())));
        }
        if let Some(refused) = charge(parts, name.as_bytes().len() + value.as_bytes().len()) {
            return Ok(Some(refused));
        }
        let object = Arc::new(PlainString(value.to_string_lossy().into()));
        let (mutability, span, sharing) = (Mutability::Mutable, LifeSpan::FilterChain, Sharing::None);
        let set = parts.info.filter_state.set(name.to_string_lossy(), object, mutability, span, sharing);
        Ok(set.err().map(|error| error.to_string()))
    })?;
    primitives.add("clear_route", |_, parts, ()| {
        if parts.side.direction == Direction::Request {
            parts.clear_route();
        }
        Ok(())
    })?;
    let shared = Rc::clone(primitives.shared);
    primitives.add("drain", move |_, _, ()| {
        tell_once(&shared, 2, "drainConnectionUponCompletion()");
        Ok(())
    })?;
    primitives.add("time", |_, parts, per_second: f64| {
        let now = parts.worker().map_or(UNIX_EPOCH, |worker| worker.wall());
        let micros = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        Ok((micros as f64 * per_second / 1e6).floor())
    })?;
    let budget = Rc::clone(&primitives.shared.budget);
    primitives.free("log", move |_, (level, message): (u8, LuaString)| {
        let refused = budget.line(message.as_bytes().len());
        if refused.is_none() {
            log(level, &message.to_string_lossy());
        }
        Ok(refused)
    })
}

/// `level`: 1 (trace) to 6 (critical, which is an error in this program's logs).
fn log(level: u8, message: &str) {
    match level {
        1 => tracing::trace!(target: "lua", "script log: {message}"),
        2 => tracing::debug!(target: "lua", "script log: {message}"),
        3 => tracing::info!(target: "lua", "script log: {message}"),
        4 => tracing::warn!(target: "lua", "script log: {message}"),
        _ => tracing::error!(target: "lua", "script log: {message}"),
    }
}

fn info(parts: &mut Parts, name: &str) -> String {
    let text = |address: Option<&Address>| address.map(Address::to_string).unwrap_or_default();
    let connection = parts.info.connection.clone();
    let connection = connection.as_deref();
    match name {
        "protocol" => parts.info.protocol.map_or("", |protocol| protocol.as_str()).to_owned(),
        "routeName" => {
            let route = parts.info.route.as_ref();
            route.map(|route| route.name.to_string()).unwrap_or_default()
        }
        "virtualClusterName" => parts.info.virtual_cluster_name.as_deref().unwrap_or_default().to_owned(),
        "downstreamDirectLocalAddress" => text(connection.map(|connection| &connection.direct_local)),
        "downstreamLocalAddress" => text(connection.map(|connection| &connection.local)),
        "downstreamDirectRemoteAddress" => text(connection.map(|connection| &connection.remote)),
        "downstreamRemoteAddress" => text(parts.info.remote()),
        "requestedServerName" => {
            connection.and_then(|connection| connection.sni.as_deref()).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

fn ssl(lua: &Lua, tls: &TlsInfo, name: &str) -> Result<Value, Error> {
    let text = |text: &Option<Arc<str>>| lua.create_string(text.as_deref().unwrap_or_default()).map(Value::String);
    let texts = |all: &[Arc<str>]| lua.create_sequence_from(all.iter().map(|one| &**one)).map(Value::Table);
    match name {
        "peerCertificatePresented" => Ok(Value::Boolean(tls.peer_fingerprint_256.is_some())),
        // A certificate that was not valid ended the handshake.
        "peerCertificateValidated" => Ok(Value::Boolean(tls.peer_fingerprint_256.is_some())),
        "uriSanLocalCertificate" => texts(&tls.local.uri),
        "sha256PeerCertificateDigest" => text(&tls.peer_fingerprint_256),
        "serialNumberPeerCertificate" => text(&tls.peer_serial),
        "issuerPeerCertificate" => text(&tls.peer_issuer),
        "subjectPeerCertificate" => text(&tls.peer.subject),
        "uriSanPeerCertificate" => texts(&tls.peer.uri),
        "subjectLocalCertificate" => text(&tls.local.subject),
        "urlEncodedPemEncodedPeerCertificate" => text(&tls.peer_certificate),
        "dnsSansPeerCertificate" => texts(&tls.peer.dns),
        "dnsSansLocalCertificate" => texts(&tls.local.dns),
        "validFromPeerCertificate" => Ok(Value::Number(seconds(tls.peer_valid_from))),
        "expirationPeerCertificate" => Ok(Value::Number(seconds(tls.peer_valid_until))),
        "sessionId" => text(&tls.session_id),
        "ciphersuiteString" => text(&tls.cipher),
        "tlsVersion" => text(&tls.version),
        _ => Ok(Value::Nil),
    }
}

fn seconds(time: Option<SystemTime>) -> f64 {
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0.0, |since| since.as_secs() as f64)
}

fn filter_state(parts: &Parts, name: &str, field: Option<&str>) -> Option<String> {
    let object = parts.info.filter_state.get(name)?;
    match field {
        None => object.to_plain().map(|text| text.into_owned()),
        Some(field) => match object.field(field)? {
            FieldValue::Text(text) => Some(text.into_owned()),
            FieldValue::Number(number) => Some(number.to_string()),
        },
    }
}
