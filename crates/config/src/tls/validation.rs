//! `CertificateValidationContext`.

use super::reading::Reading;
use crate::compile::{Invalid, message_of};
use crate::lower::{read_file, string_spec};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use nuncio_api::pb::envoy::r#type::matcher::v3 as matcher;
use nuncio_tls::spec::{SanMatcherSpec, SanType, SpiffeTrustDomain, TrustChainVerification, ValidationSpec};
use prost::{Message, Name};
use tls::certificate_validation_context::TrustChainVerification as Verification;
use tls::subject_alt_name_matcher::SanType as PbSanType;

/// Where Linux distributions keep the roots that `system_root_certs` means.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

pub(super) fn validation(
    context: &tls::CertificateValidationContext,
    cx: &mut Reading<'_>,
) -> Result<ValidationSpec, Invalid> {
    let verification = context.trust_chain_verification();
    #[allow(deprecated)]
    let tls::CertificateValidationContext {
        trusted_ca,
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        require_signed_certificate_timestamp,
        crl,
        allow_expired_certificate,
        trust_chain_verification: _,
        custom_validator_config,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list,
    } = context;
    let before = cx.errors();
    let why = "certificates would not be verified by it";
    cx.refuse_if(ca_certificate_provider_instance.is_some(), "ca_certificate_provider_instance", why);
    let timestamps = require_signed_certificate_timestamp.as_ref().is_some_and(|required| required.value);
    cx.refuse_if(timestamps, "require_signed_certificate_timestamp", "certificates without one would be accepted");
    if let Some(directory) = watched_directory {
        cx.watch_directory(directory);
    }
    let (source, ca) = trusted_ca_of(trusted_ca.as_ref(), system_root_certs.is_some(), cx)?;
    let crl = cx.optional(crl.as_ref(), "crl");
    let mut names = Vec::new();
    for (index, typed) in match_typed_subject_alt_names.iter().enumerate() {
        names.extend(typed_name(typed, &mut cx.element("match_typed_subject_alt_names", index)).ok());
    }
    for (index, untyped) in match_subject_alt_names.iter().enumerate() {
        untyped_name(untyped, &mut names, &mut cx.element("match_subject_alt_names", index));
    }
    let spiffe = match custom_validator_config {
        Some(custom) => spiffe(custom, &mut cx.field("custom_validator_config")),
        None => Ok(Vec::new()),
    };
    cx.unless_errors_since(before)?;
    Ok(ValidationSpec {
        trusted_ca_source: source.map(Into::into),
        trusted_ca: ca.map(Into::into),
        match_typed_subject_alt_names: names,
        verify_certificate_spki: verify_certificate_spki.clone(),
        verify_certificate_hash: verify_certificate_hash.clone(),
        crl: crl?,
        only_verify_leaf_cert_crl: *only_verify_leaf_cert_crl,
        allow_expired_certificate: *allow_expired_certificate,
        trust_chain_verification: match verification {
            Verification::VerifyTrustChain => TrustChainVerification::VerifyTrustChain,
            Verification::AcceptUntrusted => TrustChainVerification::AcceptUntrusted,
        },
        suppress_client_ca_list: *suppress_client_ca_list,
        max_verify_depth: max_verify_depth.as_ref().map(|depth| depth.value),
        spiffe_trust_domains: spiffe?,
    })
}

type Roots = (Option<String>, Option<Vec<u8>>);

/// `trusted_ca`, or the roots of the system; with where they are from.
fn trusted_ca_of(source: Option<&core::DataSource>, system: bool, cx: &mut Reading<'_>) -> Result<Roots, Invalid> {
    if let Some(source) = source {
        let bytes = cx.field("trusted_ca").data(source)?;
        return Ok((Some(super::context::origin(source)), Some(bytes)));
    }
    if !system {
        return Ok((None, None));
    }
    for path in SYSTEM_ROOTS {
        if let Ok(bytes) = read_file(path) {
            cx.found.paths.insert(path.into());
            return Ok((Some(path.to_owned()), Some(bytes)));
        }
    }
    let text = format!("none of {} can be read", SYSTEM_ROOTS.join(", "));
    Err(cx.field("system_root_certs").error(text, "install ca-certificates, or name a file under trusted_ca"))
}

fn typed_name(typed: &tls::SubjectAltNameMatcher, cx: &mut Reading<'_>) -> Result<SanMatcherSpec, Invalid> {
    let kind = typed.san_type();
    let tls::SubjectAltNameMatcher { san_type: _, matcher, oid } = typed;
    let san_type = match kind {
        PbSanType::Email => SanType::Email,
        PbSanType::Dns => SanType::Dns,
        PbSanType::Uri => SanType::Uri,
        PbSanType::IpAddress => SanType::IpAddress,
        PbSanType::OtherName if oid.is_empty() => {
            return Err(cx
                .field("oid")
                .error("is required for OTHER_NAME", "give the object identifier: 1.3.6.1.4.1…"));
        }
        PbSanType::OtherName => SanType::OtherName { oid: oid.clone() },
        PbSanType::Unspecified => {
            return Err(cx.field("san_type").error("is required", "DNS, URI, EMAIL, IP_ADDRESS or OTHER_NAME"));
        }
    };
    Ok(SanMatcherSpec { san_type, matcher: text_matcher(matcher.as_ref(), &mut cx.field("matcher"))? })
}

fn text_matcher(
    wanted: Option<&matcher::StringMatcher>,
    cx: &mut Reading<'_>,
) -> Result<nuncio_matcher::StringMatcherSpec, Invalid> {
    let Some(wanted) = wanted else { return Err(cx.error("is required", "")) };
    let checked = string_spec(wanted).and_then(|spec| nuncio_matcher::StringMatcher::new(&spec).map(|_| spec));
    checked.map_err(|error| cx.field(&error.path).error(error.message, ""))
}

/// The old form means any of four types.
fn untyped_name(wanted: &matcher::StringMatcher, names: &mut Vec<SanMatcherSpec>, cx: &mut Reading<'_>) {
    let Ok(matcher) = text_matcher(Some(wanted), cx) else { return };
    for san_type in [SanType::Dns, SanType::Uri, SanType::Email, SanType::IpAddress] {
        names.push(SanMatcherSpec { san_type, matcher: matcher.clone() });
    }
}

/// `SPIFFECertValidatorConfig`, the one validator that is built.
fn spiffe(custom: &core::TypedExtensionConfig, cx: &mut Reading<'_>) -> Result<Vec<SpiffeTrustDomain>, Invalid> {
    let any = custom.typed_config.as_ref().filter(|any| message_of(any) == tls::SpiffeCertValidatorConfig::full_name());
    let Some(any) = any else {
        let text = format!("the certificate validator {} is not built", custom.name);
        return Err(cx.error(text, "envoy.tls.cert_validator.spiffe is"));
    };
    let mut cx = cx.field("typed_config");
    let config = tls::SpiffeCertValidatorConfig::decode(&any.value[..])
        .map_err(|error| cx.error(format!("can't be decoded: {error}"), ""))?;
    let tls::SpiffeCertValidatorConfig { trust_domains, trust_bundles } = config;
    if let Some(bundles) = &trust_bundles {
        // They take precedence over `trust_domains`.
        let mut cx = cx.field("trust_bundles");
        let bytes = cx.data(bundles)?;
        return super::trust_bundles::domains(bytes, &mut cx);
    }
    let mut domains = Vec::with_capacity(trust_domains.len());
    for (index, domain) in trust_domains.iter().enumerate() {
        let mut cx = cx.element("trust_domains", index);
        let why = "other identities would be accepted than it says";
        cx.refuse_if(!domain.workload_trust_domain.is_empty(), "workload_trust_domain", why);
        let Some(bundle) = &domain.trust_bundle else {
            return Err(cx.field("trust_bundle").error("is required", "name the file of its authorities"));
        };
        let bundle = cx.field("trust_bundle").data(bundle)?;
        domains.push(SpiffeTrustDomain { name: domain.name.clone(), bundle });
    }
    if domains.is_empty() {
        return Err(cx
            .field("trust_domains")
            .error("is empty: no certificate could be trusted", "name a trust domain"));
    }
    Ok(domains)
}
