//! `/listeners`

use super::endpoint::Call;
use super::json::Json;
use super::response::Response;
use nuncio_io::Address;

/// `/listeners`
pub(super) fn listeners(call: &Call<'_>) -> Response {
    let manager = call.admin.server.listeners.borrow();
    let listeners = manager.served().iter().map(|served| (&*served.config.name, served.addresses.as_slice()));
    match call.parameters.get("format") {
        Some("json") => Response::json(to_json(listeners).document()),
        _ => Response::text(to_text(listeners)),
    }
}

fn to_text<'a>(listeners: impl Iterator<Item = (&'a str, &'a [Address])>) -> String {
    let mut out = String::new();
    for (name, addresses) in listeners {
        addresses.iter().for_each(|address| out.push_str(&format!("{name}::{address}\n")));
    }
    out
}

fn to_json<'a>(listeners: impl Iterator<Item = (&'a str, &'a [Address])>) -> Json {
    let status = |(name, addresses): (&str, &[Address])| {
        let mut members = vec![("name".to_owned(), Json::text(name))];
        let mut addresses = addresses.iter().map(address);
        members.extend(addresses.next().map(|first| ("local_address".to_owned(), first)));
        let additional: Vec<Json> = addresses.collect();
        if !additional.is_empty() {
            members.push(("additional_local_addresses".to_owned(), Json::List(additional)));
        }
        Json::Object(members)
    };
    let statuses: Vec<Json> = listeners.map(status).collect();
    match statuses.is_empty() {
        true => Json::Object(Vec::new()),
        false => Json::object([("listener_statuses", Json::List(statuses))]),
    }
}

/// `core.v3.Address`
fn address(address: &Address) -> Json {
    match address {
        Address::Ip(ip) => {
            let port = ("port_value", Json::Number(ip.port().into()));
            Json::object([("socket_address", Json::object([("address", Json::text(ip.ip().to_string())), port]))])
        }
        Address::Pipe(path) => Json::object([("pipe", Json::object([("path", Json::text(&**path))]))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json() {
        let ip = |text: &str| Address::Ip(text.parse().unwrap());
        let (first, second) = ([ip("127.0.0.1:80"), ip("[::1]:81")], [Address::pipe("/run/x")]);
        let listeners = || [("a", &first[..]), ("b", &second[..])].into_iter();
        assert_eq!(to_text(listeners()), "a::127.0.0.1:80\na::[::1]:81\nb::/run/x\n");
        let json = to_json(listeners()).document();
        let compact: String = json.split_whitespace().collect();
        assert_eq!(
            compact,
            r#"{"listener_statuses":[{"name":"a","local_address":{"socket_address":{"address":"127.0.0.1","port_value":80}},"additional_local_addresses":[{"socket_address":{"address":"::1","port_value":81}}]},{"name":"b","local_address":{"pipe":{"path":"/run/x"}}}]}"#
        );
        assert_eq!(to_json([].into_iter()).document(), "{}\n");
    }
}
