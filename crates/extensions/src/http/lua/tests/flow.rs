//! Scripts that wait, reply and call.

use super::*;

fn reply(step: Step) -> (u16, String, HeaderMap) {
    let Step::Reply(mut reply) = step else { panic!("{step:?}") };
    let mut headers = HeaderMap::new();
    (reply.edit.take().unwrap())(&mut headers);
    assert_eq!(reply.details, "lua_response");
    (reply.status, String::from_utf8(reply.body.to_vec()).unwrap(), headers)
}

#[test]
fn adds_a_response_header() {
    let mut proxy = Proxy::new("function envoy_on_response(h) h:headers():add('myage', '18') end");
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert!(matches!(proxy.response(End::More), Step::Next));
    assert_eq!(value(&proxy.test.response, "myage").as_deref(), Some("18"));
    assert_eq!(proxy.store.value("http.p.lua.executions"), Some(1));
}

#[test]
fn replies() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      h:respond({[':status'] = 403, ['x-a'] = '1', ['x-multi'] = {'a', 'b'}, ['content-length'] = '77'}, 'nope')
      error('never')
    end",
    );
    let (status, body, headers) = reply(proxy.request(End::More));
    assert_eq!((status, body.as_str()), (403, "nope"));
    assert_eq!(value(&headers, "x-multi").as_deref(), Some("a,b"));
    assert_eq!((headers.len(), value(&headers, "x-a").as_deref()), (3, Some("1")));
    assert_eq!(proxy.errors(), 0);
    // Data that was under way passes.
    assert!(matches!(proxy.data("x", End::Last), (DataStep::Next, _)));
}

#[test]
fn does_not_reply_to_a_response() {
    let mut proxy = Proxy::new(
        "function envoy_on_response(h)
      local ok, message = pcall(function() h:respond({[':status'] = '403'}, 'x') end)
      h:headers():add('out', message:match(': (.*)'))
    end",
    );
    assert!(matches!(proxy.response(End::Last), Step::Next));
    let said = value(&proxy.test.response, "out");
    assert_eq!(said.as_deref(), Some("respond not currently supported in the response path"));
}

#[test]
fn waits_for_the_body() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      local b = h:body()
      h:headers():add('out', b:length() .. ' ' .. b:getBytes(1, 3))
      b:setBytes('changed')
    end",
    );
    assert!(matches!(proxy.request(End::More), Step::Hold));
    assert!(matches!(proxy.data("hel", End::More), (DataStep::Buffer, _)));
    let (step, body) = proxy.data("lo", End::Last);
    assert!(matches!(step, DataStep::Next));
    assert_eq!(body, "changed");
    assert!(proxy.test.state.request_body.is_empty());
    assert_eq!(proxy.header("out").as_deref(), Some("5 ell"));
    assert_eq!(proxy.header("content-length").as_deref(), Some("7"));
}

#[test]
fn no_body_is_no_value() {
    let text = "function envoy_on_request(h) h:headers():add('out', select('#', h:body())) end";
    let mut proxy = Proxy::new(text);
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert_eq!(proxy.header("out").as_deref(), Some("0"));
}

#[test]
fn gives_a_message_a_body() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h) h:body(true):setBytes('made up') end
      function envoy_on_response(h) h:body(true):setBytes('made up too') end",
    );
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert_eq!(proxy.test.state.added_request_body.as_deref(), Some(&b"made up"[..]));
    assert!(matches!(proxy.response(End::Last), Step::Next));
    assert_eq!(proxy.test.state.added_response_body.as_deref(), Some(&b"made up too"[..]));
    assert_eq!(value(&proxy.test.response, "content-length").as_deref(), Some("11"));
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let mut proxy = Proxy::new("function envoy_on_request(h) h:body() end");
    proxy.test.state.buffer_limit = 4;
    assert!(matches!(proxy.request(End::More), Step::Hold));
    let (step, _) = proxy.data("12345", End::Last);
    assert!(matches!(step, DataStep::Reply(reply) if reply.status == 413));
}

#[test]
fn looks_at_pieces() {
    let mut proxy = Proxy::new(
        "local seen = {}
    function envoy_on_request(h)
      local last
      for chunk in h:bodyChunks() do
        seen[#seen + 1] = chunk:getBytes(0, chunk:length())
        chunk:setBytes('<' .. seen[#seen] .. '>')
        local ok, message = pcall(function() h:headers():add('x', 'y') end)
        seen[#seen + 1] = message:match(': (.*)')
        ok, message = pcall(function() h:respond({[':status'] = '403'}) end)
        seen[#seen + 1] = message:match(': (.*)')
      end
      local ok, message = pcall(function() h:body() end)
      seen[#seen + 1] = message:match(': (.*)')
      ok, message = pcall(function() h:bodyChunks() end)
      seen[#seen + 1] = message:match(': (.*)')
    end
    function envoy_on_response(h) h:headers():add('out', table.concat(seen, '|')) end",
    );
    assert!(matches!(proxy.request(End::More), Step::Next));
    let (step, left) = proxy.data("ab", End::More);
    assert!(matches!(step, DataStep::Next));
    assert_eq!(left, "<ab>");
    assert_eq!(proxy.data("c", End::Last).1, "<c>");
    assert!(matches!(proxy.response(End::Last), Step::Next));
    let (sealed, late) =
        ("header map can no longer be modified", "respond() cannot be called if headers have been continued");
    let streamed = "cannot call body() after body has been streamed";
    let begun = "cannot call bodyChunks after body processing has begun";
    let expected = ["ab", sealed, late, "c", sealed, late, streamed, begun].join("|");
    assert_eq!(value(&proxy.test.response, "out"), Some(expected));
    assert_eq!(proxy.errors(), 0);
}

#[test]
fn waits_for_trailers() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      for _ in h:bodyChunks() do end
      local t = h:trailers()
      t:add('more', t:get('t') .. '!')
    end",
    );
    proxy.test.request_trailers = map(&[("t", "1")]);
    assert!(matches!(proxy.request(End::More), Step::Next));
    assert!(matches!(proxy.data("ab", End::More), (DataStep::Next, _)));
    assert!(matches!(proxy.filter.request_trailers(&mut proxy.test.stream()), Step::Next));
    assert_eq!(value(&proxy.test.request_trailers, "more").as_deref(), Some("1!"));

    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      local n = select('#', h:trailers())
      h:streamInfo():dynamicMetadata():set('a', 'n', n)
    end",
    );
    assert!(matches!(proxy.request(End::More), Step::Next));
    assert!(matches!(proxy.data("ab", End::Last), (DataStep::Next, _)));
    let expected: Struct = [("n", 0.0)].into_iter().collect();
    assert_eq!(proxy.test.info.dynamic_metadata().unwrap().namespace("a"), Some(&expected));
}

#[test]
fn a_body_that_trailers_end() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      local b = h:body()
      h:headers():add('out', b:length() .. h:trailers():get('t'))
    end",
    );
    proxy.test.request_trailers = map(&[("t", "x")]);
    assert!(matches!(proxy.request(End::More), Step::Hold));
    assert!(matches!(proxy.data("ab", End::More), (DataStep::Buffer, _)));
    assert!(matches!(proxy.filter.request_trailers(&mut proxy.test.stream()), Step::Next));
    assert_eq!(proxy.header("out").as_deref(), Some("2x"));
    assert_eq!(&proxy.test.state.request_body[..], b"ab");
}

const CALL: &str = "h:httpCall('known', {[':method'] = 'POST', [':path'] = '/c', [':authority'] = 'a', x = {'1', '2'}}, \
    'question', 500)";

fn answer(status: &str, body: &'static str) -> ClientResponse {
    let headers = map(&[(":status", status), ("set-cookie", "a"), ("set-cookie", "b")]);
    ClientResponse { headers, body: Bytes::from_static(body.as_bytes()), trailers: HeaderMap::new() }
}

fn work(step: Step) -> Work {
    let Step::Await(work) = step else { panic!("{step:?}") };
    work
}

#[test]
fn calls_and_goes_on() {
    let mut proxy = Proxy::new(&format!(
        "function envoy_on_request(h)
      local headers, body = {CALL}
      h:headers():add('out', headers[':status'] .. headers['set-cookie'] .. tostring(body))
    end"
    ));
    let seen = proxy.answer_calls(Ok(answer("201", "yes")));
    let waiting = work(proxy.request(End::More));
    assert!(matches!(proxy.done(waiting), Step::Next));
    assert_eq!(proxy.header("out").as_deref(), Some("201byes"));
    let request = seen.borrow().first().cloned().unwrap();
    assert_eq!((&*request.cluster, &request.body[..]), ("known", &b"question"[..]));
    assert_eq!(value(&request.headers, "x").as_deref(), Some("1,2"));
    assert_eq!(value(&request.headers, ":scheme").as_deref(), Some("http"));
    assert_eq!(request.timeout, Some(std::time::Duration::from_millis(500)));
}

#[test]
fn failures_of_calls_are_responses() {
    let reset = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    for (error, expected) in [
        (ClientError::Timeout, "504 upstream request timeout"),
        (ClientError::NoHealthyHost, "503 no healthy upstream"),
        (ClientError::Reset("remote connection failure".to_owned()), &*format!("503 {reset}")),
        (ClientError::ResponseTooLarge, "503 upstream failure"),
    ] {
        let mut proxy = Proxy::new(&format!(
            "function envoy_on_request(h) local head, body = {CALL} h:headers():add('out', head[':status'] .. ' ' .. body) end"
        ));
        proxy.answer_calls(Err(error));
        let waiting = work(proxy.request(End::Last));
        assert!(matches!(proxy.done(waiting), Step::Next));
        assert_eq!(proxy.header("out").as_deref(), Some(expected));
    }
}

#[test]
fn calls_then_replies() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      local headers, body = h:httpCall('known', {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, nil,
        {timeout_ms = 0, return_duplicate_headers = true, send_xff = false, trace_sampled = false})
      h:respond({[':status'] = headers[':status']}, table.concat(headers['set-cookie'], '+') .. tostring(body))
    end",
    );
    let seen = proxy.answer_calls(Ok(answer("401", "")));
    let waiting = work(proxy.request(End::Last));
    let (status, body, _) = reply(proxy.done(waiting));
    assert_eq!((status, body.as_str()), (401, "a+bnil"));
    assert_eq!(seen.borrow().first().and_then(|request| request.timeout), None);
}

#[test]
fn calls_with_a_body_in_hand() {
    let mut proxy = Proxy::new(&format!(
        "function envoy_on_request(h)
      local length = h:body():length()
      local headers = {CALL}
      h:headers():add('out', length .. headers[':status'] .. h:body():length())
      h:body():setBytes('after')
    end"
    ));
    proxy.answer_calls(Ok(answer("200", "")));
    assert!(matches!(proxy.request(End::More), Step::Hold));
    let (step, _) = proxy.data("abc", End::Last);
    let DataStep::Await(waiting) = step else { panic!("{step:?}") };
    assert!(matches!(proxy.done(waiting), Step::Next));
    assert_eq!(proxy.header("out").as_deref(), Some("32003"));
    assert_eq!(&proxy.test.state.request_body[..], b"after");
}

#[test]
fn waits_for_the_body_after_a_call() {
    let mut proxy = Proxy::new(&format!(
        "function envoy_on_request(h) {CALL} local n = h:body():length() h:headers():add('out', n) end"
    ));
    proxy.answer_calls(Ok(answer("200", "")));
    let waiting = work(proxy.request(End::More));
    assert!(matches!(proxy.done(waiting), Step::Hold));
    assert!(matches!(proxy.data("abc", End::Last), (DataStep::Next, _)));
    assert_eq!(proxy.header("out").as_deref(), Some("3"));
}

#[test]
fn objects_do_not_survive_waiting() {
    let mut proxy = Proxy::new(&format!(
        "function envoy_on_request(h)
      local before = h:headers()
      {CALL}
      local ok, message = pcall(function() before:add('x', 'y') end)
      h:headers():add('out', message:match(': (.*)'))
    end"
    ));
    proxy.answer_calls(Ok(answer("200", "")));
    let waiting = work(proxy.request(End::Last));
    assert!(matches!(proxy.done(waiting), Step::Next));
    assert_eq!(proxy.header("out").as_deref(), Some("object used outside of proper scope"));
}

#[test]
fn calls_without_waiting() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut proxy = Proxy::new(
            "function envoy_on_request(h)
          local r = h:httpCall('known', {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, nil, 100, true)
          h:headers():add('out', tostring(r))
        end",
        );
        let seen = proxy.answer_calls(Ok(answer("200", "")));
        assert!(matches!(proxy.request(End::Last), Step::Next));
        assert_eq!(proxy.header("out").as_deref(), Some("nil"));
        assert_eq!(seen.borrow().len(), 1);
    });
}

#[test]
fn coroutines_of_scripts_and_protected_calls_may_wait() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      local ok, length = pcall(function() return h:body():length() end)
      h:headers():add('out', tostring(ok) .. length)
    end",
    );
    assert!(matches!(proxy.request(End::More), Step::Hold));
    assert!(matches!(proxy.data("abc", End::Last), (DataStep::Next, _)));
    assert_eq!(proxy.header("out").as_deref(), Some("true3"));

    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      coroutine.wrap(function() h:body() end)()
      local ok, message = pcall(function() h:body() end)
      h:headers():add('out', message:match(': (.*)'))
    end",
    );
    assert!(matches!(proxy.request(End::More), Step::Next));
    assert_eq!(proxy.header("out").as_deref(), Some("script performed an unexpected yield"));
}

#[test]
fn an_error_lets_the_message_pass() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      h:headers():add('before', '1')
      h:body()
      error('after the body')
    end
    function envoy_on_response(h) h:headers():add('resp', '1') end",
    );
    assert!(matches!(proxy.request(End::More), Step::Hold));
    let (step, body) = proxy.data("abc", End::Last);
    assert!(matches!(step, DataStep::Next));
    assert_eq!((body.as_str(), proxy.header("before").as_deref(), proxy.errors()), ("abc", Some("1"), 1));
    assert!(matches!(proxy.response(End::Last), Step::Next));
    assert_eq!(value(&proxy.test.response, "resp").as_deref(), Some("1"));
}

#[test]
fn a_response_sees_its_request() {
    let mut proxy = Proxy::new(
        "function envoy_on_response(h)
      h:headers():add('out', h:requestHeaders():get(':path') .. h:headers():get(':status'))
    end",
    );
    assert!(matches!(proxy.response(End::Last), Step::Next));
    assert_eq!(value(&proxy.test.response, "out").as_deref(), Some("/p200"));
}

#[test]
fn two_streams_take_turns() {
    let text = "function envoy_on_request(h)
      local mine = h:headers():get('who')
      for _ in h:bodyChunks() do
        h:streamInfo():dynamicMetadata():set('a', 'who', mine .. h:requestHeaders():get('who'))
      end
    end";
    let mut one = Proxy::new(text);
    let mut two = Proxy::with(config(&Store::new(1), text), Store::new(1));
    two.test.worker = one.test.worker.clone();
    two.filter = one.factory.create(&one.test.worker.clone());
    for (proxy, who) in [(&mut one, "1"), (&mut two, "2")] {
        proxy.test.request.append(&HeaderName::new("who").unwrap(), who.as_bytes());
        assert!(matches!(proxy.request(End::More), Step::Next));
    }
    for (proxy, who) in [(&mut one, "11"), (&mut two, "22")] {
        assert!(matches!(proxy.data("x", End::Last), (DataStep::Next, _)));
        let expected: Struct = [("who", who)].into_iter().collect();
        assert_eq!(proxy.test.info.dynamic_metadata().unwrap().namespace("a"), Some(&expected));
    }
}

#[test]
fn the_route_is_forgotten_when_headers_change() {
    use nuncio_filter::RouteSlot;
    for (statement, clear_route_cache, forgotten) in [
        ("h:headers():add('x', 'y')", true, true),
        ("h:headers():add('x', 'y')", false, false),
        ("h:headers():get('x')", true, false),
        ("h:clearRouteCache()", false, true),
    ] {
        let store = Store::new(1);
        let mut config = config(&store, &format!("function envoy_on_request(h) {statement} end"));
        config.clear_route_cache = clear_route_cache;
        let mut proxy = Proxy::with(config, store);
        proxy.test.state.route = RouteSlot::NoRoute(None);
        assert!(matches!(proxy.request(End::Last), Step::Next));
        assert_eq!(matches!(proxy.test.state.route, RouteSlot::Unresolved), forgotten, "{statement}");
    }
}
