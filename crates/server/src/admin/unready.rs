//! `/init_dump`: what the start waits for.

use super::endpoint::Call;
use super::json::Json;
use super::response::Response;
use std::time::Instant;

/// `/init_dump`, as Envoy's `admin.v3.UnreadyTargetsDumps`, with the seconds that each target has been waited for.
pub(super) fn init_dump(call: &Call<'_>) -> Response {
    let pending = call.admin.server.clusters.pending();
    Response::json(to_json(pending.iter().map(|(name, since)| (&**name, *since)), super::now()).document())
}

fn to_json<'a>(pending: impl Iterator<Item = (&'a str, Instant)>, now: Instant) -> Json {
    let target = |(name, since): (&str, Instant)| {
        let waited = now.saturating_duration_since(since).as_secs();
        Json::text(format!("cluster {name} (for {waited} s)"))
    };
    let targets: Vec<Json> = pending.map(target).collect();
    if targets.is_empty() {
        return Json::Object(Vec::new());
    }
    Json::object([
        ("@type", Json::text("type.googleapis.com/envoy.admin.v3.UnreadyTargetsDumps")),
        (
            "unready_targets_dumps",
            Json::List(vec![Json::object([
                ("name", Json::text("init manager Server")),
                ("target_names", Json::List(targets)),
            ])]),
        ),
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
        assert_eq!(to_json([].into_iter(), now).document(), "{}\n");
        let json = to_json([("c", since)].into_iter(), now).document();
        assert!(json.contains("\"cluster c (for 7 s)\""), "{json}");
    }
}
