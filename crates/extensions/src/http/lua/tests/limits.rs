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
