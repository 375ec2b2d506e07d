//! Transport sockets: raw buffers, and what is said of TLS, which is not there yet.

use super::data_source;
use crate::compile::{Compile, Invalid, message_of};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use prost::Name;

/// A `TransportSocket` must be the raw buffer. TLS is refused: without it, what should be secret would not be.
pub(super) fn check(socket: &core::TransportSocket, cx: &mut Compile<'_>) -> Result<(), Invalid> {
    use core::transport_socket::ConfigType;
    let core::TransportSocket { name, config_type } = socket;
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        return match name.as_str() {
            "envoy.transport_sockets.raw_buffer" | "raw_buffer" => Ok(()),
            _ => Err(cx.error(format!("the transport socket {name} has no typed_config"))),
        };
    };
    let mut cx = cx.field("typed_config");
    let message = message_of(any);
    if message == RawBuffer::full_name() {
        return Ok(());
    }
    let common = if message == tls::DownstreamTlsContext::full_name() {
        cx.decode::<tls::DownstreamTlsContext>(any)?.common_tls_context
    } else if message == tls::UpstreamTlsContext::full_name() {
        cx.decode::<tls::UpstreamTlsContext>(any)?.common_tls_context
    } else {
        return Err(cx.error_hint(
            format!("the transport socket {name} ({message}) is not built"),
            "envoy.transport_sockets.raw_buffer is",
        ));
    };
    let before = cx.errors();
    tls_files(&common.unwrap_or_default(), &mut cx.field("common_tls_context"));
    cx.unless_errors_since(before)?;
    Err(cx.error("TLS is not built yet"))
}

/// Reports each file that can't be read.
fn tls_files(common: &tls::CommonTlsContext, cx: &mut Compile<'_>) {
    for (index, certificate) in common.tls_certificates.iter().enumerate() {
        let mut cx = cx.element("tls_certificates", index);
        for (source, field) in [
            (&certificate.certificate_chain, "certificate_chain"),
            (&certificate.private_key, "private_key"),
            (&certificate.pkcs12, "pkcs12"),
            (&certificate.password, "password"),
            (&certificate.ocsp_staple, "ocsp_staple"),
        ] {
            check_source(source.as_ref(), field, &mut cx);
        }
    }
    use tls::common_tls_context::ValidationContextType as Kind;
    let (validation, field) = match &common.validation_context_type {
        Some(Kind::ValidationContext(validation)) => (Some(validation), "validation_context"),
        Some(Kind::CombinedValidationContext(combined)) => {
            (combined.default_validation_context.as_ref(), "combined_validation_context")
        }
        _ => (None, "validation_context"),
    };
    let mut cx = cx.field(field);
    let mut cx = if field == "combined_validation_context" { cx.field("default_validation_context") } else { cx };
    if let Some(validation) = validation {
        check_source(validation.trusted_ca.as_ref(), "trusted_ca", &mut cx);
        check_source(validation.crl.as_ref(), "crl", &mut cx);
    }
}

fn check_source(source: Option<&core::DataSource>, field: &'static str, cx: &mut Compile<'_>) {
    use core::data_source::Specifier;
    if let Some(Specifier::Filename(path)) = source.and_then(|source| source.specifier.as_ref())
        && let Err(text) = data_source::read(path)
    {
        cx.field(field).field("filename").error_hint(text, "is the file mounted there, and may this user read it?");
    }
}
