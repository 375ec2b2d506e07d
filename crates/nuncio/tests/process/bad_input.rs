//! Configurations that are no configurations: each ends with a clear message, a place where there is one, and an exit code
//! that is not zero, never with a panic, and in bounded memory.

use std::fs::File;
use std::io::Write;

use crate::support::*;

fn valid() -> String {
    let routes = "[{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: ok}}}]";
    Http { routes, ..Http::default() }.text()
}

/// Writes the bytes as configuration; what the binary says when it refuses them.
fn refused(bytes: &[u8]) -> String {
    let setup = Setup::new("");
    std::fs::write(setup.config(), bytes).unwrap();
    setup.refused()
}

fn says(bytes: &[u8], pieces: &[&str]) {
    let printed = refused(bytes);
    for piece in pieces {
        assert!(printed.contains(piece), "it does not say {piece:?}:\n{printed}");
    }
}

#[test]
fn truncated() {
    let text = valid().replace("$front", "0");
    // Cut within the listener, everywhere: what is left is refused or, cut between fields, an incomplete configuration.
    let listener = text.find("name: front").unwrap();
    for at in (listener..text.find("  clusters").unwrap() - 4).step_by(61) {
        says(&text.as_bytes()[..at], &["envoy.yaml:"]);
    }
    says(br#"{"static_resources": {"listeners": [{"name": "a""#, &["envoy.yaml:"]);
}

#[test]
fn binary() {
    says(&[0, 159, 146, 150, 255, 254, 7, 8], &["envoy.yaml"]);
    says(b"\x7fELF\x02\x01\x01\0\0\0\0\0", &["envoy.yaml"]);
    let mut noise = Vec::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..65536 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.push((state >> 56) as u8);
    }
    says(&noise, &["envoy.yaml"]);
}

#[test]
fn deeply_nested() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
        let depth = 100_000;
        says((open.repeat(depth) + &close.repeat(depth)).as_bytes(), &["envoy.yaml:"]);
        says(open.repeat(depth).as_bytes(), &["envoy.yaml:"]);
    }
    let mut block = String::new();
    for level in 0..5_000 {
        block += &" ".repeat(level);
        block += "a:\n";
    }
    says(block.as_bytes(), &["envoy.yaml:", "nested deeper"]);
    says((br#"{"a":"#.repeat(100_000)).as_slice(), &["envoy.yaml:"]);
}

/// Ten lists of ten of the list before: a billion values from a hundred lines.
#[test]
fn aliases_that_multiply() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{before}]\n");
    }
    says(text.as_bytes(), &["envoy.yaml:", "alias"]);
}

/// Refuses a file that is too big before it has read it into memory.
#[test]
fn a_hundred_megabytes() {
    let setup = Setup::new("");
    let line = format!("- {}\n", "x".repeat(1022)).repeat(1024);
    let mut file = File::create(setup.config()).unwrap();
    for _ in 0..100 {
        file.write_all(line.as_bytes()).unwrap();
    }
    drop(file);
    let printed = setup.refused();
    assert!(printed.contains("envoy.yaml") && printed.contains("bytes"), "{printed}");
    // From something that has no size to look at, too.
    let (code, printed) = run_to_end(&["-c", "/dev/zero", "--disable-hot-restart"]);
    assert_ne!(code, 0);
    assert!(printed.contains("/dev/zero"), "{printed}");
}

#[test]
fn keys_that_stand_twice() {
    let text = valid().replace("static_resources:", "node: {id: a, id: b}\nstatic_resources:").replace("$front", "0");
    let line = text.lines().position(|line| line.starts_with("node")).unwrap() + 1;
    says(text.as_bytes(), &[&format!("envoy.yaml:{line}:15: error"), "id"]);
    let twice = format!("{text}admin: {{}}\n").replace("id: a, id: b", "id: a");
    says(twice.as_bytes(), &["admin"]);
    says(br#"{"node": {"id": "a", "id": "b"}}"#, &["envoy.yaml:1:", "id"]);
}

#[test]
fn not_a_mapping() {
    for text in ["", "42\n", "- a\n- b\n", "just words\n", "~\n"] {
        let printed = refused(text.as_bytes());
        assert!(printed.contains("envoy.yaml"), "{text:?}: {printed}");
    }
}

#[test]
fn unknown_fields_are_fatal_unless_allowed() {
    let text = valid().replace("stat_prefix: front", "stat_prefix: front, colour: blue, server_nam: x");
    let setup = Setup::new(&text);
    let printed = setup.refused();
    for piece in ["unknown field `colour`", "unknown field `server_nam`", "server_name"] {
        assert!(printed.contains(piece), "it does not say {piece:?}:\n{printed}");
    }
    let running = setup.flags(&["--allow-unknown-static-fields"]).start();
    assert_eq!(running.answer("/"), (200, "ok".into()));
    // They are listed, and counted.
    running.await_output("colour");
    running.await_output("server_nam");
    assert_eq!(running.stat("server.static_unknown_fields"), 2);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = valid()
        .replace("stat_prefix: front", "stat_prefix: ''")
        .replace("status: 200", "status: many")
        .replace("prefix: /}", "prefx: /}")
        .replace("$front", "70000");
    let printed = refused(text.as_bytes());
    let errors = printed.lines().filter(|line| line.contains(": error: ")).count();
    assert!(errors >= 4, "{errors} of 4:\n{printed}");
    for piece in ["stat_prefix", "many", "did you mean `prefix`", "70000"] {
        assert!(printed.contains(piece), "it does not say {piece:?}:\n{printed}");
    }
}

#[test]
fn what_is_not_there_yet_is_said() {
    let text = valid().replace("$front", "0");
    let printed = refused(text.replace("stat_prefix: front", "stat_prefix: front, codec_type: HTTP3").as_bytes());
    assert!(printed.contains("codec_type") && printed.contains("HTTP/3"), "{printed}");
    let dynamic = "dynamic_resources: {cds_config: {ads: {}}, ads_config: {api_type: GRPC, \
                   grpc_services: [{envoy_grpc: {cluster_name: xds}}]}}\n";
    let printed = refused((text + dynamic).as_bytes());
    assert!(printed.contains("dynamic_resources"), "{printed}");
}
