use super::cache::digest;
use super::filter::{Discover, Exchange, PeerMetadataFactory, Tell, is_left_out};
use crate::base64;
use crate::istio::workload::{Labels, Workload};
use crate::testing::TestStream;
use nuncio_filter::{End, HttpFilter, HttpFilterFactory, Step};
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_stream_info::Metadata;

fn workload(name: &str) -> Workload {
    Workload { name: name.into(), namespace: "app".into(), ..Workload::default() }
}

fn header_of(workload: &Workload) -> Vec<u8> {
    base64::encode(&workload.to_wire())
}

fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get_name(&HeaderName::new(name).unwrap())
}

fn set(headers: &mut HeaderMap, name: &str, value: &[u8]) {
    headers.set(&HeaderName::new(name).unwrap(), value);
}

const ID: &str = "x-envoy-peer-metadata-id";
const VALUE: &str = "x-envoy-peer-metadata";

fn filter(test: &TestStream, inbound: bool) -> Box<dyn HttpFilter> {
    let tell = Some(Tell { skip_external_clusters: false });
    let labels = Labels::new();
    let exchange = Exchange {
        from_client: if inbound { vec![Discover::Headers, Discover::Baggage] } else { Vec::new() },
        from_server: if inbound { Vec::new() } else { vec![Discover::Headers] },
        to_client: tell.filter(|_| inbound),
        to_server: tell.filter(|_| !inbound),
        shared_with_upstream: false,
        digest: digest(&labels),
        labels,
        id: b"own-id".as_slice().into(),
        value: header_of(&workload("own")).into(),
    };
    PeerMetadataFactory::new(exchange).create(&test.worker)
}

fn peer(test: &TestStream, name: &str) -> Option<String> {
    test.info.filter_state.get(name)?.to_plain().map(|text| text.into_owned())
}

#[test]
fn the_client_is_found_out_and_told() {
    let mut test = TestStream::new();
    let mut filter = filter(&test, true);
    set(&mut test.request, ID, b"client-id");
    set(&mut test.request, VALUE, &header_of(&workload("client")));
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
    assert_eq!((get(&test.request, ID), get(&test.request, VALUE)), (None, None));
    assert_eq!(peer(&test, "downstream_peer").as_deref(), Some("workload=client,namespace=app"));
    assert_eq!(peer(&test, "downstream_peer_obj"), peer(&test, "downstream_peer"));
    assert!(matches!(filter.response_headers(&mut test.stream(), End::Last), Step::Next));
    assert_eq!(get(&test.response, ID), Some(&b"own-id"[..]));
    assert_eq!(get(&test.response, VALUE), Some(&header_of(&workload("own"))[..]));
}

#[test]
fn a_client_that_says_nothing_is_told_nothing() {
    let mut test = TestStream::new();
    let mut filter = filter(&test, true);
    set(&mut test.request, "baggage", b"k8s.pod.name=ambient");
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
    assert_eq!(peer(&test, "downstream_peer").as_deref(), Some("type=pod,workload=ambient"));
    assert!(get(&test.request, "baggage").is_some());
    assert!(matches!(filter.response_headers(&mut test.stream(), End::Last), Step::Next));
    assert_eq!((get(&test.response, ID), get(&test.response, VALUE)), (None, None));
}

#[test]
fn nonsense_is_taken_off_too() {
    let mut test = TestStream::new();
    let mut filter = filter(&test, true);
    set(&mut test.request, VALUE, b"?!");
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
    assert_eq!(get(&test.request, VALUE), None);
    assert_eq!(peer(&test, "downstream_peer"), None);
    // It said something, and so it is answered.
    assert!(matches!(filter.response_headers(&mut test.stream(), End::Last), Step::Next));
    assert!(get(&test.response, VALUE).is_some());
    assert_eq!(get(&test.response, ID), None);
}

#[test]
fn the_server_is_told_and_found_out() {
    let mut test = TestStream::new();
    let mut filter = filter(&test, false);
    set(&mut test.request, ID, b"what the application made up");
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
    assert_eq!(get(&test.request, ID), Some(&b"own-id"[..]));
    assert_eq!(get(&test.request, VALUE), Some(&header_of(&workload("own"))[..]));
    set(&mut test.response, VALUE, &header_of(&workload("server")));
    assert!(matches!(filter.response_headers(&mut test.stream(), End::Last), Step::Next));
    assert_eq!(get(&test.response, VALUE), None);
    assert_eq!(peer(&test, "upstream_peer").as_deref(), Some("workload=server,namespace=app"));
    assert_eq!(peer(&test, "downstream_peer"), None);
}

#[test]
fn some_clusters_are_told_nothing() {
    let tell = |skip_external_clusters| Tell { skip_external_clusters };
    let mut metadata = Metadata::new();
    assert!(!is_left_out(tell(true), "server", Some(&metadata)));
    assert!(is_left_out(tell(true), "PassthroughCluster", None));
    assert!(!is_left_out(tell(false), "PassthroughCluster", None));
    metadata.namespace_mut("istio").set("external", true);
    assert!(is_left_out(tell(true), "server", Some(&metadata)));
    assert!(!is_left_out(tell(false), "server", Some(&metadata)));
    metadata.namespace_mut("istio").set("disable_mx", true);
    assert!(is_left_out(tell(false), "server", Some(&metadata)));
}
