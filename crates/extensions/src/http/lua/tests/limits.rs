//! Scripts that loop, eat memory or recurse.

use super::*;

fn fails(statements: &str) -> String {
    failure(&format!("function envoy_on_request(h)\n{statements}\nend"))
}

#[test]
fn loops_end() {
    for statements in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function f() pcall(f) while true do end end f()",
        "local function f() return f() end f()",
        "for i = 1, 1e15 do end",
        "while true do pcall(error) end",
        "repeat local ok = xpcall(function() while true do end end, function() while true do end end) until false",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.wrap(function() coroutine.yield() end)() end",
        "table.sort({3, 2, 1}, function() while true do end end)",
        "(('x'):rep(10)):gsub('x', function() while true do end end)",
        "local t = setmetatable({}, {__index = function() while true do end end}) local x = t.x",
        "load(function() while true do end end)",
        "load(function() while true do end end) while true do end",
        "while true do h:headers():get('x') end",
    ] {
        let message = fails(statements);
        assert!(message.contains("script ran for too long"), "{statements}: {message}");
    }
}

#[test]
fn patterns_end() {
    for statements in [
        "(('a'):rep(1000)):find(('.-'):rep(20) .. 'b')",
        "(('a'):rep(1e6)):match('a*b')",
        "(('a'):rep(3000)):gsub('(a*)(a*)b', 'x')",
        "for _ in (('a'):rep(1e5)):gmatch('a-a-a-b') do end",
        "while true do pcall(string.find, ('a'):rep(1e5), 'a-a-a-b') end",
        "(('('):rep(1e6)):find('%b()')",
    ] {
        let message = fails(statements);
        assert!(message.contains("script ran for too long"), "{statements}: {message}");
    }
}

#[test]
fn the_next_script_has_its_full_budget() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      if h:headers():get('loop') then while true do end end
      for i = 1, 1e5 do end
      h:headers():add('out', 'done')
    end",
    );
    for _ in 0..3 {
        proxy.test.request.append(&HeaderName::new("loop").unwrap(), b"1");
        assert!(matches!(proxy.request(End::Last), Step::Next));
        assert_eq!(proxy.header("out"), None);
        proxy.next();
        assert!(matches!(proxy.request(End::Last), Step::Next));
        assert_eq!(proxy.header("out").as_deref(), Some("done"));
        proxy.next();
    }
    assert_eq!(proxy.errors(), 3);
}

#[test]
fn a_loop_at_load_is_refused() {
    assert!(vm::check("while true do end", "").unwrap_err().contains("script ran for too long"));
}

#[test]
fn memory_ends() {
    for statements in [
        "local t = {} while true do t[#t + 1] = ('x'):rep(1e5) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "local s = ('x'):rep(1e9)",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
        "local s = ('x'):rep(1e7) local t = {} for i = 1, 100 do t[i] = h:base64Escape(s .. i) end",
    ] {
        let message = fails(statements);
        assert!(message.ends_with("not enough memory"), "{statements}: {message}");
    }
    // So small that the time may end first.
    let message = fails("local t = {} while true do t[#t + 1] = h:streamInfo() end");
    assert!(message.ends_with("not enough memory") || message.contains("script ran for too long"), "{message}");
}

#[test]
fn recursion_ends() {
    for statements in [
        "local function f() return 1 + f() end f()",
        "local function f() local t = setmetatable({}, {__index = function() return f() + 1 end}) return t.x end f()",
        "local function f() return (('x'):gsub('x', f)) end f()",
        "local function f() local c = coroutine.wrap(f) c() return 1 end f()",
        "local function f() local ok, e = pcall(f) error(e, 0) end f()",
        "local s = ('('):rep(1e5) assert(loadstring('return ' .. s))",
        "local t = {} for i = 1, 1e5 do t = {t} end h:streamInfo():dynamicMetadata():set('a', 'b', t)",
        "string.rep('x', -1):find(('('):rep(1e3))",
        "local t = setmetatable({}, {__tostring = function(t) return tostring(t) end}) tostring(t)",
        "local t = {} for i = 1, 1e5 do t[i] = i end return unpack(t)",
    ] {
        let message = fails(statements);
        assert_ne!(message, "no failure", "{statements}");
    }
}

#[test]
fn writing_ends() {
    for statements in [
        "local s = ('x'):rep(1e5) while true do h:headers():replace('x', s) end",
        "while true do h:headers():add('x', 'y') end",
        "while true do h:headers():add('accept', 'y') end",
        "local d, i = h:streamInfo():dynamicMetadata(), 0 while true do i = i + 1 d:set('a', 'k' .. i, 'v') end",
        "local f, i = h:streamInfo():filterState(), 0 while true do i = i + 1 f:set('k' .. i, 'envoy.string', 'v') end",
    ] {
        let message = fails(statements);
        let ends = message.contains("script writes more than") || message.contains("too many objects");
        assert!(ends, "{statements}: {message}");
    }
    let said = says(
        "local n = 0 attempt(function() while true do h:stats():counter('c' .. n):inc() n = n + 1 end end) out(n)",
    );
    assert!(said.contains("scripts of a filter may use 1000 statistics") && said.ends_with(" 1000"), "{said}");
}

#[test]
fn a_full_machine_is_replaced() {
    let mut proxy = Proxy::new(
        "kept = {}
    function envoy_on_request(h)
      if h:headers():get('fill') then
        while true do kept[#kept + 1] = ('x'):rep(1e5) .. #kept end
      end
      h:headers():add('out', #kept)
    end",
    );
    proxy.test.request.append(&HeaderName::new("fill").unwrap(), b"1");
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert_eq!((proxy.header("out"), proxy.errors()), (None, 1));
    proxy.next();
    assert!(matches!(proxy.request(End::Last), Step::Next));
    assert_eq!((proxy.header("out").as_deref(), proxy.errors()), (Some("0"), 1));
    assert_eq!(proxy.store.value("lua.lua_vm_count"), Some(1));
}

#[test]
fn garbage_does_not_fill_a_machine() {
    let mut proxy = Proxy::new(
        "function envoy_on_request(h)
      kept = ('x'):rep(1e7) .. h:headers():get(':path')
      h:headers():add('out', #kept)
    end",
    );
    for _ in 0..20 {
        assert!(matches!(proxy.request(End::Last), Step::Next));
        assert_eq!(proxy.header("out").as_deref(), Some("10000002"));
        proxy.next();
    }
    assert_eq!(proxy.errors(), 0);
}

#[test]
fn deep_stacks_fit_a_small_thread() {
    let statements = [
        "local function f() return (('x'):gsub('x', f)) end f()",
        "local function f() local c = coroutine.wrap(f) c() return 1 end f()",
        "local function f() table.sort({1, 2, 3}, f) end f()",
        "local function f() local c = coroutine.wrap(function() h:headers():get('x') f() end) c() return 1 end f()",
        "local function f() return 1 + setmetatable({}, {__add = f}) end f()",
    ];
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        for statements in statements {
            assert_ne!(fails(statements), "no failure", "{statements}");
        }
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn time_ends() {
    let by = |statements: &str| {
        failure_by(&format!("function envoy_on_request(h)\n{statements}\nend"), Duration::from_millis(10))
    };
    for statements in [
        "local s = ('x'):rep(1e5) for i = 1, 1e3 do local z = s:reverse() end",
        "local s, z = ('x'):rep(1e5), ('x'):rep(1e5) .. 'y' for i = 1, 1e3 do local q = s < z end",
        "local t = {} for i = 1, 1e3 do t[i] = i % 7 end table.sort(t)",
        "local t = {} for i = 1, 1e3 do t[i] = i % 7 end table.sort(t, rawequal)",
        "for i = 1, 1e3 do h:base64Escape('x') end",
        "for i = 1, 1e3 do local ok = pcall(h.headers(h).get, h:headers(), 'x') end",
        "for i = 1, 1e3 do collectgarbage() end",
        "for i = 1, 1e3 do load('return 1') end",
    ] {
        let message = by(statements);
        assert!(message.contains("script ran for too long"), "{statements}: {message}");
    }
    assert_eq!(by("local x = 1"), "no failure");
}

#[test]
fn waiting_for_a_processor_is_not_held_against_a_script() {
    let second = Duration::from_secs(1);
    assert_eq!(failure_by("function envoy_on_request(h) local x = 1 end", second), "no failure");
    let message = failure_by("function envoy_on_request(h) for i = 1, 1e4 do end end", second);
    assert!(message.contains("script ran for too long"), "{message}");
}

#[test]
fn large_work_is_counted() {
    for statements in [
        "local s = ('x'):rep(4e6) while true do h:base64Escape(s) end",
        "local s = ('a'):rep(1e6) local z = ('a'):rep(5e5) .. 'b' while true do s:find(z, 1, true) end",
        "local s = ('a'):rep(1e6) local z = ('a'):rep(1e5) .. 'b' while true do s:find(z) end",
        "string.find(('1'):rep(14) + 0, ('.-'):rep(20) .. 'b') while true do end",
        "local s = ('x'):rep(1e6) while true do s:gsub('.', math.abs) end",
        "local s = ('x=1 '):rep(6e4) while true do load(s) end",
        "while true do collectgarbage() end",
    ] {
        let message = fails(statements);
        let ends = message.contains("script ran for too long") || message.contains("bad argument");
        assert!(ends, "{statements}: {message}");
    }
    assert!(fails("assert(load((' '):rep(3e5)))").contains("chunk has more than 262144 bytes"));
    assert!(fails("table.insert({}, -1e9, 1)").contains("position out of bounds"));
}

#[test]
fn lines_of_log_end() {
    for statements in ["h:logTrace('x')", "print()"] {
        let message = fails(&format!("for i = 1, 1001 do {statements} end"));
        assert!(
            message.ends_with("script logs more than 1000 lines or 1048576 bytes without ending or waiting"),
            "{message}"
        );
    }
    assert_eq!(fails("for i = 1, 1000 do h:logTrace('x') end"), "no failure");
    assert!(fails("h:logTrace(('x'):rep(2e6))").contains("script logs more than"));
}

#[test]
fn what_blocks_is_refused() {
    for (call, why) in [
        ("os.execute('true')", "os.execute is not available: it would block the worker"),
        ("os.remove('x')", "os.remove is not available: it would touch files and block the worker"),
        ("os.rename('x', 'y')", "os.rename is not available: it would touch files and block the worker"),
        ("os.tmpname()", "os.tmpname is not available: it would touch files and block the worker"),
        ("os.setlocale('C')", "os.setlocale is not available: it would change the whole process"),
        ("os.exit(1)", "os.exit is not available: it would end the proxy"),
        ("io.popen('true')", "io.popen is not available: it would block the worker"),
        ("io.open('x')", "io.open is not available: it would touch files and block the worker"),
        ("io.stdin:read()", "io.stdin:read is not available: it would block the worker"),
        ("require('io').lines('x')", "io.lines is not available: it would touch files and block the worker"),
        ("dofile('x')", "dofile is not available: it would touch files and block the worker"),
        ("loadfile('x')", "loadfile is not available: it would touch files and block the worker"),
        ("getfenv(xpcall).os.execute('true')", "attempt to index field 'os' (a nil value)"),
        ("getfenv(string.find).io.open('x')", "attempt to index field 'io' (a nil value)"),
        ("getfenv(h.headers).os.execute('true')", "attempt to index field 'os' (a nil value)"),
        ("getfenv(0).os.execute('true')", "attempt to index field 'os' (a nil value)"),
    ] {
        let message = fails(call);
        assert!(message.ends_with(why), "{call}: {message}");
    }
    assert_eq!(fails("return os.time(), os.clock(), os.date(), os.difftime(2, 1), os.getenv('HOME')"), "no failure");
}
