//! Access-log files: opened at start, rotated, and lost, without ever costing a request.

use std::fs;

use nuncio_testkit::h2_raw::{RawH2, flag, frame, hpack, kind};
use nuncio_testkit::process::Signal;

use crate::support::*;

fn logs_to(path: &str) -> String {
    let log = format!(
        "access_log: [{{name: f, typed_config: {{'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.\
         FileAccessLog, path: {path}, log_format: {{text_format_source: {{inline_string: \"%REQ(:PATH)%\\n\"}}}}}}}}]"
    );
    let routes = "[{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: ok}}}]";
    Http { routes, manager: &[&log], ..Http::default() }.text()
}

#[test]
fn a_path_that_cant_be_opened_is_an_error_at_start() {
    for path in ["/nonexistent/dir/access.log", "$dir"] {
        let setup = Setup::new(&logs_to(path));
        let path = setup.fill(path);
        let printed = setup.refused();
        assert!(printed.contains(&path), "it does not name the path:\n{printed}");
        assert!(
            printed.contains("No such file") || printed.contains("Is a directory"),
            "it does not say why:\n{printed}"
        );
    }
}

/// Renames the file, lets `reopen` act, and expects new lines in a new file and no line lost.
fn rotates(reopen: impl Fn(&Running)) {
    let running = Setup::new(&logs_to("$dir/access.log")).start();
    let (log, rotated) = (running.setup.path("access.log"), running.setup.path("access.log.1"));
    assert_eq!(running.get("/before").status(), 200);
    await_file(&running, &log, |text| text == "/before\n");
    fs::rename(&log, &rotated).unwrap();
    reopen(&running);
    if !running.proxy.await_that(|_| log.exists()) {
        running.fail("it does not make the file anew");
    }
    assert_eq!(running.get("/after").status(), 200);
    await_file(&running, &log, |text| text == "/after\n");
    assert_eq!(fs::read_to_string(&rotated).unwrap(), "/before\n");
}

#[test]
fn rotation_by_signal() {
    rotates(|running| running.proxy.signal(Signal::User1).unwrap());
}

#[test]
fn rotation_by_the_admin_endpoint() {
    rotates(|running| assert_eq!(running.proxy.admin("POST", "/reopen_logs").unwrap().status(), 200));
}

#[test]
fn rotation_by_reload() {
    rotates(|running| running.proxy.signal(Signal::Hangup).unwrap());
}

#[test]
fn a_directory_that_is_gone_costs_lines_only() {
    let running = Setup::new(&logs_to("$dir/logs/access.log").replace("$dir/logs", "$dir")).start();
    assert_eq!(running.get("/").status(), 200);
    drop(running);
    let setup = Setup::new(&logs_to("$dir/logs/access.log"));
    let logs = setup.path("logs");
    fs::create_dir(&logs).unwrap();
    let running = setup.start();
    assert_eq!(running.get("/a").status(), 200);
    await_file(&running, &logs.join("access.log"), |text| text == "/a\n");
    fs::remove_dir_all(&logs).unwrap();
    running.proxy.signal(Signal::User1).unwrap();
    for _ in 0..100 {
        assert_eq!(running.get("/b").status(), 200);
    }
    running.await_stat("filesystem.reopen_failed", |n| n >= 1);
    // The directory is back, and with the next rotation the lines too.
    fs::create_dir(&logs).unwrap();
    running.proxy.signal(Signal::User1).unwrap();
    let log = logs.join("access.log");
    let came = running.proxy.await_that(|_| {
        assert_eq!(running.get("/c").status(), 200);
        fs::read_to_string(&log).is_ok_and(|text| text.contains("/c\n"))
    });
    assert!(came, "no lines after the directory came back");
}

#[test]
fn a_full_disk_costs_lines_only() {
    let running = Setup::new(&logs_to("/dev/full")).start();
    for _ in 0..100 {
        assert_eq!(running.get("/").status(), 200);
    }
    running.await_stat("filesystem.write_failed", |n| n >= 1);
    assert_eq!(running.get("/").status(), 200);
}

/// CVE-2026-47220: lines about requests without a host, and about what is no request.
#[test]
fn cve_2026_47220_server_names_of_requests_without_a_host() {
    let operators: Vec<String> = ["SNI_FIRST:HOST", "SNI_FIRST:ORIG", "HOST_FIRST:HOST", "HOST_FIRST", "SNI_ONLY"]
        .iter()
        .map(|parameters| format!("%REQUESTED_SERVER_NAME({parameters})%"))
        .collect();
    let line = format!("%RESPONSE_CODE% {}", operators.join(" "));
    let config = logs_to("$dir/access.log").replace("%REQ(:PATH)%", &line);
    let running = Setup::new(&config).start();
    assert_eq!(ask(&mut running.client(), "GET / HTTP/1.1\r\nx: y\r\n\r\n").status(), 400);
    ask(&mut running.client(), "GET / HTTP/1.0\r\n\r\n");
    ask(&mut running.client(), "nonsense\r\n\r\n");
    let raw = RawH2::connect(running.setup.address("front")).unwrap();
    let head = hpack::block(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]);
    raw.send(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &head)).unwrap();
    assert!(raw.await_that(|account| account.closed || account.ended > 0 || !account.resets.is_empty()));
    assert_eq!(running.get("/").status(), 200);
    let log = await_file(&running, &running.setup.path("access.log"), |text| text.contains("200 test "));
    assert!(log.lines().any(|line| line == "400 - - - - -"), "{log}");
}
