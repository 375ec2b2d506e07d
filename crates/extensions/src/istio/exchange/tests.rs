use super::*;
use crate::istio::workload::UPSTREAM_PEER;
use nuncio_stats::Store;
use nuncio_stream_info::FilterState;
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn workload(name: &str) -> Workload {
    Workload { name: name.into(), namespace: "app".into(), ..Workload::default() }
}

struct Side {
    store: Store,
    exchange: Arc<Exchange>,
    state: ConnectionState,
}

impl Side {
    fn new(name: &str) -> Side {
        let store = Store::new(1);
        let exchange = Exchange {
            protocol: "istio-peer-exchange".into(),
            labels: Labels::new(),
            own: Exchange::message(&workload(name), "node"),
            stats: MetadataExchangeStats::register(&store.scope("metadata_exchange", &[])),
            peer: UPSTREAM_PEER,
        };
        Side { store, exchange: Arc::new(exchange), state: ConnectionState::shared() }
    }

    fn carry(&self, stream: DuplexStream, protocol: &str) -> Transport {
        self.exchange.carry(Transport::Other(Box::new(stream)), Some(protocol), &self.state)
    }

    fn sees(&self, name: &str) -> Option<String> {
        let state = FilterState::on_connection(self.state.clone());
        state.get(name)?.to_plain().map(|text| text.into_owned())
    }

    fn stat(&self, name: &str) -> u64 {
        self.store.value(&format!("metadata_exchange.{name}")).unwrap()
    }
}

async fn read(transport: &mut Transport, wanted: usize) -> BytesMut {
    let mut bytes = BytesMut::new();
    while bytes.len() < wanted {
        bytes.reserve(100);
        if poll_fn(|cx| transport.poll_read(cx, &mut bytes)).await.unwrap() == 0 {
            break;
        }
    }
    bytes
}

async fn write(transport: &mut Transport, bytes: &[u8]) {
    let count = poll_fn(|cx| transport.poll_write(cx, bytes)).await.unwrap();
    assert_eq!(count, bytes.len());
    poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
}

const AGREED: &str = "istio-peer-exchange";

#[tokio::test]
async fn both_sides_say_what_they_are() {
    let (client, server) = (Side::new("client"), Side::new("server"));
    let (near, far) = duplex(10_000);
    let (mut near, mut far) = (client.carry(near, AGREED), server.carry(far, AGREED));
    write(&mut near, b"question").await;
    assert_eq!(read(&mut far, 8).await, "question");
    write(&mut far, b"answer").await;
    assert_eq!(read(&mut near, 6).await, "answer");
    assert_eq!(client.sees(UPSTREAM_PEER).as_deref(), Some("workload=server,namespace=app"));
    assert_eq!(server.sees(UPSTREAM_PEER).as_deref(), Some("workload=client,namespace=app"));
    assert_eq!(client.sees(NO_PEER), None);
    assert_eq!((client.stat("alpn_protocol_found"), client.stat("metadata_added")), (1, 1));
}

#[tokio::test]
async fn a_message_may_come_byte_by_byte_and_with_what_follows() {
    for step in [1, 7, 1000] {
        let side = Side::new("client");
        let (near, mut far) = duplex(10_000);
        let mut near = side.carry(near, AGREED);
        let message = [&Exchange::message(&workload("server"), "")[..], b"payload"].concat();
        let mut bytes = BytesMut::new();
        for piece in message.chunks(step) {
            far.write_all(piece).await.unwrap();
            bytes.reserve(100);
            // What is there to be read, and no more.
            let _ = near.poll_read(&mut Context::from_waker(std::task::Waker::noop()), &mut bytes);
        }
        drop(far);
        bytes.extend(read(&mut near, 7).await);
        assert_eq!(bytes, "payload", "{step}");
        assert_eq!(side.sees(UPSTREAM_PEER).as_deref(), Some("workload=server,namespace=app"));
    }
}

#[tokio::test]
async fn another_protocol_is_left_alone() {
    let side = Side::new("client");
    let (near, mut far) = duplex(10_000);
    let mut near = side.carry(near, "istio");
    write(&mut near, b"x").await;
    drop(near);
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"x");
    assert_eq!(side.sees(NO_PEER).as_deref(), Some("true"));
    assert_eq!(side.stat("alpn_protocol_not_found"), 1);
}

/// What reaches the last filter of a connection on which a peer says `bytes`, and ends its stream.
async fn heard(bytes: &[u8]) -> (Side, io::Result<Vec<u8>>) {
    let side = Side::new("client");
    let (near, mut far) = duplex(200_000);
    let mut near = side.carry(near, AGREED);
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let mut all = BytesMut::new();
    let outcome = loop {
        all.reserve(100);
        match poll_fn(|cx| near.poll_read(cx, &mut all)).await {
            Ok(0) => break Ok(all.to_vec()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    (side, outcome)
}

#[tokio::test]
async fn peers_that_do_not_take_part_are_heard_all_the_same() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"short", b""] {
        let (side, outcome) = heard(bytes).await;
        assert_eq!(outcome.unwrap(), bytes);
        assert_eq!(side.sees(NO_PEER).as_deref(), Some("true"));
    }
    let (side, _) = heard(b"GET / HTTP/1.1\r\n").await;
    assert_eq!(side.stat("initial_header_not_found"), 1);
}

#[tokio::test]
async fn hostile_messages_end_in_order() {
    let framed = |any: &[u8]| [&MAGIC.to_be_bytes()[..], &(any.len() as u32).to_be_bytes(), any].concat();
    // No Any: it is passed on, as in Envoy.
    let (side, outcome) = heard(&framed(b"\xff\xff\xff")).await;
    assert_eq!((outcome.unwrap(), side.stat("header_not_found")), (b"\xff\xff\xff".to_vec(), 1));
    // Another message.
    let any = Any { type_url: "type.googleapis.com/google.protobuf.Duration".into(), value: Vec::new() };
    let (side, _) = heard(&framed(&any.encode_to_vec())).await;
    assert_eq!(side.stat("header_not_found"), 1);
    // Nothing in it.
    let any = Any { type_url: STRUCT.into(), value: Vec::new() };
    let (side, outcome) = heard(&framed(&any.encode_to_vec())).await;
    assert_eq!((outcome.unwrap(), side.sees(NO_PEER).is_some()), (Vec::new(), true));
    // Cut short.
    let (side, _) = heard(&framed(&[0; 100])[..50]).await;
    assert_eq!(side.sees(NO_PEER).as_deref(), Some("true"));
    // Longer than it may be.
    for length in [LONGEST as u32 + 1, u32::MAX] {
        let (side, outcome) = heard(&[MAGIC.to_be_bytes(), length.to_be_bytes()].concat()).await;
        assert_eq!((outcome.unwrap_err().kind(), side.stat("header_not_found")), (io::ErrorKind::InvalidData, 1));
    }
}
