//! gRPC calls of the proxy's own, against an origin that speaks HTTP/2.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // Other tests use the rest of it.
mod support;

use nuncio_cluster::config::{ClusterConfig, UpstreamProtocol};
use nuncio_cluster::{ClusterManager, ClusterManagerOptions, WorkerClusters};
use nuncio_filter::grpc::{GrpcError, GrpcRetry, GrpcService};
use nuncio_filter::{Runtime, Worker};
use nuncio_hcm::grpc::unary;
use nuncio_stats::Store;
use nuncio_testkit::gate::Gates;
use nuncio_testkit::origin::{Origin, Reply, Script};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

fn reply(status: &str, times: Option<u32>) -> Reply {
    Reply {
        times,
        headers: vec!["content-type: application/grpc".to_owned()],
        chunks: Some(vec!["\0\0\0\0\x02hi".to_owned()]),
        trailers: vec![format!("grpc-status: {status}"), "grpc-message: busy".to_owned()],
        ..Reply::default()
    }
}

/// What a call to an origin with these replies comes to, and the requests that the origin saw.
fn call(replies: Vec<Reply>, retries: u32) -> (Result<Vec<u8>, GrpcError>, Vec<nuncio_testkit::origin::Seen>) {
    let origin = Origin::start(Script::Http(replies), Gates::default()).unwrap();
    let mut outcome = Err(GrpcError::Malformed("not called".to_owned()));
    support::run(async {
        let mut cluster = ClusterConfig::clone(&support::cluster("g", &[origin.address()]));
        Arc::make_mut(&mut cluster.http).protocol = UpstreamProtocol::Http2;
        let manager = ClusterManager::new(Arc::new(Store::new(1)), ClusterManagerOptions::default());
        manager.set_clusters(vec![Arc::new(cluster)]);
        manager.initialized().await;
        let worker = Worker::new(1, 42, Arc::new(Runtime::default()));
        let clusters = Rc::new(WorkerClusters::start(manager.worker()));
        let client = nuncio_hcm::client(&worker, &clusters);
        let service = GrpcService {
            cluster: "g".into(),
            timeout: Some(Duration::from_secs(30)),
            retry: GrpcRetry { retries, base_interval: Duration::from_millis(1), ..GrpcRetry::default() },
            ..GrpcService::default()
        };
        outcome = unary(&client, &worker, &service, "/pkg.Service/Get", b"abc").await.map(|answer| answer.to_vec());
    });
    (outcome, origin.seen())
}

#[test]
fn a_call_has_its_answer() {
    let (outcome, seen) = call(vec![reply("0", None)], 0);
    assert_eq!(outcome.unwrap(), b"hi");
    assert_eq!(seen[0].head.start, "POST /pkg.Service/Get HTTP/2");
    assert_eq!(seen[0].head.get("grpc-timeout"), Some("30000m"));
    assert_eq!(seen[0].head.get("te"), Some("trailers"));
    assert_eq!(&seen[0].body.data[..], b"\0\0\0\0\x03abc");
}

#[test]
fn a_status_is_an_error_and_unavailable_is_tried_again() {
    let (outcome, seen) = call(vec![reply("5", None)], 3);
    assert_eq!((outcome, seen.len()), (Err(GrpcError::Status(5, "busy".to_owned())), 1));
    let (outcome, seen) = call(vec![reply("14", Some(2)), reply("0", None)], 3);
    assert_eq!((outcome.unwrap(), seen.len()), (b"hi".to_vec(), 3));
    let (outcome, seen) = call(vec![reply("14", None)], 1);
    assert_eq!((outcome, seen.len()), (Err(GrpcError::Status(14, "busy".to_owned())), 2));
}
