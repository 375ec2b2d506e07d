use super::filter::{Action, HeaderMutationFilter, Mutations};
use crate::testing::TestStream;
use nuncio_filter::{End, HttpFilter, Step};
use nuncio_headers::{HeaderName, Known};
use nuncio_route::HeaderEdits;
use nuncio_route::spec::{AppendAction, HeaderMutationsSpec, HeaderValueOptionSpec};
use nuncio_stream_info::FormatOptions;
use std::sync::Arc;

fn add(name: &str, value: &str) -> Action {
    let option = HeaderValueOptionSpec {
        name: name.to_owned(),
        value: value.to_owned(),
        append_action: AppendAction::AppendIfExistsOrAdd,
        keep_empty_value: false,
    };
    let spec = HeaderMutationsSpec { add: vec![option], remove: Vec::new() };
    Action::Edit(HeaderEdits::request(spec, &FormatOptions::for_header_value()).unwrap())
}

#[test]
fn changes_come_in_order() {
    let mutations = Mutations {
        request: Box::new([add("a", "1"), Action::Remove(HeaderName::new("a").unwrap()), add("b", "%REQ(:METHOD)%")]),
        ..Mutations::default()
    };
    let mut filter = HeaderMutationFilter { mutations: Arc::new(mutations), most_specific_wins: false };
    let mut test = TestStream::new();
    test.request.append_known(Known::METHOD, b"GET");
    assert!(matches!(filter.request_headers(&mut test.stream(), End::Last), Step::Next));
    let seen: Vec<_> = test.request.iter().map(|(n, v)| format!("{n}={}", String::from_utf8_lossy(v))).collect();
    assert_eq!(seen, [":method=GET", "b=GET"]);
}
