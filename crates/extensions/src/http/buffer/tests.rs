use super::filter::BufferFilter;
use crate::testing::TestStream;
use bytes::Bytes;
use nuncio_filter::{Chunk, DataStep, End, HttpFilter, Step};
use nuncio_headers::Known;

#[test]
fn holds_until_the_end_and_tells_the_length() {
    let mut test = TestStream::new();
    let mut filter = BufferFilter { limit: 10, active: false };
    assert!(matches!(filter.request_headers(&mut test.stream(), End::More), Step::Hold));
    let mut chunk = Chunk::from(Bytes::from_static(b"12345"));
    assert!(matches!(filter.request_data(&mut test.stream(), &mut chunk, End::More), DataStep::Buffer));
    test.state.request_body.extend_from_slice(b"12345");
    assert!(matches!(filter.request_data(&mut test.stream(), &mut chunk, End::Last), DataStep::Next));
    assert_eq!(test.request.get(Known::CONTENT_LENGTH), Some(&b"10"[..]));
}

#[test]
fn too_large_is_413() {
    let mut test = TestStream::new();
    let mut filter = BufferFilter { limit: 4, active: false };
    assert!(matches!(filter.request_headers(&mut test.stream(), End::More), Step::Hold));
    let mut chunk = Chunk::from(Bytes::from_static(b"12345"));
    // It does not fit into the buffer of the stream, whose limit is the filter's: the chain answers.
    assert!(matches!(filter.request_data(&mut test.stream(), &mut chunk, End::Last), DataStep::Buffer));
    assert_eq!(test.state.buffer_limit, 4);
}

#[test]
fn requests_without_body_pass() {
    let mut test = TestStream::new();
    let mut filter = BufferFilter { limit: 4, active: false };
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
}
