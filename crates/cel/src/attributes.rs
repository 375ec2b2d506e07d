//! Envoy's attributes: the names that expressions know.

use crate::eval::Scope;
use crate::value::{Object, Value};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_matcher::path_only;
use nuncio_stream_info::{
    self as info, Address, CertificateNames, ConnectionInfo, FieldValue, FilterStateObject, StreamInfo, TimePoint,
    TlsInfo,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

type Field<'a> = Option<Value<'a>>;

impl<'a> Scope<'a> {
    fn info(self) -> &'a StreamInfo {
        self.context.info
    }

    /// The attribute or type of a name.
    pub(crate) fn attribute(self, name: &str) -> Field<'a> {
        Some(Value::Object(match name {
            "request" => Object::Request,
            "response" => Object::Response,
            "connection" => Object::Connection(self.info().connection.as_deref()?),
            "source" => Object::Source,
            "destination" => Object::Destination,
            "upstream" => Object::Upstream,
            "xds" => Object::Xds,
            "metadata" => Object::Metadata(self.info().dynamic_metadata()),
            "filter_state" => Object::FilterState(&self.info().filter_state),
            "upstream_filter_state" => Object::FilterState(&self.info().upstream.filter_state),
            "bool" | "int" | "uint" | "double" | "string" | "bytes" | "list" | "map" | "null_type" | "type" => {
                const TYPES: [&str; 10] =
                    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];
                return TYPES.iter().find(|known| **known == name).map(|known| Value::Type(known));
            }
            _ => return None,
        }))
    }

    /// The field of an object.
    pub(crate) fn object_field(self, object: &Object<'a>, name: &[u8]) -> Field<'a> {
        let text = || std::str::from_utf8(name).ok();
        match object {
            Object::Request => self.request(text()?),
            Object::Response => self.response(text()?),
            Object::Connection(connection) => self.connection(connection, text()?),
            Object::Source => address(self.info().remote()?, text()?),
            Object::Destination => address(&self.info().connection.as_deref()?.local, text()?),
            Object::Upstream => self.upstream(text()?),
            Object::Xds => self.xds(text()?),
            Object::Headers(headers) => header(headers, name),
            Object::Metadata(metadata) => {
                (name == b"filter_metadata").then_some(Value::Object(Object::Namespaces(*metadata)))
            }
            Object::Namespaces(metadata) => {
                (*metadata)?.namespace(text()?).map(|fields| Value::Object(Object::Struct(fields)))
            }
            Object::Struct(fields) => fields.get(text()?).map(Value::plain),
            Object::FilterState(state) => state.get(text()?).map(of_state),
            Object::State(object) => state_field(object, text()?),
        }
    }

    fn request(self, name: &str) -> Field<'a> {
        let info = self.info();
        let headers = self.context.request;
        let known = |name: Known| headers?.get(name).map(bytes);
        match name {
            "headers" => Some(Value::Object(Object::Headers(headers?))),
            "path" => known(Known::PATH),
            "url_path" => headers?.get(Known::PATH).map(|path| bytes(path_only(path))),
            "query" => headers?.get(Known::PATH).map(|path| bytes(query(path))),
            "host" => known(Known::AUTHORITY),
            "scheme" => known(Known::SCHEME),
            "method" => known(Known::METHOD),
            "referer" => known(Known::REFERER),
            "useragent" => known(Known::USER_AGENT),
            "id" => known(Known::X_REQUEST_ID),
            "protocol" => info.protocol.map(|protocol| Value::text(protocol.as_str())),
            "time" => {
                let since = info.start_wall.duration_since(UNIX_EPOCH).ok()?;
                Some(Value::Timestamp(i128::try_from(since.as_nanos()).ok()?))
            }
            "duration" => {
                let end = info.end?;
                i64::try_from(end.saturating_duration_since(info.start).as_nanos()).ok().map(Value::Duration)
            }
            "size" => {
                let length = headers.and_then(|headers| number(headers.get(Known::CONTENT_LENGTH)?));
                Some(count(length.unwrap_or(info.bytes_received)))
            }
            "total_size" => {
                let head = headers.map_or(0, HeaderMap::byte_size) as u64;
                Some(count(info.bytes_received.saturating_add(head)))
            }
            _ => None,
        }
    }

    fn response(self, name: &str) -> Field<'a> {
        let info = self.info();
        match name {
            "code" => info.response_code.map(|code| Value::Int(i64::from(code))),
            "code_details" => some_text(&info.details),
            "flags" => Some(Value::Int(i64::from(info.flags.bits()))),
            "headers" => self.context.response.map(|headers| Value::Object(Object::Headers(headers))),
            "trailers" => self.context.trailers.map(|headers| Value::Object(Object::Headers(headers))),
            "size" => Some(count(info.bytes_sent)),
            "total_size" => {
                let heads = [self.context.response, self.context.trailers];
                let heads: usize = heads.into_iter().flatten().map(HeaderMap::byte_size).sum();
                Some(count(info.bytes_sent.saturating_add(heads as u64)))
            }
            "grpc_status" => {
                let of = |headers: Option<&HeaderMap>| number(headers?.get(Known::GRPC_STATUS)?);
                let status = of(self.context.trailers).or_else(|| of(self.context.response));
                let status = status.or_else(|| info.response_code.map(grpc_status));
                status.map(count)
            }
            "backend_latency" => {
                let latency = info.timing.between(TimePoint::UpstreamTxBegin, TimePoint::UpstreamRxEnd)?;
                i64::try_from(latency.as_nanos()).ok().map(Value::Duration)
            }
            _ => None,
        }
    }

    fn connection(self, connection: &'a ConnectionInfo, name: &str) -> Field<'a> {
        let info = self.info();
        match name {
            "id" => Some(Value::Uint(connection.id)),
            "mtls" => Some(Value::Bool(connection.tls.as_ref().is_some_and(|tls| tls.peer_presented))),
            "requested_server_name" => Some(Value::text(connection.sni.as_deref().unwrap_or_default())),
            "termination_details" => some_text(&info.termination_details),
            "transport_failure_reason" => some_text(info.downstream_transport_failure_reason.as_deref()?),
            _ => certificate(connection.tls.as_deref()?, name),
        }
    }

    fn upstream(self, name: &str) -> Field<'a> {
        let upstream = &self.info().upstream;
        let of = |address: &Address, port: bool| match port {
            false => Some(Value::Text(Cow::Owned(address.to_string().into_bytes()))),
            true => address.port().map(|port| Value::Int(i64::from(port))),
        };
        match name {
            "address" => of(&upstream.host()?.address, false),
            "port" => of(&upstream.host()?.address, true),
            "local_address" => of(upstream.local_address.as_ref()?, false),
            "transport_failure_reason" => some_text(upstream.transport_failure_reason.as_deref()?),
            "request_attempt_count" => Some(Value::Uint(u64::from(upstream.attempts))),
            "cx_pool_ready_duration" => i64::try_from(upstream.pool_ready?.as_nanos()).ok().map(Value::Duration),
            "locality" => {
                let locality = &upstream.host()?.locality;
                let entry = |name, text: &'a Arc<str>| (Value::text(name), Value::text(text));
                let fields = vec![
                    entry("region", &locality.region),
                    entry("zone", &locality.zone),
                    entry("sub_zone", &locality.sub_zone),
                ];
                Some(Value::Map(fields))
            }
            _ => certificate(upstream.tls.as_deref()?, name),
        }
    }

    fn xds(self, name: &str) -> Field<'a> {
        let info = self.info();
        let connection = info.connection.as_deref();
        let metadata = |metadata: &'a Option<Arc<_>>| Value::Object(Object::Metadata(metadata.as_deref()));
        match name {
            "cluster_name" => Some(Value::text(&info.upstream.cluster.as_ref()?.name)),
            "cluster_metadata" => Some(metadata(&info.upstream.cluster.as_ref()?.metadata)),
            "route_name" => Some(Value::text(&info.route.as_ref()?.name)),
            "route_metadata" => Some(metadata(&info.route.as_ref()?.metadata)),
            "virtual_host_name" => Some(Value::text(&info.route.as_ref()?.virtual_host.name)),
            "virtual_host_metadata" => Some(metadata(&info.route.as_ref()?.virtual_host.metadata)),
            "upstream_host_metadata" => Some(metadata(&info.upstream.host()?.metadata)),
            "filter_chain_name" => Some(Value::text(connection?.filter_chain_name.as_deref().unwrap_or_default())),
            "listener_metadata" => Some(metadata(&connection?.listener_metadata)),
            _ => None,
        }
    }
}

fn bytes(bytes: &[u8]) -> Value<'_> {
    Value::Text(Cow::Borrowed(bytes))
}

fn count<'a>(count: u64) -> Value<'a> {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn some_text(text: &str) -> Field<'_> {
    (!text.is_empty()).then(|| Value::text(text))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn query(path: &[u8]) -> &[u8] {
    let path = path.split(|byte| *byte == b'#').next().unwrap_or_default();
    match path.iter().position(|byte| *byte == b'?') {
        Some(at) => path.get(at + 1..).unwrap_or_default(),
        None => b"",
    }
}

/// The gRPC status that stands for an HTTP status.
fn grpc_status(code: u16) -> u64 {
    match code {
        200 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &[u8]) -> Field<'a> {
    let name = HeaderName::new(std::str::from_utf8(name).ok()?).ok()?;
    headers.joined(&name).map(Value::Text)
}

fn address<'a>(address: &'a Address, name: &str) -> Field<'a> {
    match name {
        "address" => Some(Value::Text(Cow::Owned(address.to_string().into_bytes()))),
        "port" => address.port().map(|port| Value::Int(i64::from(port))),
        _ => None,
    }
}

fn certificate<'a>(tls: &'a TlsInfo, name: &str) -> Field<'a> {
    let first = |names: &'a [Arc<str>]| names.first().map(|name| Value::text(name));
    let text = |text: &'a Option<Arc<str>>| text.as_deref().and_then(some_text);
    let CertificateNames { subject: local_subject, uri: local_uri, dns: local_dns, .. } = &tls.local;
    let CertificateNames { subject, uri, dns, .. } = &tls.peer;
    match name {
        "tls_version" => text(&tls.version),
        "subject_local_certificate" => text(local_subject),
        "subject_peer_certificate" => text(subject),
        "dns_san_local_certificate" => first(local_dns),
        "dns_san_peer_certificate" => first(dns),
        "uri_san_local_certificate" => first(local_uri),
        "uri_san_peer_certificate" => first(uri),
        "sha256_peer_certificate_digest" => text(&tls.peer_fingerprint_256),
        _ => None,
    }
}

/// An object of the filter state: one without fields is its bytes.
fn of_state<'a>(object: Arc<dyn FilterStateObject>) -> Value<'a> {
    let plain = object.to_plain().map(|text| text.as_bytes().to_vec());
    match plain {
        Some(text) if object.to_typed().is_none_or(|typed| typed.as_str().is_some()) => Value::Bytes(text.into()),
        _ => Value::Object(Object::State(object)),
    }
}

fn state_field<'a>(object: &Arc<dyn FilterStateObject>, name: &str) -> Field<'a> {
    match object.field(name) {
        Some(FieldValue::Text(text)) => Some(Value::Text(Cow::Owned(text.as_bytes().to_vec()))),
        Some(FieldValue::Number(number)) => Some(Value::Int(number)),
        None => match object.to_typed()? {
            info::Value::Struct(fields) => fields.get(name).map(Value::owned),
            _ => None,
        },
    }
}
