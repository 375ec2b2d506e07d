//! Exchanges with a server, message by message.

use crate::{Dialect, Message, Mux, MuxOptions, Names, Received, Request, ResourceType, pb};
use nuncio_api::pb::envoy::config::core::v3::Node;
use nuncio_api::wkt::Any;
use prost::Message as _;
use std::time::{Duration, Instant};

use ResourceType::{Cluster, Endpoint, Listener, Route};

/// A mux with an open stream.
struct Exchange {
    mux: Mux,
    now: Instant,
}

impl Exchange {
    fn new(dialect: Dialect) -> Exchange {
        let node = Node { id: "me".to_owned(), ..Node::default() };
        let options = MuxOptions { dialect, node, node_on_first_only: true, rate_limit: None };
        let mut mux = Mux::new(options);
        mux.opened();
        Exchange { mux, now: Instant::now() }
    }

    /// What goes out now, in short: `cds[a,b] v1 n1`, with `node` and `NACK` where they are.
    fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.mux.next_request(self.now)).map(|request| short(&request)).collect()
    }

    /// Receives a response, and says what came of it.
    fn answer(
        &mut self,
        kind: ResourceType,
        (version, nonce): (&str, &str),
        names: &[&str],
        outcome: Result<(), &str>,
    ) {
        let received = self.receive(kind, (version, nonce), names);
        match received {
            Received::Deliver(delivery) => self.mux.done(delivery, &outcome.map_err(str::to_owned)),
            other => panic!("{other:?}"),
        }
    }

    fn receive(&mut self, kind: ResourceType, (version, nonce): (&str, &str), names: &[&str]) -> Received {
        let message = match self.mux.dialect() {
            Dialect::Sotw => Message::Sotw(pb::DiscoveryResponse {
                version_info: version.to_owned(),
                nonce: nonce.to_owned(),
                type_url: kind.type_url().to_owned(),
                resources: names.iter().map(|name| body(kind, name)).collect(),
                ..pb::DiscoveryResponse::default()
            }),
            Dialect::Delta => Message::Delta(pb::DeltaDiscoveryResponse {
                nonce: nonce.to_owned(),
                type_url: kind.type_url().to_owned(),
                resources: names.iter().map(|name| resource(kind, name, version, None)).collect(),
                ..pb::DeltaDiscoveryResponse::default()
            }),
        };
        self.mux.receive(message, self.now)
    }
}

fn body(kind: ResourceType, name: &str) -> Any {
    let mut value = vec![0x0a, u8::try_from(name.len()).unwrap()];
    value.extend_from_slice(name.as_bytes());
    Any { type_url: kind.type_url().to_owned(), value }
}

fn resource(kind: ResourceType, name: &str, version: &str, ttl: Option<i64>) -> pb::Resource {
    pb::Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(body(kind, name)),
        ttl: ttl.map(|seconds| nuncio_api::wkt::Duration { seconds, nanos: 0 }),
        ..pb::Resource::default()
    }
}

fn kind_of(url: &str) -> &'static str {
    match ResourceType::of_url(url) {
        Some(Cluster) => "cds",
        Some(Endpoint) => "eds",
        Some(Listener) => "lds",
        Some(Route) => "rds",
        _ => "?",
    }
}

fn short(request: &Request) -> String {
    match request {
        Request::Sotw(request) => {
            let mut text = format!("{}[{}]", kind_of(&request.type_url), request.resource_names.join(","));
            push(&mut text, &request.version_info);
            push(&mut text, &request.response_nonce);
            end(&mut text, request.error_detail.is_some(), request.node.is_some());
            text
        }
        Request::Delta(request) => {
            let mut text = kind_of(&request.type_url).to_owned();
            for name in &request.resource_names_subscribe {
                text += &format!(" +{name}");
            }
            for name in &request.resource_names_unsubscribe {
                text += &format!(" -{name}");
            }
            let mut known: Vec<_> = request.initial_resource_versions.iter().collect();
            known.sort();
            for (name, version) in known {
                text += &format!(" {name}={version}");
            }
            push(&mut text, &request.response_nonce);
            end(&mut text, request.error_detail.is_some(), request.node.is_some());
            text
        }
    }
}

fn push(text: &mut String, part: &str) {
    if !part.is_empty() {
        *text += " ";
        *text += part;
    }
}

fn end(text: &mut String, is_nack: bool, has_node: bool) {
    if is_nack {
        *text += " NACK";
    }
    if has_node {
        *text += " node";
    }
}

#[test]
fn state_of_the_world_acks_and_nacks() {
    let mut it = Exchange::new(Dialect::Sotw);
    it.mux.watch(Cluster, Names::All);
    assert_eq!(it.sent(), ["cds[] node"]);
    it.answer(Cluster, ("1", "n1"), &["a"], Ok(()));
    assert_eq!(it.sent(), ["cds[] 1 n1"]);
    it.answer(Cluster, ("2", "n2"), &["a"], Err("broken"));
    assert_eq!(it.sent(), ["cds[] 1 n2 NACK"], "the version that stays in force");
    it.answer(Cluster, ("3", "n3"), &["a"], Ok(()));
    assert_eq!(it.sent(), ["cds[] 3 n3"]);
    it.mux.closed();
    it.mux.opened();
    assert_eq!(it.sent(), ["cds[] 3 node"], "a nonce is of its stream");
}

#[test]
fn state_of_the_world_names() {
    let mut it = Exchange::new(Dialect::Sotw);
    let first = it.mux.watch(Endpoint, Names::one("a"));
    assert_eq!(it.sent(), ["eds[a] node"]);
    it.answer(Endpoint, ("1", "n1"), &["a"], Ok(()));
    let second = it.mux.watch(Endpoint, Names::one("b"));
    assert_eq!(it.sent(), ["eds[a,b] 1 n1"], "an ACK and a change of names are one request");
    it.mux.watch(Endpoint, Names::one("b"));
    it.mux.unwatch(Endpoint, first);
    it.mux.unwatch(Endpoint, second);
    assert_eq!(it.sent(), ["eds[b] 1 n1"]);
}

#[test]
fn state_of_the_world_shares() {
    let mut it = Exchange::new(Dialect::Sotw);
    let watches = [it.mux.watch(Endpoint, Names::one("a")), it.mux.watch(Endpoint, Names::one("b"))];
    let Received::Deliver(delivery) = it.receive(Endpoint, ("1", "n"), &["b", "nobody"]) else { panic!() };
    assert_eq!(delivery.shares.len(), 1, "who gets nothing is not disturbed");
    assert_eq!((delivery.shares[0].watch, delivery.shares[0].resources[0].name.as_str()), (watches[1], "b"));
    it.mux.done(delivery, &Ok(()));
    it.mux.watch(Cluster, Names::All);
    let Received::Deliver(delivery) = it.receive(Cluster, ("1", "n"), &[]) else { panic!() };
    assert_eq!((delivery.shares.len(), delivery.is_complete), (1, true), "nothing is an answer, too");
    it.mux.done(delivery, &Ok(()));
}

#[test]
fn pauses_put_requests_together() {
    for (dialect, expected) in
        [(Dialect::Sotw, vec!["eds[a,b]", "cds[] 1 n1"]), (Dialect::Delta, vec!["cds n1", "eds +a +b"])]
    {
        let mut it = Exchange::new(dialect);
        it.mux.watch(Cluster, Names::All);
        it.sent();
        let Received::Deliver(delivery) = it.receive(Cluster, ("1", "n1"), &["a", "b"]) else { panic!() };
        it.mux.pause(Endpoint);
        it.mux.watch(Endpoint, Names::one("a"));
        it.mux.watch(Endpoint, Names::one("b"));
        assert!(it.sent().is_empty());
        it.mux.resume(Endpoint);
        it.mux.done(delivery, &Ok(()));
        assert_eq!(it.sent(), expected, "{dialect:?}");
    }
}

#[test]
fn an_ack_waits_for_the_end_of_a_pause() {
    for dialect in [Dialect::Sotw, Dialect::Delta] {
        let mut it = Exchange::new(dialect);
        it.mux.watch(Cluster, Names::All);
        it.sent();
        it.mux.pause(Cluster);
        it.answer(Cluster, ("1", "n1"), &["a"], Ok(()));
        assert!(it.sent().is_empty(), "{dialect:?}");
        it.mux.resume(Cluster);
        assert_eq!(it.sent().len(), 1, "{dialect:?}");
    }
}

#[test]
fn delta_subscribes_and_acknowledges_apart() {
    let mut it = Exchange::new(Dialect::Delta);
    it.mux.watch(Cluster, Names::All);
    let one = it.mux.watch(Endpoint, Names::one("a"));
    assert_eq!(it.sent(), ["cds node", "eds +a"]);
    it.answer(Cluster, ("1", "n1"), &["c"], Ok(()));
    it.answer(Endpoint, ("7", "n2"), &["a"], Err("broken"));
    it.mux.watch(Endpoint, Names::one("b"));
    it.mux.unwatch(Endpoint, one);
    assert_eq!(it.sent(), ["cds n1", "eds n2 NACK", "eds +b -a"]);
}

#[test]
fn delta_begins_again_with_what_it_has() {
    let mut it = Exchange::new(Dialect::Delta);
    it.mux.watch(Cluster, Names::All);
    it.mux.watch(Endpoint, Names::These(vec!["a".into(), "b".into()]));
    it.sent();
    it.answer(Cluster, ("1", "n1"), &["c", "d"], Ok(()));
    it.answer(Endpoint, ("7", "n2"), &["a", "unasked"], Ok(()));
    it.answer(Endpoint, ("8", "n3"), &["b"], Err("broken"));
    it.mux.closed();
    it.mux.opened();
    assert_eq!(it.sent(), ["cds c=1 d=1 node", "eds +a +b a=7"], "what was refused is not known");
}

#[test]
fn delta_forgets_what_is_removed() {
    let mut it = Exchange::new(Dialect::Delta);
    let watch = it.mux.watch(Endpoint, Names::one("a"));
    it.sent();
    it.answer(Endpoint, ("1", "n1"), &["a"], Ok(()));
    let response = pb::DeltaDiscoveryResponse {
        type_url: Endpoint.type_url().to_owned(),
        nonce: "n2".to_owned(),
        removed_resources: vec!["a".to_owned(), "never".to_owned()],
        ..pb::DeltaDiscoveryResponse::default()
    };
    let Received::Deliver(delivery) = it.mux.receive(Message::Delta(response), it.now) else { panic!() };
    assert_eq!(delivery.shares.len(), 1);
    assert_eq!((delivery.shares[0].watch, &delivery.shares[0].removed), (watch, &vec!["a".to_owned()]));
    it.mux.done(delivery, &Ok(()));
    it.mux.closed();
    it.mux.opened();
    it.sent();
    it.mux.unwatch(Endpoint, watch);
    assert_eq!(it.sent(), ["eds -a"]);
}

#[test]
fn what_is_no_response_of_its_type_is_refused_as_a_whole() {
    for dialect in [Dialect::Sotw, Dialect::Delta] {
        let mut it = Exchange::new(dialect);
        let watch = it.mux.watch(Cluster, Names::All);
        it.sent();
        let Received::Rejected { watches, reason, delivery, .. } = it.receive(Cluster, ("1", "n"), &["a", "b", "a"])
        else {
            panic!()
        };
        it.mux.done(delivery, &Err(reason.clone()));
        assert_eq!(watches, [watch]);
        assert!(reason.contains("duplicate") && reason.contains(" a "), "{reason}");
        let [nack] = &it.sent()[..] else { panic!() };
        assert!(nack.ends_with("n NACK"), "{nack}");
        assert!(matches!(it.receive(Listener, ("1", "n"), &[]), Received::Ignored(_)), "{dialect:?}");
        assert!(it.sent().is_empty(), "{dialect:?}");
    }
    let mut it = Exchange::new(Dialect::Sotw);
    it.mux.watch(Cluster, Names::All);
    it.sent();
    for value in
        [Any { type_url: "x".to_owned(), value: Vec::new() }, Any { value: vec![0x0a, 9], ..body(Cluster, "a") }]
    {
        let response = pb::DiscoveryResponse {
            type_url: Cluster.type_url().to_owned(),
            resources: vec![value],
            ..pb::DiscoveryResponse::default()
        };
        assert!(matches!(it.mux.receive(Message::Sotw(response), it.now), Received::Rejected { .. }));
    }
}

#[test]
fn a_time_to_live_ends_without_a_heartbeat() {
    let mut it = Exchange::new(Dialect::Delta);
    let watch = it.mux.watch(Endpoint, Names::one("a"));
    it.sent();
    let response = |body: bool| {
        let mut resource = resource(Endpoint, "a", "1", Some(10));
        if !body {
            resource.resource = None;
        }
        Message::Delta(pb::DeltaDiscoveryResponse {
            type_url: Endpoint.type_url().to_owned(),
            resources: vec![resource],
            ..pb::DeltaDiscoveryResponse::default()
        })
    };
    let Received::Deliver(delivery) = it.mux.receive(response(true), it.now) else { panic!() };
    it.mux.done(delivery, &Ok(()));
    it.now += Duration::from_secs(9);
    let Received::Deliver(delivery) = it.mux.receive(response(false), it.now) else { panic!() };
    assert!(delivery.shares.is_empty(), "a heartbeat is no update, and no removal");
    it.mux.done(delivery, &Ok(()));
    it.now += Duration::from_secs(9);
    assert!(it.mux.expire(it.now).is_empty());
    assert_eq!(it.mux.deadline(it.now), Some(it.now + Duration::from_secs(1)));
    it.now += Duration::from_secs(1);
    let expired = it.mux.expire(it.now);
    assert_eq!(expired.len(), 1);
    assert_eq!((expired[0].shares[0].watch, expired[0].shares[0].removed.as_slice()), (watch, &["a".to_owned()][..]));
}

#[test]
fn requests_wait_for_tokens() {
    let node = Node::default();
    let rate_limit = Some(crate::RateLimit::new(1, 2.0));
    let mut mux = Mux::new(MuxOptions { dialect: Dialect::Sotw, node, node_on_first_only: true, rate_limit });
    mux.opened();
    let now = Instant::now();
    mux.watch(Cluster, Names::All);
    mux.watch(Listener, Names::All);
    assert!(mux.next_request(now).is_some());
    assert!(mux.next_request(now).is_none());
    assert!(mux.is_rate_limited());
    let at = mux.deadline(now).unwrap();
    assert!(mux.next_request(at).is_some());
    assert!(mux.next_request(at).is_none() && !mux.is_rate_limited());
}

#[test]
fn back_off_grows_and_is_reset() {
    let mut back_off = crate::BackOff::new(Duration::from_millis(500), Duration::from_secs(30));
    let waits: Vec<u64> = (0..9).map(|_| back_off.next(u64::MAX).as_millis() as u64).collect();
    assert!(
        waits.iter().zip([500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]).all(|(wait, most)| *wait < most)
    );
    back_off.reset();
    assert!(back_off.next(499).as_millis() < 500);
}

#[test]
fn wire_bytes_of_a_heartbeat_in_a_state_of_the_world() {
    let mut it = Exchange::new(Dialect::Sotw);
    it.mux.watch(Endpoint, Names::one("a"));
    it.sent();
    let wrapped = |resource: pb::Resource, version: &str| {
        Message::Sotw(pb::DiscoveryResponse {
            version_info: version.to_owned(),
            type_url: Endpoint.type_url().to_owned(),
            resources: vec![Any {
                type_url: "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned(),
                value: resource.encode_to_vec(),
            }],
            ..pb::DiscoveryResponse::default()
        })
    };
    let Received::Deliver(delivery) = it.mux.receive(wrapped(resource(Endpoint, "a", "1", Some(10)), "1"), it.now)
    else {
        panic!()
    };
    assert_eq!(delivery.shares[0].resources[0].ttl, Some(Duration::from_secs(10)));
    it.mux.done(delivery, &Ok(()));
    it.now += Duration::from_secs(9);
    let heartbeat = pb::Resource { resource: None, ..resource(Endpoint, "a", "1", Some(10)) };
    let Received::Deliver(delivery) = it.mux.receive(wrapped(heartbeat, "1"), it.now) else { panic!() };
    assert!(delivery.shares.is_empty());
    it.mux.done(delivery, &Ok(()));
    assert!(it.mux.expire(it.now + Duration::from_secs(9)).is_empty());
    assert_eq!(it.mux.expire(it.now + Duration::from_secs(10)).len(), 1);
}
