//! Scripts that can't be compiled, and scripts of routes.

use super::*;
use crate::http::lua::script::{Hooks, add_route_hooks, route_hooks};
use nuncio_filter::Interest;

#[test]
fn broken_scripts_say_where() {
    for (text, expected) in [
        ("function envoy_on_request(h)", "[string \"function envoy_on_request(h)\"]:1: 'end' expected near '<eof>'"),
        ("x = 1\ny = = 2", "[string \"x = 1...\"]:2: unexpected symbol near '='"),
        ("error('x')", "[string \"error('x')\"]:1: x"),
        ("local x = nil\nx()", "[string \"local x = nil...\"]:2: attempt to call local 'x' (a nil value)"),
    ] {
        assert_eq!(vm::check(text, "").unwrap_err(), expected);
    }
    let defined = |text| vm::check(text, "").unwrap();
    assert_eq!(defined("function envoy_on_response() end"), Hooks { request: false, response: true });
    assert_eq!(defined("envoy_on_request = 'not a function'"), Hooks::default());
}

#[test]
fn only_hooks_that_scripts_have_are_wanted() {
    assert_eq!(interest(Hooks::default()), Interest::NONE);
    let request = Interest::REQUEST_HEADERS.and(Interest::REQUEST_BODY);
    assert_eq!(interest(Hooks { request: true, response: false }), request);
    add_route_hooks(Hooks { request: false, response: true });
    assert!(route_hooks().response);
}

#[test]
fn modules_are_found_on_the_path() {
    let directory = std::env::temp_dir().join(format!("nuncio-lua-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("sub")).unwrap();
    std::fs::write(directory.join("sub/mine.lua"), "mark = 'set' return {name = ...}").unwrap();
    std::fs::write(directory.join("broken.lua"), "x x").unwrap();
    let path = format!("{}/?.lua;", directory.display());
    vm::check(
        "local m = require('sub.mine') assert(m.name == 'sub.mine' and mark == 'set' and require('sub.mine') == m)",
        &path,
    )
    .unwrap();
    let message = vm::check("require('broken')", &path).unwrap_err();
    assert!(message.contains("error loading module 'broken' from file"), "{message}");
    std::fs::remove_dir_all(directory).unwrap();
}
