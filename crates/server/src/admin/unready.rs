//! `/init_dump`: what the start waits for.

use super::endpoint::Call;
use super::json::Json;
use super::response::Response;
use crate::xds::Waits;
use std::time::Instant;

/// What waits, and for what since when.
type Waiting = (String, Vec<(String, Instant)>);

/// `/init_dump`, as Envoy's `admin.v3.UnreadyTargetsDumps`, with the seconds that each target has been waited for.
pub(super) fn init_dump(call: &Call<'_>) -> Response {
    let server = &call.admin.server;
    let clusters = server.clusters.pending().into_iter().map(|(name, since)| (format!("cluster {name}"), since));
    let targets = |waits: &Waits| waits.pending().into_iter().map(|(name, since)| (name.to_string(), since));
    let mut waiting = vec![("init manager Server".to_owned(), clusters.chain(targets(&server.xds.waits)).collect())];
    if let Some(listeners) = server.xds.lds.borrow().as_ref() {
        let warming = listeners.pending().into_iter();
        waiting.extend(warming.map(|(name, waits)| (format!("listener {name}"), targets(&waits).collect())));
    }
    Response::json(to_json(&waiting, super::now()).document())
}

fn to_json(waiting: &[Waiting], now: Instant) -> Json {
    let target = |(name, since): &(String, Instant)| {
        let waited = now.saturating_duration_since(*since).as_secs();
        Json::text(format!("{name} (for {waited} s)"))
    };
    let dumps: Vec<Json> = waiting
        .iter()
        .filter(|(_, targets)| !targets.is_empty())
        .map(|(name, targets)| {
            Json::object([
                ("name", Json::text(name.clone())),
                ("target_names", Json::List(targets.iter().map(target).collect())),
            ])
        })
        .collect();
    if dumps.is_empty() {
        return Json::Object(Vec::new());
    }
    Json::object([
        ("@type", Json::text("type.googleapis.com/envoy.admin.v3.UnreadyTargetsDumps")),
        ("unready_targets_dumps", Json::List(dumps)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_waited_for() {
        let since = Instant::now();
        let now = since + Duration::from_secs(7);
        assert_eq!(to_json(&[("init manager Server".to_owned(), Vec::new())], now).document(), "{}\n");
        let json = to_json(&[("init manager Server".to_owned(), vec![("cluster c".to_owned(), since)])], now);
        assert!(json.document().contains("\"cluster c (for 7 s)\""), "{}", json.document());
    }
}
