//! `/certs`: the TLS certificates in use.

use super::endpoint::Call;
use super::json::Json;
use super::response::Response;
use nuncio_config::tls::Certificates;
use nuncio_tls::CertificateDetails;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `/certs`
pub(super) fn certs(call: &Call<'_>) -> Response {
    let now = SystemTime::now();
    let list = |certificates: &[CertificateDetails]| {
        Json::List(certificates.iter().map(|certificate| describe(certificate, now)).collect())
    };
    let contexts = call.admin.server.contexts.certificates();
    let contexts = contexts.iter().map(|Certificates { chain, authorities }| {
        Json::object([("ca_cert", list(authorities)), ("cert_chain", list(chain))])
    });
    Response::json(Json::object([("certificates", Json::List(contexts.collect()))]).document())
}

fn describe(certificate: &CertificateDetails, now: SystemTime) -> Json {
    let names = |kind: &'static str, names: &[std::sync::Arc<str>]| {
        names.iter().map(|name| Json::object([(kind, Json::text(&**name))])).collect::<Vec<_>>()
    };
    let mut all = names("dns", &certificate.dns);
    all.extend(names("uri", &certificate.uri));
    all.extend(names("ip_address", &certificate.ip_address));
    Json::object([
        ("path", Json::text(&*certificate.path)),
        ("serial_number", Json::text(&*certificate.serial_number)),
        ("subject_alt_names", Json::List(all)),
        ("days_until_expiration", Json::long(certificate.days_until_expiration(now))),
        ("valid_from", Json::text(instant(certificate.valid_from))),
        ("expiration_time", Json::text(instant(certificate.expiration_time))),
    ])
}

/// A point in time as protobuf's JSON has it.
fn instant(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}
