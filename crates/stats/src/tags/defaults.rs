//! The tags that Envoy extracts by default. Only the order among rules without a first segment, and among those
//! with the same one, matters: it is the order of tags in the Prometheus output.

use std::ops::Range;

use super::{Find, Found};

/// Rules by code: tag, the first segment of names that they are for (none: any), code. They go before
/// [`SEGMENTS`].
pub(super) const FIND: &[(&str, Option<&str>, Find)] = &[
    ("envoy.response_code", None, response_code),
    ("envoy.response_code_class", None, response_code_class),
    ("envoy.ssl_cipher", Some("listener"), ssl_cipher),
    ("envoy.ssl_curve", None, ssl_curve),
    ("envoy.ssl_sigalg", None, ssl_sigalg),
    ("envoy.ssl_version", None, ssl_version),
    ("envoy.tls_certificate", None, tls_certificate),
    ("cipher_suite", Some("cluster"), cluster_cipher),
    ("envoy.health_check_name", Some("cluster"), health_check_name),
    ("envoy.http_conn_manager_prefix", Some("listener"), listener_http),
    ("envoy.worker_id", None, worker_id),
    ("envoy.listener_address", Some("listener"), listener_address),
    ("envoy.rds_route_config", Some("http"), rds),
    ("envoy.scoped_rds_config", Some("http"), scoped_rds),
    ("envoy.rbac_policy_name", Some("http"), rbac_policy),
    ("envoy.rbac_http_prefix", Some("http"), rbac_http),
    ("envoy.proxy_protocol_version", Some("proxy_proto"), proxy_version),
    ("envoy.proxy_protocol_prefix", Some("proxy_proto"), proxy_prefix),
    ("envoy.xds_resource_name", Some("sds"), sds),
];

/// Rules by segments.
pub(super) const SEGMENTS: &[(&str, &str)] = &[
    ("envoy.mongo_callsite", "mongo.*.collection.*.callsite.$.query.**"),
    ("envoy.mongo_collection", "mongo.*.collection.$.**.query.*"),
    ("envoy.mongo_cmd", "mongo.*.cmd.$.**"),
    ("envoy.grpc_bridge_method", "cluster.*.grpc.*.$.**"),
    ("envoy.http_user_agent", "http.*.user_agent.$.**"),
    ("envoy.virtual_cluster", "vhost.*.vcluster.$.**"),
    ("envoy.fault_downstream_cluster", "http.*.fault.$.**"),
    ("envoy.grpc_bridge_service", "cluster.*.grpc.$.**"),
    ("envoy.tcp_prefix", "tcp.$.**"),
    ("envoy.udp_prefix", "udp.$.**"),
    ("envoy.clientssl_prefix", "auth.clientssl.$.**"),
    ("envoy.ratelimit_prefix", "ratelimit.$.**"),
    ("envoy.cluster_name", "cluster.$.**"),
    ("envoy.ext_authz_prefix", "cluster.*.ext_authz.$.**"),
    ("envoy.ext_authz_prefix", "http.*.ext_authz.$.**"),
    ("envoy.http_conn_manager_prefix", "http.$.**"),
    ("envoy.virtual_host", "vhost.$.**"),
    ("envoy.mongo_prefix", "mongo.$.**"),
    ("envoy.route", "vhost.*.route.$.**"),
    ("envoy.thrift_prefix", "thrift.$.**"),
    ("envoy.redis_prefix", "redis.$.**"),
    ("envoy.local_http_ratelimit_prefix", "$.http_local_rate_limit.**"),
    ("envoy.local_network_ratelimit_prefix", "local_rate_limit.$.**"),
    ("envoy.local_listener_ratelimit_prefix", "listener_local_ratelimit.$.**"),
    ("envoy.dns_filter_prefix", "dns_filter.$.**"),
    ("envoy.connection_limit_prefix", "connection_limit.$.**"),
    ("envoy.rbac_prefix", "$.rbac.**"),
];

/// A segment of `name` that starts at `at` and ends before a dot; not empty.
fn segment(name: &str, at: usize) -> Option<Range<usize>> {
    let length = name.get(at..)?.find('.')?;
    (length > 0).then_some(at..at + length)
}

/// Cuts the value and the dot behind it.
fn with_dot_behind(value: Range<usize>) -> Found {
    Found { cut: value.start..value.end + 1, value }
}

/// Cuts the value, which ends the name, and the dot before it.
fn last_segment(name: &str, at: usize) -> Found {
    Found { cut: at.saturating_sub(1)..name.len(), value: at..name.len() }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `…_rq_<code>`; `_<code>` goes.
pub(crate) fn response_code(name: &str) -> Option<Found> {
    let (head, code) = name.split_at_checked(name.len().checked_sub(3)?)?;
    let digits = code.bytes().all(|byte| byte.is_ascii_digit());
    (digits && head.ends_with("_rq_")).then(|| last_segment(name, head.len()))
}

/// `…_rq_<class>xx`; the digit goes, so that `…_rq_xx` is left.
pub(crate) fn response_code_class(name: &str) -> Option<Found> {
    let head = name.strip_suffix("xx")?;
    let at = head.len().checked_sub(1)?;
    let value = at..head.len();
    let digit = head.as_bytes().get(at)?.is_ascii_digit();
    (digit && head.get(..at)?.ends_with("_rq_")).then(|| Found { cut: value.clone(), value })
}

/// Where `marker`, which starts with a dot, is in a name. Cheaper than a general search: names have few dots.
fn find(name: &str, marker: &str) -> Option<usize> {
    let (name, marker) = (name.as_bytes(), marker.as_bytes());
    // The second byte tells most dots apart from the one that is looked for.
    let second = marker.get(1);
    let candidate = |&at: &usize| name.get(at) == Some(&b'.') && name.get(at + 1) == second;
    let mut candidates = (0..name.len()).filter(candidate);
    candidates.find(|&at| name.get(at..).is_some_and(|tail| tail.starts_with(marker)))
}

/// `<owner>.….<marker><value>`, where the value is `length` bytes at the end of the name.
fn ssl(name: &str, owners: &[&str], marker: &str, length: usize) -> Option<Found> {
    let at = name.len().checked_sub(length)?;
    let marked = name.get(..at)?.ends_with(marker);
    (marked && owners.iter().any(|owner| name.starts_with(owner))).then(|| last_segment(name, at))
}

/// The same with a value of letters, digits, `_` and `-`.
fn ssl_word(name: &str, owners: &[&str], marker: &str) -> Option<Found> {
    let (_, value) = name.rsplit_once('.')?;
    let found = ssl(name, owners, marker, value.len())?;
    let valid = !value.is_empty() && value.bytes().all(|byte| is_word(byte) || byte == b'-');
    valid.then_some(found)
}

const LISTENER_OR_CLUSTER: &[&str] = &["listener.", "cluster."];

/// `listener.<address>.ssl.ciphers.<cipher>`
fn ssl_cipher(name: &str) -> Option<Found> {
    ssl_word(name, &["listener."], ".ssl.ciphers.")
}

/// `cluster.<name>.ssl.ciphers.<cipher>`
fn cluster_cipher(name: &str) -> Option<Found> {
    let cluster = segment(name, "cluster.".len())?;
    let direct = name.get(cluster.end..)?.starts_with(".ssl.ciphers.");
    ssl_word(name, &["cluster."], ".ssl.ciphers.").filter(|_| direct)
}

/// `listener.<address>.ssl.curves.<curve>`, and the same for clusters
fn ssl_curve(name: &str) -> Option<Found> {
    ssl_word(name, LISTENER_OR_CLUSTER, ".ssl.curves.")
}

/// `listener.<address>.ssl.sigalgs.<algorithm>`, and the same for clusters
fn ssl_sigalg(name: &str) -> Option<Found> {
    ssl_word(name, LISTENER_OR_CLUSTER, ".ssl.sigalgs.")
}

/// `listener.<address>.ssl.versions.<version>`, and the same for clusters
fn ssl_version(name: &str) -> Option<Found> {
    const LENGTH: usize = "TLSv1.3".len();
    let found = ssl(name, LISTENER_OR_CLUSTER, ".ssl.versions.", LENGTH)?;
    let number = name.get(found.value.clone())?.strip_prefix("TLSv")?;
    let valid = matches!(number.as_bytes(), [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit());
    valid.then_some(found)
}

/// `listener.<address>.ssl.certificate.<certificate>.…`, and the same for clusters
fn tls_certificate(name: &str) -> Option<Found> {
    const MARKER: &str = ".ssl.certificate.";
    if !LISTENER_OR_CLUSTER.iter().any(|owner| name.starts_with(owner)) {
        return None;
    }
    let value = segment(name, find(name, MARKER)? + MARKER.len())?;
    Some(with_dot_behind(value))
}

/// `cluster.<name>.health_check.name.<check>.…`; `.name.<check>` goes.
fn health_check_name(name: &str) -> Option<Found> {
    const MARKER: &str = ".health_check.name.";
    let cluster = segment(name, "cluster.".len())?;
    let tail = name.get(cluster.end..)?.strip_prefix(MARKER)?;
    let at = name.len() - tail.len();
    let value = segment(name, at)?;
    (value.end + 1 < name.len()).then(|| Found { cut: at - ".name.".len()..value.end, value })
}

/// `listener.<address>.http.<stat prefix>.…`
fn listener_http(name: &str) -> Option<Found> {
    const MARKER: &str = ".http.";
    let at = find(name, MARKER)? + MARKER.len();
    segment(name, at).map(with_dot_behind)
}

/// Where the address of a listener ends that starts at `at`: `<IPv4>_<port>`, `[<IPv6>]_<port>`, or else one
/// segment. A dot follows.
fn address(name: &str, at: usize) -> Option<Range<usize>> {
    let tail = name.get(at..)?;
    let bytes = tail.as_bytes();
    let digits = |from: usize| {
        let run = bytes.get(from..).unwrap_or_default().iter();
        from + run.take_while(|byte| byte.is_ascii_digit()).count()
    };
    let host = match bytes.first()? {
        b'[' => tail.find(']').map(|end| end + 1).filter(|&end| {
            let inner = bytes.get(1..end - 1).unwrap_or_default();
            let valid = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'_';
            !inner.is_empty() && inner.iter().all(valid)
        }),
        _ => (0..4).try_fold(0, |from, part| {
            let end = digits(from);
            let dot = part == 3 || bytes.get(end) == Some(&b'.');
            ((1..=3).contains(&(end - from)) && dot).then_some(end + usize::from(part < 3))
        }),
    };
    let port = host.filter(|&end| bytes.get(end) == Some(&b'_')).and_then(|end| {
        let port = digits(end + 1);
        (port > end + 1 && bytes.get(port) == Some(&b'.')).then_some(at..at + port)
    });
    port.or_else(|| segment(name, at))
}

/// `listener.<address or stat prefix>.…`, but not `listener.admin.…`
fn listener_address(name: &str) -> Option<Found> {
    let value = address(name, "listener.".len())?;
    (name.get(value.clone()) != Some("admin")).then(|| with_dot_behind(value))
}

/// `<owner>.worker_<id>.…`; the id and the dot go, so that `<owner>.worker_…` is left.
fn worker_id(name: &str) -> Option<Found> {
    let owners = ["server", "listener_manager", "thread_local_cluster_manager"];
    let owner_end = match name.split_once('.')? {
        ("listener", _) => address(name, "listener.".len())?.end,
        (owner, _) if owners.contains(&owner) => owner.len(),
        _ => return None,
    };
    let digits = name.get(owner_end..)?.strip_prefix(".worker_")?;
    let value = segment(name, name.len() - digits.len())?;
    let number = name.get(value.clone())?.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| with_dot_behind(value))
}

/// `http.<stat prefix>.<marker><name, maybe with dots>.<stat>`
fn route_config(name: &str, marker: &str) -> Option<Found> {
    let prefix = segment(name, "http.".len())?;
    let tail = name.get(prefix.end..)?.strip_prefix(marker)?;
    let (config, stat) = tail.rsplit_once('.')?;
    let valid = |byte: u8| is_word(byte) || matches!(byte, b'-' | b'.');
    let at = name.len() - tail.len();
    (!config.is_empty() && config.bytes().all(valid) && !stat.is_empty() && stat.bytes().all(is_word))
        .then(|| with_dot_behind(at..at + config.len()))
}

/// `http.<stat prefix>.rds.<route configuration>.<stat>`
fn rds(name: &str) -> Option<Found> {
    route_config(name, ".rds.")
}

/// `http.<stat prefix>.scoped_rds.<scoped route configuration>.<stat>`
fn scoped_rds(name: &str) -> Option<Found> {
    route_config(name, ".scoped_rds.")
}

/// `http.<stat prefix>.rbac.[<rules prefix>.]policy.<policy>.<result>`
fn rbac_policy(name: &str) -> Option<Found> {
    const MARKER: &str = "policy.";
    let prefix = segment(name, "http.".len())?;
    let tail = name.get(prefix.end..)?.strip_prefix(".rbac.")?;
    let tail = match tail.strip_prefix(MARKER) {
        Some(tail) => tail,
        None => tail.split_once('.')?.1.strip_prefix(MARKER)?,
    };
    let value = segment(name, name.len() - tail.len())?;
    let results = ["allowed", "shadow_allowed", "denied", "shadow_denied"];
    let result = name.get(value.end + 1..)?;
    results.contains(&result).then(|| with_dot_behind(value))
}

/// `http.<stat prefix>.rbac.<rules prefix>.…`
fn rbac_http(name: &str) -> Option<Found> {
    let prefix = segment(name, "http.".len())?;
    let tail = name.get(prefix.end..)?.strip_prefix(".rbac.")?;
    let value = segment(name, name.len() - tail.len())?;
    (name.get(value.clone()) != Some("policy")).then(|| with_dot_behind(value))
}

/// `proxy_proto.[<prefix>.]versions.v<version>.<stat>`; all between the first and the last segment goes.
fn proxy_version(name: &str) -> Option<Found> {
    const START: usize = "proxy_proto.".len();
    const MARKER: &str = "versions.v";
    let tail = name.get(START..)?;
    let digits = match tail.strip_prefix(MARKER) {
        Some(digits) => digits,
        None => tail.split_once('.')?.1.strip_prefix(MARKER)?,
    };
    let value = segment(name, name.len() - digits.len())?;
    let number = name.get(value.clone())?.bytes().all(|byte| byte.is_ascii_digit());
    let stat = name.get(value.end + 1..)?;
    (number && !stat.is_empty() && stat.bytes().all(is_word)).then(|| Found { cut: START..value.end + 1, value })
}

/// `proxy_proto.<prefix>.…`
fn proxy_prefix(name: &str) -> Option<Found> {
    let value = segment(name, "proxy_proto.".len())?;
    let some = value.end + 1 < name.len() && name.get(value.clone()) != Some("versions");
    some.then(|| with_dot_behind(value))
}

/// `sds.<secret>.…`
fn sds(name: &str) -> Option<Found> {
    let value = segment(name, "sds.".len())?;
    (value.end + 1 < name.len()).then(|| with_dot_behind(value))
}
