//! Entry points for fuzzing; their corpora are replayed by unit tests.

use crate::certificate::{AlternativeName, Certificate};
use crate::finding::Finding;
use crate::hello::{self, Hello};
use crate::ocsp::Staple;
use crate::san::{self, SanMatcher};
use crate::spec::{SanMatcherSpec, SanType};
use crate::{name, pem};
use nuncio_matcher::StringMatcherSpec;

/// Reads arbitrary bytes as whatever a peer or a file may hold. What must hold: nothing panics, a certificate that is read has its
/// parts within its bytes, no name with NUL or other than ASCII matches, and what PEM holds survives being written again.
pub fn fuzz_parsers(data: &[u8]) {
    if let Some(certificate) = Certificate::parse(data) {
        fuzz_certificate(&certificate, data);
    }
    let _ = Staple::parse(data);
    let _ = name::rfc2253(data);
    if let Ok(blocks) = pem::blocks(data) {
        for block in blocks {
            let again = pem::blocks(pem::encode("X", &block.der).as_bytes());
            assert!(again.is_ok_and(|again| again.len() == 1 && again[0].der == block.der));
        }
    }
    if let Hello::Complete(wishes) = hello::look(data) {
        // A prefix of it is not complete, or it was not one hello.
        let _ = wishes.shares_no_protocol(&[b"h2".to_vec()]);
        assert!(data.len() > 5);
    }
}

fn fuzz_certificate(certificate: &Certificate<'_>, data: &[u8]) {
    for part in [certificate.der, certificate.serial, certificate.subject, certificate.public_key] {
        assert!(part.len() <= data.len());
    }
    let names = certificate.all_names();
    let texts = names.dns.iter().chain(&names.uri).chain(&names.email).chain(&names.other_name);
    texts.for_each(|text| assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?}"));
    let _ = (certificate.url_encoded_pem(), certificate.serial_text(), san::listed(certificate));
    let any = |san_type| {
        let matcher = StringMatcherSpec::regex("(?s).*");
        SanMatcher::new(&SanMatcherSpec { san_type, matcher }, "")
    };
    let all: Result<Vec<SanMatcher>, Finding> =
        [SanType::Dns, SanType::Uri, SanType::Email].map(any).into_iter().collect();
    let matches = all.is_ok_and(|all| san::any_matches(certificate, &all));
    let is_clean = |text: &[u8]| text.is_ascii() && !text.contains(&0);
    let has_clean = certificate.names().any(|name| match name {
        AlternativeName::Email(text) | AlternativeName::Dns(text) | AlternativeName::Uri(text) => is_clean(text),
        _ => false,
    });
    assert_eq!(matches, has_clean);
}

#[cfg(test)]
mod tests;
