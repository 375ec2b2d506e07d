//! SPIFFE trust bundle maps: the authorities of many trust domains in one file (`SPIFFECertValidatorConfig.trust_bundles`).

use super::reading::Reading;
use crate::compile::Invalid;
use crate::tree::{NodeRef, Scalar, Shape, Tree};
use crate::{Diagnostics, Format, Source};
use nuncio_tls::spec::SpiffeTrustDomain;

/// The domains of a map: `{"trust_domains": {"<name>": {"keys": [{"use": "x509-svid", "x5c": ["<base64>"]}]}}}`. Each bundle is a
/// JWK set (SPIFFE Trust Domain and Bundle §4); keys of other uses are left out.
pub(super) fn domains(bytes: Vec<u8>, cx: &mut Reading<'_>) -> Result<Vec<SpiffeTrustDomain>, Invalid> {
    let mut diagnostics = Diagnostics::new();
    let Some(tree) = Tree::parse(&Source::new("trust_bundles", bytes, Format::Json), &mut diagnostics) else {
        let found = diagnostics.to_string();
        return Err(cx.error(format!("is no SPIFFE trust bundle map: {}", found.trim_end()), ""));
    };
    let missing = "is no SPIFFE trust bundle map: it has no trust_domains";
    let Some((_, map)) = tree.root().get("trust_domains") else { return Err(cx.error(missing, "")) };
    let mut domains = Vec::new();
    for (name, bundle) in map.entries() {
        let name = name.spelling().to_owned();
        match authorities(bundle) {
            Ok(pem) => domains.push(SpiffeTrustDomain { name, bundle: pem.into_bytes() }),
            Err(why) => return Err(cx.error(format!("the trust domain {name}: {why}"), "")),
        }
    }
    if domains.is_empty() {
        return Err(cx.error("names no trust domain: no certificate could be trusted", ""));
    }
    Ok(domains)
}

/// The authorities of a bundle, PEM.
fn authorities(bundle: NodeRef<'_>) -> Result<String, &'static str> {
    let Some(Shape::Sequence(keys)) = bundle.get("keys").map(|(_, keys)| keys.shape()) else {
        return Err("has no keys");
    };
    let mut pem = String::new();
    for key in keys {
        if key.get("use").and_then(|(_, value)| text(value)) != Some("x509-svid") {
            continue;
        }
        let Some(Shape::Sequence(certificates)) = key.get("x5c").map(|(_, list)| list.shape()) else {
            return Err("a key for x509-svid has no x5c");
        };
        for certificate in certificates {
            let base64 = text(certificate).filter(|text| text.bytes().all(is_base64) && !text.is_empty());
            let Some(base64) = base64 else { return Err("x5c holds what is no base64") };
            for part in ["-----BEGIN CERTIFICATE-----\n", base64, "\n-----END CERTIFICATE-----\n"] {
                pem.push_str(part);
            }
        }
    }
    if pem.is_empty() { Err("has no key for x509-svid") } else { Ok(pem) }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

fn text(node: NodeRef<'_>) -> Option<&str> {
    match node.shape() {
        Shape::Scalar(Scalar::Text(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundles(keys: &str) -> Result<String, &'static str> {
        let text = format!(r#"{{"keys": {keys}}}"#);
        let tree = Tree::parse(&Source::new("b", text, Format::Json), &mut Diagnostics::new()).unwrap();
        authorities(tree.root())
    }

    #[test]
    fn authorities_are_the_keys_for_certificates() {
        let keys = r#"[{"use": "jwt-svid", "kid": "x"}, {"use": "x509-svid", "x5c": ["QUJD", "REVG"]}]"#;
        let pem = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nREVG\n\
                   -----END CERTIFICATE-----\n";
        assert_eq!(bundles(keys).as_deref(), Ok(pem));
        for (keys, why) in [
            ("{}", "has no keys"),
            ("[]", "has no key for x509-svid"),
            (r#"[{"use": "x509-svid"}]"#, "a key for x509-svid has no x5c"),
            (r#"[{"use": "x509-svid", "x5c": []}]"#, "has no key for x509-svid"),
            (r#"[{"use": "x509-svid", "x5c": ["QQ==\n-----END"]}]"#, "x5c holds what is no base64"),
            (r#"[{"use": "x509-svid", "x5c": [1]}]"#, "x5c holds what is no base64"),
            (r#"[{"use": "x509-svid", "x5c": [""]}]"#, "x5c holds what is no base64"),
        ] {
            assert_eq!(bundles(keys), Err(why), "{keys}");
        }
    }
}
