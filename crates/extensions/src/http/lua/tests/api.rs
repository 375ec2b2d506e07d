//! What scripts may call, and what it says.

use super::*;
use nuncio_stream_info::{Address, ConnectionInfo, Protocol};
use std::time::{Duration, SystemTime};

fn check(statements: &str, expected: &str) {
    assert_eq!(says(statements), expected, "{statements}");
}

/// The error that statements end with; the position is that of the first line of the script, as Envoy shows it.
fn check_failure(statements: &str, expected: &str) {
    let text = format!("function envoy_on_request(h)\n{statements}\nend");
    assert_eq!(failure(&text), expected, "{statements}");
}

const AT: &str = "[string \"function envoy_on_request(h)...\"]:2: ";

#[test]
fn headers() {
    check("out(h:headers():get(':path'))", "/p");
    check("out(h:headers():get('host'), h:headers():get('HOST'))", "host host");
    check("out(select('#', h:headers():get('none')))", "0");
    check("h:headers():add('X-A', 'a') h:headers():add('x-a', 'b') out(h:headers():get('X-a'))", "a,b");
    check("h:headers():add('x', 1) h:headers():add('x', 2.5) out(h:headers():getNumValues('x'))", "2");
    check(
        "h:headers():add('x', 'a') h:headers():add('x', 'b')
         out(h:headers():getAtIndex('x', 1), select('#', h:headers():getAtIndex('x', 2)), select('#', h:headers():getAtIndex('x', -1)))",
        "b 0 0",
    );
    check("h:headers():add('x', 'a') h:headers():replace('x', 'c') out(h:headers():get('x'))", "c");
    check("h:headers():replace('x', 'c') h:headers():remove('x') out(h:headers():getNumValues('x'))", "0");
    check(
        "h:headers():add('accept', 'b') out(h:headers():getNumValues('accept'), h:headers():get('accept'))",
        "1 */*,b",
    );
    check("h:headers():replace('host', 'other') out(h:headers():get(':authority'))", "other");
    check("out(h:headers():getNumValues('bad name'), select('#', h:headers():get('bad name')))", "0 0");
    check(
        "for k, v in pairs(h:headers()) do out(k .. '=' .. v) end",
        ":method=GET :path=/p :authority=host accept=*/*",
    );
    check("out(h:headers() == h:headers(), h:requestHeaders() == h:headers())", "true true");
    check("h:headers():add('x', 'a\\r\\nb: c') out(#h:headers():get('x'))", "7");
}

#[test]
fn misuse_of_headers() {
    check_failure("h:headers():add('x', nil)", &format!("{AT}bad argument #2 to 'add' (string expected, got nil)"));
    check_failure("h:headers():get({})", &format!("{AT}bad argument #1 to 'get' (string expected, got table)"));
    check_failure("h:headers():add('bad name', 'x')", &format!("{AT}'bad name' is not a header name"));
    check_failure(
        "for k in pairs(h:headers()) do h:headers():add('a', 'b') end",
        &format!("{AT}header map cannot be modified while iterating"),
    );
    check_failure(
        "for k in pairs(h:headers()) do break end h:headers():remove('a')",
        &format!("{AT}header map cannot be modified while iterating"),
    );
    check_failure(
        "pairs(h:headers()) pairs(h:headers())",
        &format!("{AT}cannot create a second iterator before completing the first"),
    );
    check("for k in pairs(h:headers()) do end h:headers():add('a', 'b') out(h:headers():get('a'))", "b");
    check_failure("h:nope()", &format!("{AT}attempt to call method 'nope' (a nil value)"));
    check_failure("h:headers().x = 1", &format!("{AT}attempt to index a userdata value"));
}

#[test]
fn errors_of_scripts() {
    check_failure("error('boom')", &format!("{AT}boom"));
    check_failure("error('boom', 0)", "boom");
    check_failure("error(42)", &format!("{AT}42"));
    for value in ["{}", "nil", "true", "h", "function() end"] {
        check_failure(&format!("error({value})"), "unspecified lua error");
    }
    check_failure("local x = nil; x.y = 1", &format!("{AT}attempt to index local 'x' (a nil value)"));
    check_failure("coroutine.yield()", "script performed an unexpected yield");
    check_failure("h:respond({[':status'] = '100'}, 'x')", &format!("{AT}:status must be between 200-599"));
    check_failure("h:respond({}, 'x')", &format!("{AT}:status must be between 200-599"));
    check_failure("h:respond('x')", &format!("{AT}bad argument #1 to 'respond' (table expected, got string)"));
    check_failure(
        "h:respond({[':status'] = '200', x = true})",
        &format!("{AT}bad argument #1 to 'respond' (string expected, got boolean)"),
    );
    check_failure("h:importPublicKey('x', 1)", &format!("{AT}importPublicKey() is not supported"));
    check_failure(
        "local b = h:body(true) b:getBytes(0, 1)",
        &format!("{AT}index/length must be >= 0 and (index + length) must be <= buffer size"),
    );
    check_failure("h:timestamp(1)", &format!("{AT}timestamp format must be MILLISECOND."));
    check_failure("h:timestampString('x')", &format!("{AT}timestamp format must be MILLISECOND or MICROSECOND."));
}

#[test]
fn calls_of_wrong_form() {
    let good = "{[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}";
    for (arguments, expected) in [
        (format!("'none', {good}, nil, 1"), "http call cluster invalid. Must be configured"),
        ("'known', {}, nil, 1".to_owned(), "http call headers must include ':path', ':method', and ':authority'"),
        (format!("'known', {good}, nil, -1"), "http call timeout must be >= 0"),
        (format!("'known', {good}, nil, {{timeout_ms = -1}}"), "http call timeout must be >= 0"),
        (format!("'known', {good}, nil"), "bad argument #4 to 'httpCall' (number expected, got nil)"),
        (format!("'known', {good}, nil, 1, 'x'"), "http call asynchronous flag must be 'true', 'false', or empty"),
        (format!("'known', {good}, nil, {{foo = 1}}"), "\"foo\" is not valid key for httpCall() options"),
        (format!("nil, {good}, nil, 1"), "bad argument #1 to 'httpCall' (string expected, got nil)"),
        ("'known', nil, nil, 1".to_owned(), "bad argument #2 to 'httpCall' (table expected, got nil)"),
        (format!("'known', {good}, {{}}, 1"), "bad argument #3 to 'httpCall' (string expected, got table)"),
    ] {
        let said = says_with(&format!("attempt(function() h:httpCall({arguments}) end)"), |proxy| {
            proxy.answer_calls(Err(ClientError::Timeout));
        });
        assert!(said.starts_with("failed [string ") && said.ends_with(&format!(": {expected}")), "{arguments}: {said}");
    }
}

#[test]
fn texts_and_times() {
    check(
        "out(h:base64Escape('hello\\0x'), h:base64Decode('aGVsbG8='), h:base64Decode('a$b'))",
        "aGVsbG8AeA== hello nil",
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let said = says("out(h:timestamp(), h:timestampString(), h:timestampString(EnvoyTimestampResolution.MICROSECOND))");
    let times: Vec<u64> = said.split(' ').map(|time| time.parse().unwrap()).collect();
    assert_eq!((times[0], times[2] / 1000), (times[1], times[1]));
    assert!(Duration::from_millis(times[0]).abs_diff(now) < Duration::from_secs(100), "{said}");
    check(
        "h:logInfo('x') h:headers():logErr(12) attempt(function() h:logWarn({}) end)",
        &format!(
            "failed {}bad argument #1 to 'logWarn' (string expected, got table)",
            "[string \"local said = {}...\"]:6: "
        ),
    );
}

#[test]
fn dynamic_metadata() {
    let with = "local d = h:streamInfo():dynamicMetadata() ";
    for (statements, expected) in [
        (
            "d:set('ns', 'k', {a = 1, b = {1, 2, 'x'}, c = true}) local k = d:get('ns').k out(k.a, k.b[3], k.c)",
            "1 x true",
        ),
        ("d:set('ns', 's', 'text') d:set('ns', 'n', 1.5) out(d:get('ns').s, d:get('ns').n)", "text 1.5"),
        ("d:set('ns', 'nil', nil) out(d:get('ns')['nil'], select('#', d:get('missing')))", "nil 0"),
        ("d:set('ns', 'e', {}) out(type(d:get('ns').e), next(d:get('ns').e))", "table nil"),
        ("d:set('a', 'k', 1) d:set('b', 'k', 2) local n = 0 for k, v in pairs(d) do n = n + v.k end out(n)", "3"),
        ("d:set(1, 2, 3) out(d:get('1')['2'])", "3"),
    ] {
        check(&format!("{with}{statements}"), expected);
    }
    for (statements, expected) in [
        ("d:set('ns', 'f', function() end)", "unexpected type 'function' in dynamicMetadata"),
        ("d:set('ns', 'f', h)", "unexpected type 'userdata' in dynamicMetadata"),
        ("d:set('ns', 'f', {[true] = 1})", "unexpected type boolean in table key (only string keys are supported)"),
        ("d:set('ns', 'f', {1, 2, a = 3})", "unexpected type number in table key (only string keys are supported)"),
        ("d:set('ns', 'f', {[0] = 1})", "unexpected type number in table key (only string keys are supported)"),
        ("local x = {} x.x = x d:set('ns', 'f', x)", "a table is nested too deeply for dynamicMetadata"),
        (
            "d:set('a', 'k', 1) for k in pairs(d) do d:set('b', 'k', 1) end",
            "dynamic metadata map cannot be modified while iterating",
        ),
        ("d:set('ns')", "bad argument #2 to 'set' (string expected, got nil)"),
    ] {
        check_failure(&format!("{with}{statements}"), &format!("{AT}{expected}"));
    }
}

#[test]
fn stream_info() {
    let names = "local s = h:streamInfo() for _, name in ipairs{'protocol', 'routeName', 'virtualClusterName', \
        'downstreamLocalAddress', 'downstreamDirectLocalAddress', 'downstreamRemoteAddress', \
        'downstreamDirectRemoteAddress', 'requestedServerName'} do out(s[name](s)) end \
        out(s:downstreamSslConnection(), h:connection():ssl(), s:dynamicTypedMetadata('x'))";
    let said = says_with(names, |proxy| {
        let local = Address::Ip("127.0.0.1:80".parse().unwrap());
        let remote = Address::Ip("10.0.0.1:1234".parse().unwrap());
        let mut connection = ConnectionInfo::new(1, proxy.test.worker.now(), local, remote);
        connection.direct_local = Address::Ip("10.0.0.9:8080".parse().unwrap());
        proxy.test.info.connection = Some(Arc::new(connection));
        proxy.test.info.remote_address = Some(Address::Ip("192.0.2.1:0".parse().unwrap()));
        proxy.test.info.protocol = Some(Protocol::Http2);
    });
    assert_eq!(said, "HTTP/2   127.0.0.1:80 10.0.0.9:8080 192.0.2.1:0 10.0.0.1:1234  nil nil");
    check("local c = h:connectionStreamInfo():dynamicMetadata() out(select('#', c:get('x')))", "0");
}

#[test]
fn filter_state() {
    let with = "local f = h:streamInfo():filterState() ";
    check(&format!("{with} f:set('k', 'envoy.string', 'v') out(f:get('k'), select('#', f:get('none')))"), "v 0");
    check_failure(&format!("{with} f:set('k', 'x', 'v')"), &format!("{AT}'x' does not have an object factory"));
}

#[test]
fn contexts() {
    check("out(select('#', h:filterContext():get('k')))", "0");
    check("out(select('#', h:metadata():get('k')), select('#', h:virtualHost():metadata():get('k')))", "0 0");
    let store = Store::new(1);
    let mut config = config(
        &store,
        "function envoy_on_request(h)
      local n = 0
      for k, v in pairs(h:filterContext()) do n = n + v end
      h:headers():add('out', n .. h:filterContext():get('two'))
    end",
    );
    let context: Struct = [("one", 1.0), ("two", 2.0)].into_iter().collect();
    config.context = Some(Arc::new(context));
    let mut proxy = Proxy::with(config, store);
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert_eq!(proxy.header("out").as_deref(), Some("32"));
}

#[test]
fn statistics() {
    let mut proxy = Proxy::new(
        "local kept
    function envoy_on_request(h)
      local s = h:stats()
      kept = kept or s:counter('c')
      kept:inc() kept:add(4)
      s:gauge('g'):set(7) s:gauge('g'):inc() s:gauge('g'):sub(2) s:gauge('g'):dec() s:gauge('g'):add(1)
      s:histogram('t', 'ms'):recordValue(5)
      h:headers():add('out', kept:value() .. ' ' .. s:gauge('g'):value())
    end",
    );
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert_eq!(proxy.header("out").as_deref(), Some("5 6"));
    proxy.next();
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert_eq!(proxy.store.value("http.p.lua.c"), Some(10));
    assert_eq!(proxy.store.value("http.p.lua.executions"), Some(2));
    assert_eq!(proxy.store.value("lua.lua_vm_count"), Some(1));
    for (statements, expected) in [
        ("h:stats():counter('c'):add(-1)", "counter add amount must be non-negative"),
        ("h:stats():gauge('c'):set(-1)", "gauge set value must be non-negative"),
        ("h:stats():gauge('c'):add('x')", "bad argument #1 to 'add' (number expected, got string)"),
        ("h:stats():histogram('c'):recordValue(-1)", "histogram value must be non-negative"),
        (
            "h:stats():histogram('c', 'x')",
            "invalid histogram unit 'x', expected 'ms', 'milliseconds', 'microseconds', \
            'nanoseconds', 'bytes', or 'unspecified'",
        ),
    ] {
        check_failure(statements, &format!("{AT}{expected}"));
    }
}

#[test]
fn globals() {
    check(
        "out(_G.out == out, type(string.format), type(io.open), type(os.time), type(bit.band), jit.status())",
        "true function function function function false",
    );
    check("out(ffi, newproxy, module, debug.getinfo, package.loadlib)", "nil nil nil nil nil");
    check(
        "attempt(function() os.exit(1) end)",
        "failed [string \"local said = {}...\"]:6: os.exit is not available: it would end the proxy",
    );
    check("attempt(function() return load('\\27LJ') end)", "ok nil");
    check("out(loadstring('return 1 + 1')(), load('x = 5')(), x)", "2 nil 5");
    check("attempt(function() return require('ffi') end)", &says("attempt(function() return require('ffi') end)"));
    assert!(says("attempt(function() require('none') end)").contains("module 'none' not found:"));
    check("out(require('string') == string, require('bit') == bit, package.loaded.io == io)", "true true true");
    check(
        "package.preload.mine = function(n) return {name = n} end out(require('mine').name, require('mine').name)",
        "mine mine",
    );
    check(
        "out(type(h), type(h:headers()), getmetatable(h), tostring(h):sub(1, 9))",
        "userdata userdata locked userdata:",
    );
    check("string.mine = function(s) return s .. '!' end out(('x'):mine())", "x!");
    check("out(debug.traceback('x'):sub(1, 18))", "x stack traceback:");
    check("goto done out('not') ::done:: out(#'x\\z   y', rawlen({1}), table.pack(1, 2).n)", "2 1 2");
}

#[test]
fn scripts_do_not_see_each_other() {
    let now = tokio::time::Instant::now().into_std();
    let vm = vm::Vm::new(now, still(), None).unwrap();
    vm.load("leak = 1 math.leak = 1 package.loaded.leak = 1", "").unwrap();
    vm.load("assert(leak == nil and math.leak == nil and not pcall(require, 'leak'))", "").unwrap();
}

#[test]
fn objects_die_with_their_resume() {
    let scope = "object used outside of proper scope";
    let mut proxy = Proxy::new(
        "local kept, keep_headers, keep_iterator
    function envoy_on_request(h)
      if not kept then
        kept, keep_headers, keep_iterator = h, h:headers(), pairs(h:headers())
        return
      end
      local said = {}
      for _, f in ipairs{function() kept:headers() end, function() keep_headers:get('x') end, keep_iterator} do
        local ok, message = pcall(f)
        said[#said + 1] = tostring(message):match(': (.*)') or tostring(message)
      end
      h:headers():add('out', table.concat(said, '|'))
    end
    function envoy_on_response(h)
      local ok, message = pcall(function() kept:headers() end)
      h:headers():add('out', tostring(message):match(': (.*)'))
    end",
    );
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert!(matches!(proxy.response(End::Last), Step::Next));
    assert_eq!(value(&proxy.test.response, "out").as_deref(), Some(scope));
    proxy.next();
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert_eq!(proxy.header("out"), Some([scope; 3].join("|")));
}
