//! The origin played against the client of this crate.

use super::*;
use crate::client::Client;
use crate::message::text;

fn exchange(replies: Vec<Reply>, requests: &[&str]) -> (Vec<(u16, String)>, Vec<Seen>) {
    let origin = Origin::start(Script::Http(replies), Gates::default()).unwrap();
    let mut client = Client::connect(origin.address()).unwrap();
    let mut answers = Vec::new();
    for request in requests {
        client.send(request.as_bytes()).unwrap();
        let response = client.response(false);
        answers.push((response.status(), text(&response.body.data)));
    }
    (answers, origin.seen())
}

#[test]
fn replies_are_used_in_order() {
    let first = Reply { status: Some(503), times: Some(1), ..Reply::default() };
    let second = Reply { chunks: Some(vec!["a".into(), "b".into()]), ..Reply::default() };
    let (answers, seen) =
        exchange(vec![first, second], &["GET /a HTTP/1.1\r\n\r\n", "POST /b HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi"]);
    assert_eq!(answers, [(503, "ok".to_owned()), (200, "ab".to_owned())]);
    assert_eq!(text(&seen[1].body.data), "hi");
    assert_eq!(seen[1].connection, 1);
}

#[test]
fn a_cut_reply_ends_the_connection() {
    let reply = Reply { body: Some("hello".into()), cut: Some(41), ..Reply::default() };
    let (answers, _) = exchange(vec![reply], &["GET / HTTP/1.1\r\n\r\n"]);
    assert_eq!(answers, [(200, "hel".to_owned())]);
}

#[test]
fn a_refusing_origin_refuses() {
    let origin = Origin::refusing().unwrap();
    assert_eq!(TcpStream::connect(origin.address()).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}
