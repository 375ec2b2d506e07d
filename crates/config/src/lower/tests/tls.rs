//! TLS contexts: what is said of them, and where.

use super::*;

const DOWNSTREAM: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// A listener whose only chain has this context.
fn lowered(context: &str, resources: &str) -> Outcome {
    let text = format!(
        "static_resources: {{listeners: [{{name: l, address: {{socket_address: {{address: 127.0.0.1, port_value: 1}}}}, \
         filter_chains: [{{filters: [], transport_socket: {{name: tls, typed_config: {{'@type': {DOWNSTREAM}, \
         {context}}}}}}}]}}]{resources}}}"
    );
    lower_source(Source::new("c.yaml", text.into_bytes(), Format::Yaml))
}

#[test]
fn errors_name_their_field() {
    let check = |context: &str, expected: &str| {
        let outcome = lowered(context, "");
        let errors = outcome.errors();
        let expected = format!("filter_chains[0].transport_socket.typed_config{expected}");
        assert!(errors.contains(&expected), "{context}\n  found {errors}  expected {expected}");
    };
    check("common_tls_context: {}", ".common_tls_context: No TLS certificates found for server context");
    check(
        "common_tls_context: {tls_certificates: [{certificate_chain: {filename: /nowhere/a.crt}, private_key: \
         {inline_string: x}}]}",
        ".common_tls_context.tls_certificates[0].certificate_chain.filename: /nowhere/a.crt can't be read: no such file",
    );
    check(
        "common_tls_context: {tls_certificates: [{certificate_chain: {inline_string: x}}]}",
        ".common_tls_context.tls_certificates[0]: has no private_key",
    );
    check(
        "common_tls_context: {tls_certificates: [{private_key_provider: {provider_name: cryptomb}}]}",
        ".common_tls_context.tls_certificates[0].private_key_provider: the private key provider cryptomb is not built",
    );
    check(
        "common_tls_context: {custom_handshaker: {name: own, typed_config: {'@type': type.googleapis.com/google.protobuf.Struct}}}",
        ".common_tls_context.custom_handshaker: the handshaker own is not built",
    );
    check(
        "common_tls_context: {tls_certificate_sds_secret_configs: [{name: lost}]}",
        ".common_tls_context.tls_certificate_sds_secret_configs[0].name: there is no static secret named lost",
    );
    check(
        "common_tls_context: {tls_certificate_sds_secret_configs: [{name: pair, sds_config: {ads: {}}}]}",
        ".common_tls_context.tls_certificate_sds_secret_configs[0].sds_config.ads: there is no ADS",
    );
    check(
        "common_tls_context: {validation_context: {custom_validator_config: {name: own, typed_config: {'@type': \
         type.googleapis.com/google.protobuf.Struct}}}}",
        ".common_tls_context.validation_context.custom_validator_config: the certificate validator own is not built",
    );
}

#[test]
fn secrets_are_found_by_their_name_and_kind() {
    let config = "common_tls_context: {tls_certificate_sds_secret_configs: [{name: s}]}";
    let outcome = lowered(config, ", secrets: [{name: s, validation_context: {trusted_ca: {inline_string: x}}}]");
    let errors = outcome.errors();
    assert!(errors.contains("sds_secret_configs[0]: the secret s is no tls_certificate"), "{errors}");
    let outcome = lowered(config, ", secrets: [{name: s, tls_certificate: {private_key: {inline_string: x}}}]");
    let errors = outcome.errors();
    assert!(errors.contains("sds_secret_configs[0]: has no certificate_chain"), "{errors}");
}
