//! TLS between the real binary and other programs: `curl` and `openssl`.

mod handshakes;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nuncio_testkit::authority::Authority;
use nuncio_testkit::process::Signal;

use crate::support::{HCM, Http, Running, Setup, origin};

/// A listener with HTTPS that asks every client for a certificate or none, and forwards to an origin.
fn https(origin: &nuncio_testkit::origin::Origin, context: &str, manager: &str) -> String {
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: https
    address: {{socket_address: {{address: 127.0.0.1, port_value: $front}}}}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          {context}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: https
          {manager}
          route_config: {{virtual_hosts: [{{name: v, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: origin}}}}]}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: origin
    load_assignment: {{cluster_name: origin, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}]}}]}}
"#,
        origin.address().port()
    )
}

const CERTIFICATE: &str =
    "tls_certificates: [{certificate_chain: {filename: $dir/server.crt}, private_key: {filename: $dir/server.key}}]";

fn start(config: &str, authority: &Authority) -> Running {
    let setup = Setup::new(config);
    authority.write(setup.dir.path(), "server", &["DNS:server.test", "URI:spiffe://nuncio/server"]);
    authority.write(setup.dir.path(), "client", &["DNS:client.test", "URI:spiffe://nuncio/client"]);
    setup.start()
}

/// Runs curl against the listener `front` as `https://server.test/`: whether it went well, and what it printed.
pub fn curl(running: &Running, arguments: &[&str]) -> (bool, String) {
    let port = running.setup.port("front");
    let directory = running.setup.dir.path();
    let output = Command::new("curl")
        .args(["-sS", "-i", "--max-time", "10", "--cacert", "ca.crt", "--connect-to"])
        .arg(format!("server.test:443:127.0.0.1:{port}"))
        .args(arguments)
        .arg("https://server.test/")
        .current_dir(directory)
        .output()
        .expect("curl is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// What `openssl s_client` prints of a connection that sends nothing.
fn openssl(running: &Running, arguments: &[&str]) -> String {
    let address = running.setup.address("front").to_string();
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-servername", "server.test"])
        .args(arguments)
        .stdin(Stdio::null())
        .current_dir(running.setup.dir.path())
        .output()
        .expect("openssl is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A counter whose name may have `$front` in it.
fn stat(running: &Running, name: &str) -> u64 {
    running.stat(&running.setup.fill(name))
}

/// Waits until such a counter is not zero.
fn await_stat(running: &Running, name: &str) {
    running.await_stat(&running.setup.fill(name), |value| value > 0);
}

/// The certificate that the listener shows, PEM without its last line.
fn shown(running: &Running) -> String {
    let text = openssl(running, &["-showcerts"]);
    let start = text.find("-----BEGIN CERTIFICATE").unwrap_or_else(|| panic!("no certificate: {text}"));
    let end = text[start..].find("-----END").expect("an end");
    text[start..start + end].trim().to_owned()
}

#[test]
fn a_client_speaks_https_with_either_http_version() {
    let origin = origin(vec![]);
    let context = format!("common_tls_context: {{{CERTIFICATE}, alpn_protocols: [h2, http/1.1]}}");
    let running = start(&https(&origin, &context, "codec_type: AUTO"), &Authority::new("test"));
    for (flag, version) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200")] {
        let (_, answer) = curl(&running, &[flag]);
        assert!(answer.starts_with(version), "{answer}");
    }
    assert_eq!(origin.seen()[0].head.get("x-forwarded-proto"), Some("https"));
    assert_eq!(stat(&running, "listener.127.0.0.1_$front.ssl.handshake"), 2);
    assert_eq!(stat(&running, "listener.127.0.0.1_$front.ssl.versions.TLSv1.3"), 2);
    let certs = running.proxy.admin_text("/certs").unwrap();
    assert!(certs.contains("\"dns\": \"server.test\"") && certs.contains("server.crt"), "{certs}");
}

#[test]
fn tcp_goes_through_where_tls_ends() {
    let origin = origin(vec![]);
    let config = https(&origin, &format!("common_tls_context: {{{CERTIFICATE}}}"), "");
    let (head, rest) =
        config.split_once("      - name: envoy.filters.network.http_connection_manager").expect("a filter");
    let (_, clusters) = rest.split_once("  clusters:").expect("clusters");
    let filter = r#"      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: origin
"#;
    let running = start(&format!("{head}{filter}  clusters:{clusters}"), &Authority::new("test"));
    let (_, answer) = curl(&running, &["--http1.1"]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.seen()[0].head.get("x-forwarded-proto"), None);
}

#[test]
fn versions_and_ciphers_are_those_of_the_configuration() {
    let origin = origin(vec![]);
    let parameters =
        "tls_params: {tls_maximum_protocol_version: TLSv1_2, cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384]}";
    let context = format!("common_tls_context: {{{CERTIFICATE}, {parameters}}}");
    let running = start(&https(&origin, &context, ""), &Authority::new("test"));
    let shown = openssl(&running, &["-tls1_2"]);
    assert!(shown.contains("ECDHE-ECDSA-AES256-GCM-SHA384"), "{shown}");
    for refused in [&["-tls1_3"][..], &["-tls1_1"], &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]] {
        let shown = openssl(&running, refused);
        assert!(shown.contains("Cipher is (NONE)"), "{refused:?}: {shown}");
    }
}

#[test]
fn a_client_certificate_is_required_and_told_of() {
    let origin = origin(vec![]);
    let context = format!(
        "require_client_certificate: true\n          common_tls_context: {{{CERTIFICATE}, validation_context: \
         {{trusted_ca: {{filename: $dir/ca.crt}}, match_typed_subject_alt_names: [{{san_type: URI, matcher: {{prefix: \
         \"spiffe://nuncio/\"}}}}]}}}}"
    );
    let manager = "forward_client_cert_details: SANITIZE_SET\n          \
                   set_current_client_cert_details: {subject: true, uri: true, dns: true}";
    let authority = Authority::new("test");
    let running = start(&https(&origin, &context, manager), &authority);
    let directory = running.setup.dir.path();
    for (stem, names) in [("other", &["URI:spiffe://other/client"][..]), ("nameless", &[])] {
        authority.write(directory, stem, names);
    }
    let (certificate, key) = Authority::new("stranger").issue("stranger", &["URI:spiffe://nuncio/client"]);
    fs::write(directory.join("stranger.crt"), certificate).unwrap();
    fs::write(directory.join("stranger.key"), key).unwrap();
    let ask = |stem: &str| {
        curl(
            &running,
            &[
                "--cert",
                &format!("{stem}.crt"),
                "--key",
                &format!("{stem}.key"),
                "-H",
                "x-forwarded-client-cert: By=me",
            ],
        )
    };
    let (well, answer) = ask("client");
    assert!(well && answer.contains(" 200"), "{answer}");
    let seen = origin.seen();
    let told = seen[0].head.get("x-forwarded-client-cert").unwrap();
    assert!(told.starts_with("By=spiffe://nuncio/server;Hash="), "{told}");
    assert!(told.ends_with(";Subject=\"CN=client,O=Nuncio\";URI=spiffe://nuncio/client;DNS=client.test"), "{told}");
    for stem in ["other", "nameless", "stranger"] {
        assert!(!ask(stem).0, "{stem}");
    }
    assert!(!curl(&running, &[]).0);
    assert_eq!(origin.seen().len(), 1);
    for (name, count) in
        [("fail_verify_san", 2), ("fail_verify_error", 1), ("fail_verify_no_cert", 1), ("handshake", 1)]
    {
        assert_eq!(stat(&running, &format!("listener.127.0.0.1_$front.ssl.{name}")), count, "{name}");
    }
}

/// A PEM certificate without its last line, with the line ends of `openssl`.
fn body(pem: &str) -> String {
    pem[..pem.find("-----END").expect("an end")].replace('\r', "").trim().to_owned()
}

/// Puts a file in the place of another, as tools do that renew certificates.
fn replace(directory: &Path, name: &str, content: &str) {
    let fresh = directory.join(format!("{name}.new"));
    fs::write(&fresh, content).unwrap();
    fs::rename(fresh, directory.join(name)).unwrap();
}

#[test]
fn a_certificate_that_changes_is_taken_and_a_broken_pair_is_not() {
    let origin = origin(vec![]);
    let context = format!("common_tls_context: {{{CERTIFICATE}}}");
    let authority = Authority::new("test");
    let running = start(&https(&origin, &context, ""), &authority);
    let directory = running.setup.dir.path();
    let factory = "listener.127.0.0.1_$front.server_ssl_socket_factory";
    let first = shown(&running);
    let (certificate, key) = authority.issue("server", &["DNS:server.test"]);
    replace(directory, "server.crt", &certificate);
    await_stat(&running, &format!("{factory}.ssl_context_update_failed"));
    running.await_output("the changed certificates can't be used, the old ones stay");
    assert_eq!(shown(&running), first);
    replace(directory, "server.key", &key);
    await_stat(&running, &format!("{factory}.ssl_context_update_by_sds"));
    let second = shown(&running);
    assert_ne!(second, first);
    assert_eq!(body(&certificate), second);
}

#[test]
fn a_volume_that_is_swapped_is_taken() {
    let origin = origin(vec![]);
    let context = "common_tls_context: {tls_certificates: [{certificate_chain: {filename: $dir/volume/tls.crt}, \
                   private_key: {filename: $dir/volume/tls.key}}]}";
    let authority = Authority::new("test");
    let setup = Setup::new(&https(&origin, context, ""));
    let volume = setup.path("volume");
    // As Kubernetes lays a secret out: names lead through ..data to the directory of a generation.
    let generation = |name: &str| {
        let directory = volume.join(name);
        fs::create_dir_all(&directory).unwrap();
        let (certificate, key) = authority.issue("server", &["DNS:server.test"]);
        fs::write(directory.join("tls.crt"), &certificate).unwrap();
        fs::write(directory.join("tls.key"), key).unwrap();
        std::os::unix::fs::symlink(name, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        certificate
    };
    generation("..1");
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), volume.join(name)).unwrap();
    }
    let running = setup.start();
    let first = shown(&running);
    let second = generation("..2");
    await_stat(&running, "listener.127.0.0.1_$front.server_ssl_socket_factory.ssl_context_update_by_sds");
    let last = shown(&running);
    assert_ne!(last, first);
    assert_eq!(body(&second), last);
}

#[test]
fn secrets_have_names_and_may_stand_in_a_file() {
    let origin = origin(vec![]);
    let context = "common_tls_context: {tls_certificate_sds_secret_configs: [{name: pair, sds_config: \
                   {path_config_source: {path: $dir/secrets.yaml}}}]}";
    let authority = Authority::new("test");
    let setup = Setup::new(&https(&origin, context, ""));
    authority.write(setup.dir.path(), "server", &["DNS:server.test"]);
    let secret = |stem: &str| {
        setup.fill(&format!(
            "resources:\n- \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\n  name: pair\n  \
             tls_certificate: {{certificate_chain: {{filename: $dir/{stem}.crt}}, private_key: {{filename: $dir/{stem}.key}}}}\n"
        ))
    };
    fs::write(setup.path("secrets.yaml"), secret("server")).unwrap();
    let second = secret("second");
    let running = setup.start();
    let first = shown(&running);
    assert!(stat(&running, "listener.127.0.0.1_$front.ssl.certificate.pair.expiration_unix_time_seconds") > 0);
    authority.write(running.setup.dir.path(), "second", &["DNS:server.test"]);
    replace(running.setup.dir.path(), "secrets.yaml", &second);
    await_stat(&running, "listener.127.0.0.1_$front.server_ssl_socket_factory.ssl_context_update_by_sds");
    assert_ne!(shown(&running), first);
}

#[test]
fn clients_are_told_the_authorities_unless_that_is_suppressed() {
    for suppressed in [false, true] {
        let origin = origin(vec![]);
        let context = format!(
            "common_tls_context: {{{CERTIFICATE}, validation_context: {{trusted_ca: {{filename: $dir/ca.crt}}, \
             suppress_client_ca_list: {suppressed}}}}}"
        );
        let running = start(&https(&origin, &context, ""), &Authority::new("test"));
        for version in ["-tls1_2", "-tls1_3"] {
            let shown = openssl(&running, &[version]);
            assert_eq!(shown.contains("Acceptable client certificate CA names"), !suppressed, "{shown}");
        }
    }
}

/// What a matcher of client certificates can't do is refused: others would be told of than it says.
#[test]
fn a_matcher_of_client_certificates_says_what_it_cannot_do() {
    const INPUT: &str = "input: {name: i, typed_config: {'@type': \
                         type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: x-a}}";
    let action = format!("action: {{name: a, typed_config: {{'@type': {HCM}.ForwardClientCertConfig}}}}");
    let list = |single: &str, then: &str| {
        format!("matcher_list: {{matchers: [{{predicate: {{single_predicate: {{{single}}}}}, on_match: {{{then}}}}}]}}")
    };
    let fine = format!("{INPUT}, value_match: {{exact: x}}");
    let query = "input: {name: i, typed_config: {'@type': \
                 type.googleapis.com/envoy.type.matcher.v3.HttpRequestQueryParamMatchInput, query_param: q}}";
    for (matcher, expected) in [
        (
            list(&format!("{query}, value_match: {{exact: x}}"), &action),
            "HttpRequestQueryParamMatchInput is not built here",
        ),
        (list(&format!("{INPUT}, value_match: {{safe_regex: {{regex: '('}}}}"), &action), "value_match"),
        (list(&fine, &format!("{action}, keep_matching: true")), "keep_matching: has no meaning here"),
        (
            list(&fine, "action: {name: a, typed_config: {'@type': type.googleapis.com/google.protobuf.Struct}}"),
            "says nothing of client certificates",
        ),
        (
            format!("matcher_tree: {{{INPUT}, prefix_match_map: {{map: {{a: {{}}}}}}}}"),
            "matcher_tree.prefix_match_map.map",
        ),
    ] {
        let field = format!("forward_client_cert_matcher: {{{matcher}}}");
        let text = Http { routes: "[]", manager: &[&field], ..Http::default() }.text();
        let printed = Setup::new(&text).refused();
        assert!(printed.contains(expected), "{matcher}\n{printed}");
    }
    let map =
        format!("matcher_tree: {{{INPUT}, exact_match_map: {{map: {{a: {{{action}}}}}}}}}, on_no_match: {{{action}}}");
    let field = format!("forward_client_cert_matcher: {{{map}}}");
    Setup::new(&Http { routes: "[]", manager: &[&field], ..Http::default() }.text()).start();
}

#[test]
fn sessions_are_resumed() {
    let origin = origin(vec![]);
    let context = format!("common_tls_context: {{{CERTIFICATE}}}");
    let running = start(&https(&origin, &context, ""), &Authority::new("test"));
    let shown = openssl(&running, &["-tls1_2", "-reconnect"]);
    assert!(shown.contains("Reused, TLSv1.2"), "{shown}");
    await_stat(&running, "listener.127.0.0.1_$front.ssl.session_reused");
}

/// What a session rests on is the listener and its chain, not their places in the lists.
#[test]
fn sessions_outlive_a_reload_that_moves_their_listener() {
    let origin = origin(vec![]);
    let context = format!(
        "common_tls_context: {{{CERTIFICATE}}}\n          session_ticket_keys: {{keys: [{{filename: $dir/ticket.key}}]}}"
    );
    let config = https(&origin, &context, "");
    let setup = Setup::new(&config);
    fs::write(setup.path("ticket.key"), [7; 80]).unwrap();
    Authority::new("test").write(setup.dir.path(), "server", &["DNS:server.test"]);
    let mut running = setup.start();
    let first = openssl(&running, &["-tls1_2", "-sess_out", "session"]);
    assert!(first.contains("New, TLSv1.2"), "{first}");
    // Another listener comes before it, and its own chain gets another filter.
    let (head, rest) = config.split_once("  - name: https\n").unwrap();
    let other = "  - {name: other, address: {socket_address: {address: 127.0.0.1, port_value: 0}}, \
                 filter_chains: [{filters: [{name: e, typed_config: {'@type': \
                 type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}]}\n";
    running
        .setup
        .write(&format!("{head}{other}  - name: https\n{}", rest.replace("stat_prefix: https", "stat_prefix: again")));
    running.proxy.signal(Signal::Hangup).unwrap();
    running.await_stat("listener_manager.listener_modified", |value| value > 0);
    running.await_output("in force");
    let second = openssl(&running, &["-tls1_2", "-sess_in", "session"]);
    assert!(second.contains("Reused, TLSv1.2"), "{second}");
    // With another match it is another chain.
    let matched = rest.replace(
        "    - transport_socket:\n",
        "    - filter_chain_match: {server_names: [server.test]}\n      transport_socket:\n",
    );
    assert_ne!(matched, rest);
    running.setup.write(&format!("{head}  - name: https\n{matched}"));
    running.proxy.signal(Signal::Hangup).unwrap();
    running.await_stat("listener_manager.listener_modified", |value| value > 1);
    let third = openssl(&running, &["-tls1_2", "-sess_in", "session"]);
    assert!(third.contains("New, TLSv1.2"), "{third}");
}

/// A listener that shows by its answer which server name was asked for, and a proxy in front of it that asks for the name
/// that each request is for.
fn by_request(options: &str, protocol: &str) -> String {
    const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
    const HCM: &str =
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let router = "{name: r, typed_config: {'@type': \
                  type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
    let manager = |prefix: &str, route: &str| {
        format!(
            "{{name: h, typed_config: {{'@type': {HCM}, stat_prefix: {prefix}, route_config: {{virtual_hosts: [{{name: v, \
             domains: ['*'], routes: [{{match: {{prefix: /}}, {route}}}]}}]}}, http_filters: [{router}]}}}}"
        )
    };
    let chain = |wanted: &str, answer: &str| {
        let route = format!("direct_response: {{status: 200, body: {{inline_string: {answer}}}}}");
        format!(
            "{{filter_chain_match: {{server_names: [{wanted}]}}, transport_socket: {{name: tls, typed_config: {{'@type': \
             {TLS}.DownstreamTlsContext, common_tls_context: {{{CERTIFICATE}, alpn_protocols: [h2, http/1.1]}}}}}}, \
             filters: [{}]}}",
            manager(answer, &route)
        )
    };
    let inspector = "{name: i, typed_config: {'@type': \
                     type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}";
    format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\n\
         static_resources:\n  listeners:\n  \
         - {{name: back, address: {{socket_address: {{address: 127.0.0.1, port_value: $back}}}}, listener_filters: \
         [{inspector}], filter_chains: [{}, {}, {}]}}\n  \
         - {{name: front, address: {{socket_address: {{address: 127.0.0.1, port_value: $front}}}}, filter_chains: \
         [{{filters: [{}]}}]}}\n  clusters:\n  \
         - {{name: back, transport_socket: {{name: tls, typed_config: {{'@type': {TLS}.UpstreamTlsContext, sni: \
         fixed.test, common_tls_context: {{validation_context: {{trusted_ca: {{filename: $dir/ca.crt}}}}}}}}}}, \
         typed_extension_protocol_options: {{{OPTIONS}: {{'@type': type.googleapis.com/{OPTIONS}, {protocol}, \
         upstream_http_protocol_options: {{{options}}}}}}}, load_assignment: {{cluster_name: back, endpoints: \
         [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: $back}}}}}}}}]}}]}}}}\n",
        chain("a.test", "a"),
        chain("b.test", "b"),
        chain("fixed.test", "fixed"),
        manager("front", "route: {cluster: back}"),
    )
}

#[test]
fn tls_to_a_host_goes_by_the_name_that_the_request_is_for() {
    let authority = Authority::new("test");
    for protocol in ["auto_config: {}", "explicit_http_config: {http_protocol_options: {}}"] {
        let setup = Setup::new(&by_request("auto_sni: true, auto_san_validation: true", protocol));
        authority.write(setup.dir.path(), "server", &["DNS:a.test", "DNS:fixed.test"]);
        let running = setup.start();
        let ask = |host: &str| {
            let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let response = crate::support::ask(&mut running.client(), &request);
            crate::support::answer(&response)
        };
        assert_eq!(ask("a.test"), (200, "a".to_owned()), "{protocol}");
        assert_eq!(ask("A.test:8443"), (200, "a".to_owned()), "{protocol}");
        // Its filter chain is there, but the certificate does not have the name.
        assert_eq!(ask("b.test").0, 503, "{protocol}");
        // What was agreed for one name does not serve another.
        assert_eq!(ask("a.test"), (200, "a".to_owned()), "{protocol}");
        assert_eq!(running.stat("cluster.back.ssl.fail_verify_san"), 1, "{protocol}");
    }
}

/// envoy#21235: a session that was made while a client was trusted must not open the door when the trust has changed on
/// disk; neither by its ticket nor by its number.
#[test]
fn envoy_21235_sessions_end_with_the_trust_they_rest_on() {
    for switches in ["", ", disable_stateless_session_resumption: true"] {
        let origin = origin(vec![]);
        let context = format!(
            "require_client_certificate: true{switches}\n          common_tls_context: {{{CERTIFICATE}, \
             validation_context: {{trusted_ca: {{filename: $dir/trusted.crt}}}}}}"
        )
        .replace(", disable", "\n          disable");
        let authority = Authority::new("test");
        let setup = Setup::new(&https(&origin, &context, ""));
        fs::write(setup.path("trusted.crt"), authority.pem()).unwrap();
        authority.write(setup.dir.path(), "server", &["DNS:server.test"]);
        authority.write(setup.dir.path(), "client", &["DNS:client.test"]);
        let running = setup.start();
        let client = ["-tls1_2", "-cert", "client.crt", "-key", "client.key"];
        let connect = |more: &[&str]| openssl(&running, &[&client[..], more].concat());
        assert!(connect(&["-sess_out", "session.pem"]).contains("New, TLSv1.2"), "{switches}");
        let again = connect(&["-sess_in", "session.pem"]);
        assert!(again.contains("Reused, TLSv1.2"), "{switches}: {again}");
        replace(running.setup.dir.path(), "trusted.crt", Authority::new("another").pem());
        await_stat(&running, "listener.127.0.0.1_$front.server_ssl_socket_factory.ssl_context_update_by_sds");
        let after = connect(&["-sess_in", "session.pem"]);
        assert!(!after.contains("Reused"), "{switches}: {after}");
        await_stat(&running, "listener.127.0.0.1_$front.ssl.fail_verify_error");
        assert_eq!(stat(&running, "listener.127.0.0.1_$front.ssl.session_reused"), 1, "{switches}");
    }
}
