//! SPIFFE identities: each trust domain has its own authorities (`SPIFFECertValidatorConfig`).

use std::collections::HashMap;
use std::sync::Arc;

use crate::certificate::{AlternativeName, CRL_SIGN, Certificate, KEY_CERT_SIGN};
use crate::finding::{ContextError, Finding};
use crate::roots::Roots;
use crate::spec::SpiffeTrustDomain;
use crate::verify::Refusal;

/// Authorities by trust domain.
#[derive(Debug)]
pub(crate) struct SpiffeDomains(HashMap<String, Arc<Roots>>);

impl SpiffeDomains {
    pub(crate) fn new(specs: &[SpiffeTrustDomain]) -> Result<SpiffeDomains, ContextError> {
        let mut domains = HashMap::new();
        let source: Arc<str> = Arc::from("<spiffe>");
        for (index, spec) in specs.iter().enumerate() {
            let field = format!("custom_validator_config.trust_domains[{index}]");
            let roots = Roots::load(&spec.bundle, &source, &format!("{field}.trust_bundle"))?;
            if domains.insert(spec.name.clone(), roots).is_some() {
                let found = format!("trust domain {} is given twice", spec.name);
                return Err(Finding::new(format!("{field}.name"), found, "give each trust domain once"));
            }
        }
        Ok(SpiffeDomains(domains))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Roots>> {
        self.0.values()
    }

    /// The authorities of the domain that the certificate claims to be of. SPIFFE X.509-SVID §§ 2, 4.3.
    pub(crate) fn roots_for(&self, leaf: &Certificate<'_>) -> Result<&Roots, Refusal> {
        // Without the extension a key may be used for everything (RFC 5280 §4.2.1.3), which Envoy takes it to mean.
        let signs = leaf.key_usage.is_none_or(|usage| usage & (KEY_CERT_SIGN | CRL_SIGN) != 0);
        if leaf.is_authority || signs {
            return Err(Refusal::spiffe("SPIFFE certificate must not be a signing certificate"));
        }
        let mut uris = leaf.names().filter_map(|name| match name {
            AlternativeName::Uri(uri) => Some(uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(Refusal::spiffe("SPIFFE certificate must have one URI SAN"));
        };
        let domain = std::str::from_utf8(uri).ok().filter(|uri| uri.is_ascii() && !uri.contains('\0'));
        let domain = domain.and_then(|uri| uri.strip_prefix("spiffe://")).and_then(|rest| rest.split('/').next());
        let roots = domain.and_then(|domain| self.0.get(domain));
        roots.map(Arc::as_ref).ok_or_else(|| Refusal::spiffe("no trust bundle matching trust domain"))
    }
}
