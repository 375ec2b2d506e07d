//! `x-forwarded-client-cert`: what the upstream is told of the certificate that the client showed.

use crate::config::{ClientCertDetails, ForwardClientCert};
use nuncio_headers::{HeaderMap, Known};
use nuncio_matcher::percent_decoded;
use nuncio_stream_info::{ConnectionInfo, TlsInfo, write_json_string};
use std::borrow::Cow;

/// Applies `forward_client_cert_details`. What a client says of itself counts for nothing unless it showed a certificate, or
/// the mode keeps the header always.
pub(crate) fn forward(
    mode: ForwardClientCert,
    details: ClientCertDetails,
    connection: &ConnectionInfo,
    headers: &mut HeaderMap,
) {
    let shown = connection.tls.as_deref().filter(|tls| tls.peer_fingerprint_256.is_some());
    match (mode, shown) {
        (ForwardClientCert::AlwaysForwardOnly, _) | (ForwardClientCert::ForwardOnly, Some(_)) => {}
        (ForwardClientCert::Sanitize, _) | (_, None) => {
            headers.remove_known(Known::X_FORWARDED_CLIENT_CERT);
        }
        (ForwardClientCert::AppendForward, Some(tls)) => {
            append(tls, details, headers);
        }
        (ForwardClientCert::SanitizeSet, Some(tls)) => {
            headers.set_with(&Known::X_FORWARDED_CLIENT_CERT.into(), |out| {
                if details.json { array(tls, details, out) } else { element(tls, details, out) }
            });
        }
    }
}

/// Adds an element to the header, in the format that it has.
fn append(tls: &TlsInfo, details: ClientCertDetails, headers: &mut HeaderMap) {
    let name = Known::X_FORWARDED_CLIENT_CERT.into();
    let Some(present) = headers.joined(&name).filter(|present| !present.is_empty()).map(Cow::into_owned) else {
        headers.set_with(&name, |out| if details.json { array(tls, details, out) } else { element(tls, details, out) });
        return;
    };
    match present.strip_suffix(b"]").filter(|present| present.starts_with(b"[")) {
        Some(elements) => headers.set_with(&name, |out| {
            out.extend_from_slice(elements);
            if elements.len() > 1 {
                out.push(b',');
            }
            object(tls, details, out);
            out.push(b']');
        }),
        None => headers.append_to_list(&name, ",", |out| element(tls, details, out)),
    }
}

/// The header in JSON, with one element.
fn array(tls: &TlsInfo, details: ClientCertDetails, out: &mut Vec<u8>) {
    out.push(b'[');
    object(tls, details, out);
    out.push(b']');
}

/// One element in JSON.
fn object(tls: &TlsInfo, details: ClientCertDetails, out: &mut Vec<u8>) {
    let mut members = Members { out, first: true };
    members.list("by", tls.local.uri.iter().map(|uri| uri.as_bytes()));
    members.text("hash", tls.peer_fingerprint_256.as_deref().unwrap_or_default().as_bytes());
    if details.cert
        && let Some(certificate) = &tls.peer_certificate
    {
        members.text("cert", &percent_decoded(certificate.as_bytes()));
    }
    if details.chain
        && let Some(chain) = &tls.peer_certificate_chain
    {
        let chain = percent_decoded(chain.as_bytes());
        let chain = String::from_utf8_lossy(&chain);
        members.list("chain", chain.split_inclusive(PEM_END).map(str::as_bytes));
    }
    if details.subject {
        members.text("subject", tls.peer.subject.as_deref().unwrap_or_default().as_bytes());
    }
    if details.uri {
        members.list("uri", tls.peer.uri.iter().map(|uri| uri.as_bytes()));
    }
    if details.dns {
        members.list("dns", tls.peer.dns.iter().map(|name| name.as_bytes()));
    }
    if details.issuer {
        members.text("issuer", tls.peer_issuer.as_deref().unwrap_or_default().as_bytes());
    }
    members.end();
}

/// The end of each certificate of a chain.
const PEM_END: &str = "-----END CERTIFICATE-----\n";

/// The members of a JSON object; those without content are left out.
struct Members<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Members<'_> {
    fn name(&mut self, name: &str) {
        self.out.push(if self.first { b'{' } else { b',' });
        self.first = false;
        write_json_string(name.as_bytes(), self.out);
        self.out.push(b':');
    }

    fn text(&mut self, name: &str, text: &[u8]) {
        if !text.is_empty() {
            self.name(name);
            write_json_string(text, self.out);
        }
    }

    fn end(self) {
        self.out.extend_from_slice(if self.first { b"{}" } else { b"}" });
    }

    fn list<'v>(&mut self, name: &str, values: impl Iterator<Item = &'v [u8]>) {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return;
        }
        self.name(name);
        for (index, value) in values.enumerate() {
            self.out.push(if index == 0 { b'[' } else { b',' });
            write_json_string(value, self.out);
        }
        self.out.push(b']');
    }
}

/// One element of the header: what this proxy says of its client.
fn element(tls: &TlsInfo, details: ClientCertDetails, out: &mut Vec<u8>) {
    let mut pairs = Pairs { out, first: true };
    tls.local.uri.iter().for_each(|uri| pairs.name("By", uri));
    if let Some(digest) = &tls.peer_fingerprint_256 {
        pairs.name("Hash", digest);
    }
    if details.cert
        && let Some(certificate) = &tls.peer_certificate
    {
        pairs.quoted("Cert", certificate);
    }
    if details.chain
        && let Some(chain) = &tls.peer_certificate_chain
    {
        pairs.quoted("Chain", chain);
    }
    if details.subject {
        pairs.distinguished("Subject", tls.peer.subject.as_deref().unwrap_or_default());
    }
    if details.issuer {
        pairs.distinguished("Issuer", tls.peer_issuer.as_deref().unwrap_or_default());
    }
    if details.uri {
        tls.peer.uri.iter().for_each(|uri| pairs.name("URI", uri));
        if tls.peer.uri.is_empty() {
            pairs.name("URI", "");
        }
    }
    if details.dns {
        tls.peer.dns.iter().for_each(|name| pairs.name("DNS", name));
    }
}

/// The `key=value` pairs of an element.
struct Pairs<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Pairs<'_> {
    fn key(&mut self, key: &str) {
        if !self.first {
            self.out.push(b';');
        }
        self.first = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'=');
    }

    /// A name out of a certificate. One that could be taken for the end of the pair is quoted: who issues certificates must
    /// not thereby write other pairs.
    fn name(&mut self, key: &str, value: &str) {
        if value.bytes().any(|byte| matches!(byte, b';' | b',' | b'"' | b'\\') || byte.is_ascii_control()) {
            self.quoted(key, value);
            return;
        }
        self.key(key);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// A value in quotes, with quotes and backslashes escaped; control characters become spaces.
    fn quoted(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(b'"');
        for byte in value.bytes() {
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
                control if control.is_ascii_control() => self.out.push(b' '),
                other => self.out.push(other),
            }
        }
        self.out.push(b'"');
    }

    /// A distinguished name, which has escapes already (RFC 2253): these stay, and what lacks one gets it.
    fn distinguished(&mut self, key: &str, name: &str) {
        self.key(key);
        self.out.push(b'"');
        let mut bytes = name.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => {
                    let escaped = bytes.next().filter(|next| !next.is_ascii_control());
                    self.out.extend_from_slice(&[b'\\', escaped.unwrap_or(b'\\')]);
                }
                b'"' => self.out.extend_from_slice(b"\\\""),
                control if control.is_ascii_control() => self.out.push(b' '),
                other => self.out.push(other),
            }
        }
        self.out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nuncio_stream_info::Address;
    use std::sync::Arc;
    use std::time::Instant;

    const ALL: ClientCertDetails =
        ClientCertDetails { cert: true, chain: true, subject: true, issuer: false, uri: true, dns: true, json: false };

    fn session(edit: impl FnOnce(&mut TlsInfo)) -> TlsInfo {
        let mut tls = TlsInfo { peer_fingerprint_256: Some("ab".into()), ..TlsInfo::default() };
        tls.local.uri = vec!["spiffe://n/server".into()];
        edit(&mut tls);
        tls
    }

    fn forwarded(mode: ForwardClientCert, tls: Option<TlsInfo>, sent: Option<&str>) -> Option<String> {
        let nobody = Address::Pipe("".into());
        let mut connection = ConnectionInfo::new(1, Instant::now(), nobody.clone(), nobody);
        connection.tls = tls.map(Arc::new);
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.append_known(Known::X_FORWARDED_CLIENT_CERT, sent.as_bytes());
        }
        forward(mode, ClientCertDetails { subject: true, uri: true, ..Default::default() }, &connection, &mut headers);
        headers.get(Known::X_FORWARDED_CLIENT_CERT).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn modes() {
        use ForwardClientCert::{AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet};
        let own = "By=spiffe://n/server;Hash=ab;Subject=\"\";URI=";
        let appended = format!("By=x,{own}");
        for (mode, shown, expected) in [
            (Sanitize, true, None),
            (Sanitize, false, None),
            (ForwardOnly, true, Some("By=x")),
            (ForwardOnly, false, None),
            (AppendForward, true, Some(&*appended)),
            (AppendForward, false, None),
            (SanitizeSet, true, Some(own)),
            (SanitizeSet, false, None),
            (AlwaysForwardOnly, true, Some("By=x")),
            (AlwaysForwardOnly, false, Some("By=x")),
        ] {
            let tls = shown.then(|| session(|_| ()));
            assert_eq!(forwarded(mode, tls, Some("By=x")).as_deref(), expected, "{mode:?} {shown}");
            let without_certificate = (!shown).then(TlsInfo::default);
            assert_eq!(forwarded(Sanitize, without_certificate, Some("By=x")), None);
        }
        assert_eq!(forwarded(AppendForward, Some(session(|_| ())), None).as_deref(), Some(own));
        assert_eq!(forwarded(AppendForward, Some(TlsInfo::default()), Some("By=x")), None);
    }

    /// The class of CVE-2023-27493: names of a certificate that would write pairs, elements or headers of their own.
    #[test]
    fn cve_2023_27493_names_cannot_leave_their_pair() {
        let mut out = Vec::new();
        let tls = session(|tls| {
            tls.peer.subject = Some("CN=a\\\"b\\\\\",O=x\";Hash=cd\r\nx: y\\".into());
            tls.peer.uri =
                vec!["spiffe://n/a".into(), "spiffe://n/b;Hash=cd,By=\"z\\".into(), "spiffe://n/?q=1".into()];
            tls.peer.dns = vec!["a.test".into(), "b\r\nx: y".into()];
            tls.peer_certificate = Some("-----BEGIN%20".into());
            tls.peer_certificate_chain = Some("-----BEGIN%20CHAIN".into());
        });
        element(&tls, ALL, &mut out);
        let expected = "By=spiffe://n/server;Hash=ab;Cert=\"-----BEGIN%20\";Chain=\"-----BEGIN%20CHAIN\";\
                        Subject=\"CN=a\\\"b\\\\\\\",O=x\\\";Hash=cd  x: y\\\\\";URI=spiffe://n/a;\
                        URI=\"spiffe://n/b;Hash=cd,By=\\\"z\\\\\";URI=spiffe://n/?q=1;DNS=a.test;DNS=\"b  x: y\"";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        object(&tls, ALL, &mut out);
        let expected = r#"{"by":["spiffe://n/server"],"hash":"ab","cert":"-----BEGIN ","chain":["-----BEGIN CHAIN"],"subject":"CN=a\\\"b\\\\\",O=x\";Hash=cd\r\nx: y\\","uri":["spiffe://n/a","spiffe://n/b;Hash=cd,By=\"z\\","spiffe://n/?q=1"],"dns":["a.test","b\r\nx: y"]}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_element_takes_the_format_of_those_before_it() {
        let appended =
            |sent: &str| forwarded(ForwardClientCert::AppendForward, Some(session(|_| ())), Some(sent)).unwrap();
        let object = r#"{"by":["spiffe://n/server"],"hash":"ab"}"#;
        assert_eq!(appended(r#"[{"by":["x"]}]"#), format!(r#"[{{"by":["x"]}},{object}]"#));
        assert_eq!(appended("[]"), format!("[{object}]"));
        for text in ["[", "]", "[x", r#"{"by":["x"]}"#] {
            assert_eq!(appended(text), format!("{text},By=spiffe://n/server;Hash=ab;Subject=\"\";URI="));
        }
    }
}
