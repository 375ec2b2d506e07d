use super::filter::{is_exempt, spoken};
use nuncio_cluster::config::UpstreamProtocol;
use nuncio_stream_info::{Metadata, Protocol};

#[test]
fn the_offer_goes_by_what_is_spoken_to_the_host() {
    for (wanted, downstream, place) in [
        (UpstreamProtocol::Http1, Some(Protocol::Http2), 1),
        (UpstreamProtocol::Http2, Some(Protocol::Http10), 2),
        (UpstreamProtocol::Auto, Some(Protocol::Http11), 2),
        (UpstreamProtocol::Downstream, Some(Protocol::Http10), 0),
        (UpstreamProtocol::Downstream, Some(Protocol::Http11), 1),
        (UpstreamProtocol::Downstream, Some(Protocol::Http2), 2),
        (UpstreamProtocol::Downstream, None, 1),
    ] {
        assert_eq!(spoken(wanted, downstream), place, "{wanted:?} {downstream:?}");
    }
}

#[test]
fn a_cluster_may_be_exempt() {
    let mut metadata = Metadata::new();
    assert!(!is_exempt(None));
    assert!(!is_exempt(Some(&metadata)));
    metadata.namespace_mut("istio").set("alpn_override", "true");
    assert!(!is_exempt(Some(&metadata)));
    metadata.namespace_mut("istio").set("alpn_override", "false");
    assert!(is_exempt(Some(&metadata)));
}
