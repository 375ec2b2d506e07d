//! What an admin request asks for: path and parameters out of the target.

/// Parameters that are read; more are ignored.
const MAX_PARAMETERS: usize = 1000;

/// Path and parameters of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Without dot segments, repeated slashes and needless escapes.
    pub path: String,
    pub parameters: Parameters,
}

impl Target {
    /// Reads a target. None if it is no path (`*`, an absolute URL).
    pub(super) fn parse(target: &str) -> Option<Target> {
        if !target.starts_with('/') {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Target { path: normalize(path), parameters: Parameters::parse(query) })
    }
}

/// Decoded parameters, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pairs: Vec<(String, String)>,
}

impl Parameters {
    /// Reads `name=value&name`. Characters that should have been escaped are taken as they are.
    pub(super) fn parse(query: &str) -> Parameters {
        let parts = query.split('&').filter(|part| !part.is_empty()).take(MAX_PARAMETERS);
        let pairs = parts.map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        });
        Parameters { pairs: pairs.collect() }
    }

    /// The value of the first parameter of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The value of the first parameter of this name, unless it is empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Whether there is a parameter of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// Undoes percent-encoding; an escape that is none stays as it is, and what is no UTF-8 becomes U+FFFD.
fn decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match escape(rest) {
            Some(byte) => {
                decoded.push(byte);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The byte that `%XX` at the start stands for.
fn escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// The path as routes see it: escapes of unreserved characters decoded, dot segments resolved, slashes merged
/// (RFC 3986 §6.2.2 and Envoy's `merge_slashes`).
fn normalize(path: &str) -> String {
    let path = decode_unreserved(path);
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let directory = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    let end = if directory && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let unreserved = escape(rest.as_bytes())
            .filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'));
        match unreserved {
            Some(byte) => {
                decoded.push(char::from(byte));
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                decoded.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |target: &str, path: &str| assert_eq!(Target::parse(target).unwrap().path, path, "{target}");
        check("/", "/");
        check("/ready", "/ready");
        check("//stats?x", "/stats");
        check("//stats///prometheus", "/stats/prometheus");
        check("/ready/", "/ready/");
        check("/a/../ready", "/ready");
        check("/./ready", "/ready");
        check("/../..", "/");
        check("/%72eady", "/ready");
        check("/a%2Fb", "/a%2Fb");
        check("/%", "/%");
        check("/%zz", "/%zz");
        check("/é%C3%A9", "/é%C3%A9");
        assert_eq!(Target::parse("*"), None);
        assert_eq!(Target::parse("http://x/ready"), None);
    }

    #[test]
    fn parameters() {
        let check = |query: &str, expected: &[(&str, &str)]| {
            let parameters = Parameters::parse(query);
            assert_eq!(parameters.iter().collect::<Vec<_>>(), expected, "{query}");
        };
        check("", &[]);
        check("usedonly", &[("usedonly", "")]);
        check("a=b=c&&d", &[("a", "b=c"), ("d", "")]);
        check(
            r"filter=^listener\..*\.active$&format=json",
            &[("filter", r"^listener\..*\.active$"), ("format", "json")],
        );
        check("a=%5Ba%20b%5D+%", &[("a", "[a b]+%")]);
        check("a=%ff%4", &[("a", "\u{fffd}%4")]);
        check("=v", &[("", "v")]);
        assert_eq!(Parameters::parse("a=1&a=2").get("a"), Some("1"));
        assert_eq!(Parameters::parse("a=").text("a"), None);
        assert_eq!(Parameters::parse(&"a&".repeat(5000)).len(), MAX_PARAMETERS);
    }
}
