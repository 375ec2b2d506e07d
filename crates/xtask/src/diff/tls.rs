//! TLS in cases: the certificates that configurations and clients have, and the client.
//!
//! The directory `{{tls}}` holds, for each of the names below, `<name>.crt` and `<name>.key`; and `ca.crt`, `other-ca.crt`. They
//! `bundles.json` says that the authority of `ca.crt` is that of the trust domain `nuncio`. They
//! are the same for both programs, as their digests show in what is compared.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use nuncio_testkit::authority::Authority;
use nuncio_testkit::client::Response;
use nuncio_testkit::message::{Body, End, Head};
use tempfile::TempDir;

static DIRECTORY: LazyLock<Result<TempDir, String>> = LazyLock::new(|| {
    let directory = TempDir::new().map_err(|error| error.to_string())?;
    write(directory.path());
    Ok(directory)
});

fn write(directory: &Path) {
    let stranger = Authority::new("other authority");
    stranger.write(directory, "stranger", &["DNS:client.test", "URI:spiffe://nuncio/client"]);
    // The authority of the stranger is the one that is not trusted.
    let _ = std::fs::rename(directory.join("ca.crt"), directory.join("other-ca.crt"));
    let authority = Authority::new("authority");
    for (stem, names) in [
        ("server", &["DNS:server.test", "DNS:*.server.test", "URI:spiffe://nuncio/server"][..]),
        ("second", &["DNS:second.test"]),
        ("blog", &["DNS:blog.test"]),
        ("client", &["DNS:client.test", "URI:spiffe://nuncio/client"]),
        ("two", &["URI:spiffe://nuncio/one", "URI:spiffe://nuncio/two", "DNS:one.test", "DNS:two.test"]),
        ("nameless", &[]),
    ] {
        authority.write(directory, stem, names);
    }
    // A file that is lacking shows in the cases that name it.
    let authority = std::fs::read_to_string(directory.join("ca.crt")).unwrap_or_default();
    let base64: String = authority.lines().filter(|line| !line.starts_with("-----")).collect();
    let keys = serde_json::json!([{"kty": "EC", "use": "x509-svid", "x5c": [base64]}]);
    let bundles = serde_json::json!({"trust_domains": {"nuncio": {"spiffe_sequence": 1, "keys": keys}}});
    let _ = std::fs::write(directory.join("bundles.json"), bundles.to_string());
}

/// The directory, made when it is first asked for.
pub fn directory() -> Result<String, String> {
    DIRECTORY.as_ref().map(|directory| directory.path().display().to_string()).map_err(Clone::clone)
}

/// Asks `https://server.test/`, or the URL among the arguments, of a port of this host. Without a head where there is no
/// response.
pub fn curl(port: u16, arguments: &[String]) -> Result<Response, String> {
    let directory = directory()?;
    let mut command = Command::new("curl");
    command.args(["-s", "-i", "--max-time", "10", "--cacert", "ca.crt"]);
    command.args(["--connect-to", &format!("::127.0.0.1:{port}")]).args(arguments);
    if !arguments.iter().any(|argument| argument.contains("://")) {
        command.arg("https://server.test/");
    }
    let output = command.current_dir(directory).output().map_err(|error| format!("curl: {error}"))?;
    Ok(parse(&output.stdout))
}

/// Heads end with an empty line; those before the last one are informational.
fn parse(mut bytes: &[u8]) -> Response {
    let mut response = Response::default();
    loop {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return response };
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().trim_end().to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        let head = Head { start, fields };
        if head.word(1).starts_with('1') {
            response.interim.push(head);
            continue;
        }
        response.head = Some(head);
        response.body = Body { data: bytes.to_vec(), end: End::Complete, ..Body::default() };
        return response;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_curl_prints_is_read() {
        let response = super::parse(b"HTTP/2 200 \r\nserver: x\r\ncontent-length: 2\r\n\r\nok");
        let head = response.head.unwrap();
        assert_eq!((head.start.as_str(), head.get("server")), ("HTTP/2 200", Some("x")));
        assert_eq!(response.body.data, b"ok");
        assert!(super::parse(b"").head.is_none());
    }
}
