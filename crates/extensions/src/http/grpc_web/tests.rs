use super::filter::GrpcWeb;
use crate::testing::TestStream;
use bytes::Bytes;
use nuncio_filter::{Chunk, DataStep, End, HttpFilter, Step};
use nuncio_headers::Known;

fn request(kind: &str, accept: &str) -> (TestStream, GrpcWeb) {
    let mut test = TestStream::new();
    test.request.set_known(Known::PATH, b"/a.B/C");
    test.request.set_known(Known::CONTENT_TYPE, kind.as_bytes());
    test.request.set_known(Known::ACCEPT, accept.as_bytes());
    test.request.set_known(Known::CONTENT_LENGTH, b"5");
    let mut filter = GrpcWeb::default();
    assert!(matches!(filter.request_headers(&mut test.stream(), End::More), Step::Next));
    test.response.set_known(Known::STATUS, b"200");
    (test, filter)
}

fn respond(test: &mut TestStream, filter: &mut GrpcWeb, body: &'static [u8], end: End) -> Option<Bytes> {
    let mut chunk = Chunk::from(Bytes::from_static(body));
    match filter.response_data(&mut test.stream(), &mut chunk, end) {
        DataStep::Next => Some(chunk.take()),
        DataStep::Hold => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn binary_messages_pass_and_trailers_become_a_frame() {
    let (mut test, mut filter) = request("application/grpc-web+proto", "application/grpc-web+proto");
    assert_eq!(test.request.get(Known::CONTENT_TYPE), Some(&b"application/grpc"[..]));
    assert_eq!(test.request.get(Known::TE), Some(&b"trailers"[..]));
    assert_eq!(test.request.get(Known::CONTENT_LENGTH), None);
    test.response.set_known(Known::CONTENT_TYPE, b"application/grpc");
    assert!(matches!(filter.response_headers(&mut test.stream(), End::More), Step::Next));
    assert_eq!(test.response.get(Known::CONTENT_TYPE), Some(&b"application/grpc-web+proto"[..]));
    assert_eq!(respond(&mut test, &mut filter, b"\0\0\0\0\x01x", End::More).unwrap(), &b"\0\0\0\0\x01x"[..]);
    test.response_trailers.set_known(Known::GRPC_STATUS, b"0");
    assert!(matches!(filter.response_trailers(&mut test.stream()), Step::Next));
    assert_eq!(test.state.added_response_body.as_deref(), Some(&b"\x80\0\0\0\x0fgrpc-status:0\r\n"[..]));
    assert!(test.response_trailers.is_empty());
}

#[test]
fn text_is_decoded_and_encoded() {
    let (mut test, mut filter) = request("application/grpc-web-text", "application/grpc-web-text");
    let mut chunk = Chunk::from(Bytes::from_static(b"AAAAAAF"));
    assert!(matches!(filter.request_data(&mut test.stream(), &mut chunk, End::More), DataStep::Next));
    assert_eq!(&chunk.bytes()[..], b"\0\0\0");
    let mut chunk = Chunk::from(Bytes::from_static(b"Y"));
    assert!(matches!(filter.request_data(&mut test.stream(), &mut chunk, End::Last), DataStep::Next));
    assert_eq!(&chunk.bytes()[..], b"\0\x01X");
    test.response.set_known(Known::CONTENT_TYPE, b"application/grpc+proto");
    assert!(matches!(filter.response_headers(&mut test.stream(), End::More), Step::Next));
    assert_eq!(respond(&mut test, &mut filter, b"\0", End::More), None);
    assert_eq!(respond(&mut test, &mut filter, b"\0\0\0\x01X", End::More).unwrap(), &b"AAAAAAFY"[..]);
    test.response_trailers.set_known(Known::GRPC_STATUS, b"0");
    assert!(matches!(filter.response_trailers(&mut test.stream()), Step::Next));
    assert_eq!(test.state.added_response_body.as_deref(), Some(&b"gAAAAA9ncnBjLXN0YXR1czowDQo="[..]));
}

#[test]
fn wrong_base64_is_answered() {
    for (body, details) in [("AAA", "grpc_base_64_decode_failed_bad_size"), ("AA\0A", "grpc_base_64_decode_failed")] {
        let (mut test, mut filter) = request("application/grpc-web-text", "");
        let mut chunk = Chunk::from(Bytes::from_static(body.as_bytes()));
        match filter.request_data(&mut test.stream(), &mut chunk, End::Last) {
            DataStep::Reply(reply) => assert_eq!((reply.status, &*reply.details), (400, details)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn other_responses_become_a_status_of_bounded_length() {
    let (mut test, mut filter) = request("application/grpc-web", "");
    test.response.set_known(Known::STATUS, b"503");
    assert!(matches!(filter.response_headers(&mut test.stream(), End::More), Step::Hold));
    static LONG: [u8; 40_000] = [b'%'; 40_000];
    assert_eq!(respond(&mut test, &mut filter, &LONG, End::More), None);
    assert_eq!(respond(&mut test, &mut filter, b"end", End::Last).unwrap(), &b""[..]);
    assert_eq!(test.response.get(Known::GRPC_STATUS), Some(&b"14"[..]));
    assert_eq!(test.response.get(Known::GRPC_MESSAGE).map(<[u8]>::len), Some(3 * 16 * 1024));
    assert_eq!(test.response.get(Known::CONTENT_LENGTH), Some(&b"0"[..]));
}

#[test]
fn other_requests_pass() {
    let (mut test, mut filter) = request("application/grpc", "application/grpc-web-text");
    assert_eq!(test.request.get(Known::CONTENT_LENGTH), Some(&b"5"[..]));
    assert!(matches!(filter.response_headers(&mut test.stream(), End::More), Step::Next));
    assert!(matches!(filter.response_trailers(&mut test.stream()), Step::Next));
    assert_eq!(test.state.added_response_body, None);
}
