//! `DownstreamTlsContext` and `UpstreamTlsContext`.

use super::parameters::{key_log, parameters};
use super::reading::Reading;
use super::secrets::named;
use super::validation::validation;
use crate::compile::Invalid;
use crate::lower::duration;
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use nuncio_tls::spec::{
    CertificateMaterial, CertificateSpec, ClientSpec, KeyLogSpec, OcspStaplePolicy, ParametersSpec, Secret, ServerSpec,
    ValidationSpec,
};
use prost::Message;
use tls::common_tls_context::ValidationContextType;
use tls::downstream_tls_context::{OcspStaplePolicy as StaplePolicy, SessionTicketKeysType};
use tls::secret::Type;

/// What both sides have in common.
struct Common {
    certificates: Vec<CertificateSpec>,
    parameters: ParametersSpec,
    alpn_protocols: Vec<Vec<u8>>,
    validation: Option<ValidationSpec>,
    key_log: Option<KeyLogSpec>,
}

/// A server's context.
pub(crate) fn server_spec(context: &tls::DownstreamTlsContext, cx: &mut Reading<'_>) -> Result<ServerSpec, Invalid> {
    let policy = context.ocsp_staple_policy();
    let tls::DownstreamTlsContext {
        common_tls_context,
        require_client_certificate,
        require_sni,
        disable_stateful_session_resumption,
        session_timeout,
        ocsp_staple_policy: _,
        full_scan_certs_on_sni_mismatch,
        prefer_client_ciphers,
        session_ticket_keys_type,
    } = context;
    let before = cx.errors();
    let common = common(common_tls_context.as_ref(), Side::Server, &mut cx.field("common_tls_context"));
    let keys = ticket_keys(session_ticket_keys_type.as_ref(), cx);
    let is_true = |field: &Option<nuncio_api::wkt::BoolValue>| field.as_ref().is_some_and(|field| field.value);
    let common = common?;
    let required = is_true(require_client_certificate);
    if required && common.validation.is_none() {
        cx.field("require_client_certificate").warn(
            "any client certificate is accepted: nothing says how to validate them",
            "set common_tls_context.validation_context with a trusted_ca",
        );
    }
    if common.certificates.is_empty() {
        let hint = "name the files of a certificate and its key under tls_certificates";
        cx.field("common_tls_context").error("No TLS certificates found for server context", hint);
    }
    cx.unless_errors_since(before)?;
    Ok(ServerSpec {
        certificates: common.certificates,
        parameters: common.parameters,
        alpn_protocols: common.alpn_protocols,
        validation: common.validation,
        require_client_certificate: required,
        ocsp_staple_policy: match policy {
            StaplePolicy::LenientStapling => OcspStaplePolicy::LenientStapling,
            StaplePolicy::StrictStapling => OcspStaplePolicy::StrictStapling,
            StaplePolicy::MustStaple => OcspStaplePolicy::MustStaple,
        },
        require_sni: is_true(require_sni),
        session_ticket_keys: keys?,
        disable_stateless_session_resumption: matches!(
            session_ticket_keys_type,
            Some(SessionTicketKeysType::DisableStatelessSessionResumption(true))
        ),
        disable_stateful_session_resumption: *disable_stateful_session_resumption,
        session_timeout: session_timeout.as_ref().and_then(duration),
        prefer_client_ciphers: *prefer_client_ciphers,
        full_scan_certs_on_sni_mismatch: is_true(full_scan_certs_on_sni_mismatch),
        key_log: common.key_log,
    })
}

/// A client's context.
pub(crate) fn client_spec(context: &tls::UpstreamTlsContext, cx: &mut Reading<'_>) -> Result<ClientSpec, Invalid> {
    #[allow(deprecated)]
    let tls::UpstreamTlsContext {
        common_tls_context,
        sni,
        auto_host_sni,
        auto_sni_san_validation,
        allow_renegotiation,
        max_session_keys,
        enforce_rsa_key_usage,
    } = context;
    let before = cx.errors();
    if *allow_renegotiation {
        cx.field("allow_renegotiation").error("renegotiation is not built, for it is not safe", "leave it out");
    }
    if enforce_rsa_key_usage.as_ref().is_some_and(|enforced| !enforced.value) {
        cx.field("enforce_rsa_key_usage").warn("has no effect: the usage that a certificate states always counts", "");
    }
    let common = common(common_tls_context.as_ref(), Side::Client, &mut cx.field("common_tls_context"))?;
    cx.unless_errors_since(before)?;
    Ok(ClientSpec {
        certificates: common.certificates,
        parameters: common.parameters,
        alpn_protocols: common.alpn_protocols,
        validation: common.validation,
        sni: sni.clone(),
        auto_host_sni: *auto_host_sni,
        auto_sni_san_validation: *auto_sni_san_validation,
        max_session_keys: max_session_keys.as_ref().map(|keys| keys.value),
        enforce_rsa_key_usage: true,
        key_log: common.key_log,
    })
}

/// Whose context it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

fn common(context: Option<&tls::CommonTlsContext>, side: Side, cx: &mut Reading<'_>) -> Result<Common, Invalid> {
    let none = tls::CommonTlsContext::default();
    #[allow(deprecated)]
    let tls::CommonTlsContext {
        tls_params,
        tls_certificates,
        tls_certificate_sds_secret_configs,
        tls_certificate_provider_instance,
        custom_tls_certificate_selector,
        tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance,
        alpn_protocols,
        custom_handshaker,
        key_log: log,
        validation_context_type,
    } = context.unwrap_or(&none);
    let before = cx.errors();
    let why = "another certificate would be shown than it says";
    cx.refuse_if(tls_certificate_provider_instance.is_some(), "tls_certificate_provider_instance", why);
    cx.refuse_if(custom_tls_certificate_selector.is_some(), "custom_tls_certificate_selector", why);
    cx.refuse_if(tls_certificate_certificate_provider.is_some(), "tls_certificate_certificate_provider", why);
    let instance = tls_certificate_certificate_provider_instance.is_some();
    cx.refuse_if(instance, "tls_certificate_certificate_provider_instance", why);
    if let Some(custom) = custom_handshaker {
        let text = format!("the handshaker {} is not built", custom.name);
        cx.field("custom_handshaker").error(text, "leave it out");
    }
    let mut certificates = Vec::new();
    for (index, one) in tls_certificates.iter().enumerate() {
        certificates.extend(certificate(one, None, side, &mut cx.element("tls_certificates", index)).ok());
    }
    for (index, config) in tls_certificate_sds_secret_configs.iter().enumerate() {
        let mut cx = cx.element("tls_certificate_sds_secret_configs", index);
        certificates.extend(named_certificate(config, side, &mut cx).ok());
    }
    let parameters = parameters(tls_params.as_ref(), &mut cx.field("tls_params"));
    let validation = validation_of(validation_context_type.as_ref(), cx);
    let key_log = log.as_ref().map(|log| key_log(log, &mut cx.field("key_log"))).transpose();
    cx.unless_errors_since(before)?;
    let alpn_protocols = alpn_protocols.iter().map(|name| name.clone().into_bytes()).collect();
    Ok(Common { certificates, parameters, alpn_protocols, validation: validation?, key_log: key_log? })
}

fn named_certificate(
    config: &tls::SdsSecretConfig,
    side: Side,
    cx: &mut Reading<'_>,
) -> Result<CertificateSpec, Invalid> {
    match named(config, cx)?.r#type {
        Some(Type::TlsCertificate(one)) => certificate(&one, Some(&config.name), side, cx),
        _ => Err(cx.error(format!("the secret {} is no tls_certificate", config.name), "")),
    }
}

fn certificate(
    certificate: &tls::TlsCertificate,
    secret: Option<&str>,
    side: Side,
    cx: &mut Reading<'_>,
) -> Result<CertificateSpec, Invalid> {
    let tls::TlsCertificate {
        certificate_chain,
        private_key,
        pkcs12,
        watched_directory,
        private_key_provider,
        password,
        ocsp_staple,
        signed_certificate_timestamp,
        tls_params,
    } = certificate;
    let before = cx.errors();
    if let Some(provider) = private_key_provider {
        let text = format!("the private key provider {} is not built", provider.provider_name);
        cx.field("private_key_provider").error(text, "give the key under private_key");
    }
    cx.unsupported_if(!signed_certificate_timestamp.is_empty(), "signed_certificate_timestamp");
    match side {
        Side::Server => {
            cx.refuse_if(tls_params.is_some(), "tls_params", "those of the context would count, which may allow more");
        }
        Side::Client if tls_params.is_some() => {
            cx.field("tls_params").warn("has no effect on the certificate of a client: those of the context count", "");
        }
        Side::Client => {}
    }
    if let Some(directory) = watched_directory {
        cx.watch_directory(directory);
    }
    let chain = cx.optional(certificate_chain.as_ref(), "certificate_chain");
    let key = cx.optional(private_key.as_ref(), "private_key");
    let archive = cx.optional(pkcs12.as_ref(), "pkcs12");
    let password = cx.optional(password.as_ref(), "password");
    let ocsp_staple = cx.optional(ocsp_staple.as_ref(), "ocsp_staple");
    cx.unless_errors_since(before)?;
    let source = certificate_chain.as_ref().or(pkcs12.as_ref());
    let material = match (archive?, chain?, key?) {
        (Some(archive), None, None) => CertificateMaterial::Pkcs12(archive.into()),
        (Some(_), ..) => {
            return Err(cx
                .field("pkcs12")
                .error("stands beside certificate_chain or private_key", "give one form only"));
        }
        (None, Some(chain), Some(key)) => CertificateMaterial::Pem { chain, key: key.into() },
        (None, Some(_), None) => return Err(cx.error("has no private_key", "name the file of the key")),
        (None, None, _) => return Err(cx.error("has no certificate_chain", "name the file of the certificate")),
    };
    Ok(CertificateSpec {
        source: match (source.map(origin), secret) {
            (Some(origin), None) => origin.into(),
            (_, Some(name)) => name.into(),
            (None, None) => "<inline>".into(),
        },
        material,
        password: password?.map(Secret),
        ocsp_staple: ocsp_staple?,
    })
}

/// Where bytes are from, for people.
pub(super) fn origin(source: &core::DataSource) -> String {
    use core::data_source::Specifier;
    match &source.specifier {
        Some(Specifier::Filename(path)) => path.clone(),
        Some(Specifier::EnvironmentVariable(name)) => format!("${name}"),
        _ => "<inline>".to_owned(),
    }
}

fn validation_of(
    context: Option<&ValidationContextType>,
    cx: &mut Reading<'_>,
) -> Result<Option<ValidationSpec>, Invalid> {
    #[allow(deprecated)]
    match context {
        None => Ok(None),
        Some(ValidationContextType::ValidationContext(own)) => {
            validation(own, &mut cx.field("validation_context")).map(Some)
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => {
            let mut cx = cx.field("validation_context_sds_secret_config");
            let secret = named_validation(config, &mut cx)?;
            validation(&secret, &mut cx).map(Some)
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let tls::common_tls_context::CombinedCertificateValidationContext {
                default_validation_context,
                validation_context_sds_secret_config,
                validation_context_certificate_provider,
                validation_context_certificate_provider_instance,
            } = combined;
            let mut cx = cx.field("combined_validation_context");
            let providers = validation_context_certificate_provider.is_some()
                || validation_context_certificate_provider_instance.is_some();
            let why = "certificates would not be verified by it";
            cx.refuse_if(providers, "validation_context_certificate_provider", why);
            let mut merged = default_validation_context.clone().unwrap_or_default();
            if let Some(config) = validation_context_sds_secret_config {
                let secret = named_validation(config, &mut cx.field("validation_context_sds_secret_config"))?;
                // What the secret sets goes before the default, and lists are joined: a merge as protobuf defines it.
                merge(&mut merged, &secret, &mut cx)?;
            }
            validation(&merged, &mut cx.field("default_validation_context")).map(Some)
        }
        Some(ValidationContextType::ValidationContextCertificateProvider(_)) => {
            Err(cx.field("validation_context_certificate_provider").error("certificate providers are not built", ""))
        }
        Some(ValidationContextType::ValidationContextCertificateProviderInstance(_)) => {
            let field = "validation_context_certificate_provider_instance";
            Err(cx.field(field).error("certificate providers are not built", ""))
        }
    }
}

fn merge(
    into: &mut tls::CertificateValidationContext,
    from: &tls::CertificateValidationContext,
    cx: &mut Reading<'_>,
) -> Result<(), Invalid> {
    into.merge(&from.encode_to_vec()[..]).map_err(|error| cx.error(format!("can't be merged: {error}"), ""))
}

fn named_validation(
    config: &tls::SdsSecretConfig,
    cx: &mut Reading<'_>,
) -> Result<tls::CertificateValidationContext, Invalid> {
    match named(config, cx)?.r#type {
        Some(Type::ValidationContext(context)) => Ok(context),
        _ => Err(cx.error(format!("the secret {} is no validation_context", config.name), "")),
    }
}

fn ticket_keys(keys: Option<&SessionTicketKeysType>, cx: &mut Reading<'_>) -> Result<Vec<Secret>, Invalid> {
    let (keys, field) = match keys {
        None | Some(SessionTicketKeysType::DisableStatelessSessionResumption(_)) => return Ok(Vec::new()),
        Some(SessionTicketKeysType::SessionTicketKeys(keys)) => (keys.clone(), "session_ticket_keys"),
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(config)) => {
            let field = "session_ticket_keys_sds_secret_config";
            let mut cx = cx.field(field);
            match named(config, &mut cx)?.r#type {
                Some(Type::SessionTicketKeys(keys)) => (keys, field),
                _ => return Err(cx.error(format!("the secret {} has no session_ticket_keys", config.name), "")),
            }
        }
    };
    let mut cx = cx.field(field);
    let read = keys.keys.iter().enumerate().map(|(index, key)| cx.element("keys", index).data(key).map(Secret));
    read.collect()
}
