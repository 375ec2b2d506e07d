use super::filter::{Bridge, BridgeOptions};
use crate::testing::TestStream;
use bytes::Bytes;
use nuncio_filter::{Chunk, DataStep, End, HttpFilter, Step};
use nuncio_headers::Known;
use nuncio_stream_info::Protocol;

fn call(kind: &str, protocol: Protocol, options: BridgeOptions) -> (TestStream, Bridge) {
    let mut test = TestStream::new();
    test.info.protocol = Some(protocol);
    test.request.set_known(Known::PATH, b"/a.B/C?q=1");
    test.request.set_known(Known::CONTENT_TYPE, kind.as_bytes());
    test.request.set_known(Known::CONTENT_LENGTH, b"5");
    let mut bridge = Bridge::new(options);
    assert!(matches!(bridge.request_headers(&mut test.stream(), End::More), Step::Next));
    (test, bridge)
}

#[test]
fn the_status_of_the_trailers_becomes_that_of_the_response() {
    for (grpc, status) in [("0", "200"), ("5", "503"), ("x", "503")] {
        let (mut test, mut bridge) = call("application/grpc", Protocol::Http11, BridgeOptions::default());
        assert_eq!(test.request.get(Known::PATH), Some(&b"/a.B/C?q=1"[..]));
        test.response.set_known(Known::STATUS, b"200");
        assert!(matches!(bridge.response_headers(&mut test.stream(), End::More), Step::Hold));
        let mut chunk = Chunk::from(Bytes::from_static(b"12345"));
        assert!(matches!(bridge.response_data(&mut test.stream(), &mut chunk, End::More), DataStep::Buffer));
        test.state.response_body.extend_from_slice(chunk.bytes());
        test.response_trailers.set_known(Known::GRPC_STATUS, grpc.as_bytes());
        test.response_trailers.set_known(Known::GRPC_MESSAGE, b"why");
        assert!(matches!(bridge.response_trailers(&mut test.stream()), Step::Next));
        assert_eq!(test.response.get(Known::STATUS), Some(status.as_bytes()));
        assert_eq!(test.response.get(Known::GRPC_STATUS), Some(grpc.as_bytes()));
        assert_eq!(test.response.get(Known::GRPC_MESSAGE), Some(&b"why"[..]));
        assert_eq!(test.response.get(Known::CONTENT_LENGTH), Some(&b"5"[..]));
    }
}

#[test]
fn http2_clients_and_other_requests_pass() {
    for (kind, protocol) in [("application/grpc", Protocol::Http2), ("application/json", Protocol::Http11)] {
        let (mut test, mut bridge) = call(kind, protocol, BridgeOptions::default());
        assert!(matches!(bridge.response_headers(&mut test.stream(), End::More), Step::Next));
        assert!(matches!(bridge.response_trailers(&mut test.stream()), Step::Next));
        assert_eq!(test.response.get(Known::STATUS), None);
    }
}

#[test]
fn a_plain_message_is_framed_and_its_answer_unframed() {
    let options = BridgeOptions { upgrade_protobuf: true, ignore_query: true };
    let (mut test, mut bridge) = call("application/x-protobuf", Protocol::Http11, options);
    assert_eq!(test.request.get(Known::PATH), Some(&b"/a.B/C"[..]));
    assert_eq!(test.request.get(Known::CONTENT_TYPE), Some(&b"application/grpc"[..]));
    assert_eq!(test.request.get(Known::CONTENT_LENGTH), None);
    let mut chunk = Chunk::from(Bytes::from_static(b"abc"));
    assert!(matches!(bridge.request_data(&mut test.stream(), &mut chunk, End::More), DataStep::Buffer));
    test.state.request_body.extend_from_slice(b"abc");
    let mut chunk = Chunk::from(Bytes::from_static(b"de"));
    assert!(matches!(bridge.request_data(&mut test.stream(), &mut chunk, End::Last), DataStep::Next));
    assert_eq!(&chunk.bytes()[..], b"\0\0\0\0\x05abcde");
    assert!(matches!(bridge.response_headers(&mut test.stream(), End::More), Step::Hold));
    let mut answer = Vec::new();
    for piece in [&b"\0\0"[..], b"\0\0\x02x", b"y"] {
        let mut chunk = Chunk::from(Bytes::from_static(piece));
        assert!(matches!(bridge.response_data(&mut test.stream(), &mut chunk, End::More), DataStep::Buffer));
        answer.extend_from_slice(chunk.bytes());
    }
    assert_eq!(answer, b"xy");
}
