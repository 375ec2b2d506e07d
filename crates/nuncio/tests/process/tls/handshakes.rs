//! Many handshakes at once, and many that stop half-way: connections that are there already are served meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout};

use nuncio_testkit::PATIENCE;

use super::*;
use crate::support::get;

/// An established connection of another program.
struct Established {
    program: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Established {
    fn new(address: SocketAddr) -> Self {
        let mut program = Command::new("openssl")
            .args(["s_client", "-quiet", "-servername", "server.test", "-connect", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let (to, from) = (program.stdin.take().unwrap(), BufReader::new(program.stdout.take().unwrap()));
        Self { program, to, from }
    }

    /// Asks once; the connection stays.
    fn is_served(&mut self) {
        self.to.write_all(b"GET / HTTP/1.1\r\nhost: server.test\r\n\r\n").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 200 OK\r\n");
        while line != "\r\n" {
            line.clear();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0);
        }
        let mut body = [0; 2];
        self.from.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"ok");
    }
}

impl Drop for Established {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// The first flight of a client.
fn hello() -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = Established::new(listener.local_addr().unwrap());
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut hello = vec![0; 5];
    stream.read_exact(&mut hello).unwrap();
    let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
    hello.resize(5 + length, 0);
    stream.read_exact(&mut hello[5..]).unwrap();
    hello
}

/// A second listener, `plain`, each of whose requests is a full handshake with the first.
fn with_flood(config: &str) -> String {
    const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let manager =
        crate::support::Http { routes: "[{match: {prefix: /}, route: {cluster: again}}]", ..Default::default() };
    let listener = format!(
        "  - {{name: plain, address: {{socket_address: {{address: 127.0.0.1, port_value: $plain}}}}, filter_chains: \
         [{{filters: [{}]}}]}}\n  clusters:\n",
        manager.connection_manager()
    );
    let cluster = format!(
        "  - {{name: again, transport_socket: {{name: tls, typed_config: {{'@type': {TLS}.UpstreamTlsContext, sni: \
         server.test, max_session_keys: 0}}}}, typed_extension_protocol_options: {{{OPTIONS}: {{'@type': \
         type.googleapis.com/{OPTIONS}, common_http_protocol_options: {{max_requests_per_connection: 1}}, \
         explicit_http_config: {{http_protocol_options: {{}}}}}}}}, load_assignment: {{cluster_name: again, endpoints: \
         [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: $front}}}}}}}}]}}]}}}}\n"
    );
    config.replace("  clusters:\n", &listener) + &cluster
}

#[test]
fn a_flood_of_handshakes() {
    let origin = origin(vec![]);
    let context = format!("common_tls_context: {{{CERTIFICATE}}}");
    let running = start(&with_flood(&https(&origin, &context, "")), &Authority::new("test"));
    let address = running.setup.address("front");
    let mut established: Vec<_> = (0..5).map(|_| Established::new(address)).collect();
    let mut serve = || established.iter_mut().for_each(Established::is_served);
    serve();
    let mut flood = running.client_of("plain");
    assert_eq!(get(&mut flood, "/").status(), 200);
    let before = running.proxy.resident_bytes().unwrap();
    // Of each second client a part of its hello comes, of the others all of it; none takes the answer up.
    let hello = hello();
    let mut halves = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(address).unwrap();
        let part = if number % 2 == 0 { hello.len() } else { hello.len() / 2 };
        stream.write_all(&hello[..part]).unwrap();
        halves.push(stream);
    }
    serve();
    for number in 1..500 {
        assert_eq!(get(&mut flood, "/").status(), 200);
        if number % 50 == 0 {
            serve();
        }
    }
    let grown = running.proxy.resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < 200 * 64 * 1024 + (8 << 20), "memory grew by {} KiB", grown / 1024);
    assert_eq!(stat(&running, "listener.127.0.0.1_$front.ssl.handshake"), 505);
    drop(halves);
    serve();
}
