//! Reading the configuration again: on SIGHUP, and by itself with `--watch`.

use std::path::Path;

use nuncio_testkit::process::Signal;

use crate::support::*;

fn answers(body: &str) -> String {
    let routes =
        format!("[{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: '{body}'}}}}}}]");
    Http { routes: &routes, ..Http::default() }.text()
}

/// A file that can't be used, for two reasons.
fn broken() -> String {
    answers("broken").replace("stat_prefix: front", "stat_prefixx: front").replace("status: 200", "status: 99999")
}

#[test]
fn sighup_reloads() {
    let mut running = Setup::new(&answers("one")).start();
    let mut kept = running.client();
    assert_eq!(answer(&get(&mut kept, "/")), (200, "one".into()));
    running.setup.write(&answers("two"));
    running.proxy.signal(Signal::Hangup).unwrap();
    running.await_answer("/", (200, "two"));
    // The same file again is nothing new.
    let modified = running.stat("listener_manager.listener_modified");
    assert_eq!(modified, 1);
    running.proxy.signal(Signal::Hangup).unwrap();
    running.await_output("in force");
    assert_eq!(running.answer("/"), (200, "two".into()));
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut running = Setup::new(&answers("one")).start();
    let mut kept = running.client();
    running.setup.write(&broken());
    running.proxy.signal(Signal::Hangup).unwrap();
    // All diagnostics, with their places.
    running.await_output("stat_prefixx");
    running.await_output("99999");
    running.await_output("envoy.yaml:");
    running.await_output("the old one stays in force");
    assert_eq!(running.answer("/"), (200, "one".into()));
    assert_eq!(answer(&get(&mut kept, "/")), (200, "one".into()));
    running.setup.write(&answers("mended"));
    running.proxy.signal(Signal::Hangup).unwrap();
    running.await_answer("/", (200, "mended"));
}

#[test]
fn a_file_whose_port_is_taken_changes_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut running = Setup::new(&answers("one")).start();
    running.setup.write(&answers("two").replace("$front", &port));
    running.proxy.signal(Signal::Hangup).unwrap();
    running.await_output("Address already in use");
    running.await_output("the old one stays");
    assert_eq!(running.answer("/"), (200, "one".into()));
}

#[test]
fn listeners_and_clusters_come_and_go() {
    let (first, second) = (origin(vec![body("first")]), origin(vec![body("second")]));
    let front = |name: &str, to: &nuncio_testkit::origin::Origin| {
        Http { clusters: vec![cluster("a", &[to.address()])], ..Http::default() }.text().replace("$front", name)
    };
    let mut running = Setup::new(&(front("$front", &first) + "# $other\n")).start();
    assert_eq!(running.answer("/"), (200, "first".into()));
    running.setup.write(&front("$other", &second));
    running.proxy.signal(Signal::Hangup).unwrap();
    let moved = running.proxy.await_that(|_| {
        let client = nuncio_testkit::client::Client::connect(running.setup.address("other"));
        client.is_ok_and(|mut client| answer(&get(&mut client, "/")) == (200, "second".into()))
    });
    assert!(moved, "{}", running.proxy.output());
    let old = running.setup.address("front");
    assert!(running.proxy.await_that(|_| std::net::TcpStream::connect(old).is_err()), "the old port is still open");
}

#[test]
fn watching_notices_a_file_that_is_written() {
    let mut running = Setup::new(&answers("one")).flags(&["--watch"]).start();
    assert_eq!(running.answer("/"), (200, "one".into()));
    running.setup.write(&answers("two"));
    running.await_answer("/", (200, "two"));
    running.setup.write(&broken());
    running.await_output("stat_prefixx");
    assert_eq!(running.answer("/"), (200, "two".into()));
}

#[test]
fn watching_notices_a_file_that_is_replaced() {
    let mut running = Setup::new(&answers("one")).flags(&["--watch"]).start();
    let config = running.setup.config();
    for name in ["two", "three"] {
        let other = running.setup.path("other.yaml");
        std::fs::rename(&config, &other).unwrap();
        running.setup.write(&answers(name));
        // Written as a whole elsewhere, then put into place.
        let new = running.setup.path("new.yaml");
        std::fs::rename(&config, &new).unwrap();
        std::fs::rename(&new, &config).unwrap();
        running.await_answer("/", (200, name));
    }
}

/// Kubernetes gives a ConfigMap as a link to a file below the link `..data`, which it replaces.
#[test]
fn watching_notices_a_directory_link_that_is_swapped() {
    let mut setup = Setup::new(&answers("one"));
    let dir = setup.dir.path().to_path_buf();
    let place = |setup: &mut Setup, name: &str, text: &str| {
        setup.write(text);
        std::fs::create_dir(dir.join(name)).unwrap();
        std::fs::rename(setup.config(), dir.join(name).join("envoy.yaml")).unwrap();
        std::os::unix::fs::symlink(name, dir.join("..data_tmp")).unwrap();
        std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    place(&mut setup, "..1", &answers("one"));
    let link = |dir: &Path| std::os::unix::fs::symlink("..data/envoy.yaml", dir.join("envoy.yaml")).unwrap();
    link(&dir);
    let running = setup.flags(&["--watch"]).start();
    assert_eq!(running.answer("/"), (200, "one".into()));
    std::fs::create_dir(dir.join("..2")).unwrap();
    let text = running.setup.fill(&answers("two"));
    std::fs::write(dir.join("..2/envoy.yaml"), text).unwrap();
    std::os::unix::fs::symlink("..2", dir.join("..data_tmp")).unwrap();
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    running.await_answer("/", (200, "two"));
}

#[test]
fn a_unix_socket_goes_over_to_a_changed_and_to_a_renamed_listener() {
    let says = |name: &str, mode: &str, what: &str| {
        let filter = format!(
            "{{name: d, typed_config: {{'@type': \
             type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config, \
             response: {{inline_string: '{what}'}}}}}}"
        );
        let address = format!("{{pipe: {{path: $dir/socket{mode}}}}}");
        bootstrap(&[format!("name: {name}, address: {address}, filter_chains: [{{filters: [{filter}]}}]")], &[], &[])
    };
    let mut running = Setup::new(&says("front", "", "one")).start();
    let path = running.setup.path("socket");
    let hears = |what: &str| {
        let client = nuncio_testkit::client::Client::connect_unix(&path);
        client.is_ok_and(|mut client| client.rest().data == what.as_bytes())
    };
    assert!(hears("one"));
    for (name, mode, what) in [("front", ", mode: 0600", "changed"), ("other", ", mode: 0600", "renamed")] {
        running.setup.write(&says(name, mode, what));
        running.proxy.signal(Signal::Hangup).unwrap();
        assert!(running.proxy.await_that(|_| hears(what)), "{what}: {}", running.proxy.output());
    }
    running.setup.write(&answers("http"));
    running.proxy.signal(Signal::Hangup).unwrap();
    let gone = running.proxy.await_that(|_| std::os::unix::net::UnixStream::connect(&path).is_err());
    assert!(gone, "the socket is still open");
}
